"""docs/rbac.yaml holds the rights that our commands use, all of them and no others."""

import re
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

from hardviews.launch.kubernetes.cluster import JOBS
from hardviews.launch.kubernetes.scheduler import ElasticKubernetesScheduler
from tests.launch.kubernetes.clusters import refusal
from tests.launch.kubernetes.jobs import CFG, job
from tests.launch.kubernetes.situations import Situation
from tests.launch.kubernetes.test_situations import lost_node, training, waiting

ROLES = Path(__file__).parents[3] / "docs" / "rbac.yaml"
Right = tuple[str, str, str, bool]
"""API group, resource, verb, and whether it is one of a namespace."""


def right(method: str, path: str) -> Right | None:
    """The right that a request needs; None for requests that everybody may make."""
    match = re.fullmatch(r"/api/v1(?P<core>)(?P<rest>/.*)|/apis/(?P<group>[^/]+)/[^/]+(?P<rest2>/.*)?", path)
    assert match, path
    rest = match["rest"] or match["rest2"]
    if not rest:
        return None  # which kinds a group has
    parts = rest.strip("/").split("/")
    within = parts[0] == "namespaces" and len(parts) > 2
    parts = parts[2:] if within else parts
    verbs = {"GET": "get" if len(parts) > 1 else "list", "POST": "create", "DELETE": "delete"}
    return match["group"] or "", parts[0] + (f"/{parts[2]}" if len(parts) > 2 else ""), verbs[method], within


class Noting(Situation):
    """Notes the rights that requests need, and answers them like another situation."""

    def __init__(self, other: Situation) -> None:
        super().__init__()
        self.__dict__ |= other.__dict__
        self.rights: set[Right] = set()

    def _note(self, method: str, path: str) -> None:
        if needed := right(method, path):
            self.rights.add(needed)

    def get(self, path: str, **query: str) -> dict[str, Any]:
        self._note("GET", path)
        if path in ("/api/v1/namespaces/n", JOBS) or path.endswith("/jobs"):
            return {"items": []}
        if path.endswith("/persistentvolumeclaims/claim"):
            return {"spec": {"storageClassName": "fast"}, "status": {"phase": "Pending"}}
        if path.endswith("/pods/pretrain-x-trainer-0"):
            return self.pods[1]
        return super().get(path, **query)

    def text(self, path: str, **query: str) -> bytes:
        self._note("GET", path)
        return super().text(path, **query)

    @contextmanager
    def stream(self, path: str, **query: str):
        self._note("GET", path)
        raise refusal(400, "no log")
        yield

    def create(self, path: str, body: Any, **query: str) -> dict[str, Any]:
        self._note("POST", path)
        return {"metadata": {"name": "x"}}

    def delete(self, path: str, **query: str) -> None:
        self._note("DELETE", path)


def used(situation: Situation) -> set[Right]:
    """The rights that every command needs on a job that is in a situation."""
    cluster = Noting(situation)
    scheduler = ElasticKubernetesScheduler("test")
    scheduler._cluster = cluster
    cfg = CFG | {"namespace": "n", "service_account": "s", "image_pull_secrets": ["p"]}
    app = job(secret=["s3"], priority="high", mount=["type=volume", "src=claim", "dst=/d"])
    cluster.queue = None  # asked for by name, then all
    scheduler.examine(app, cfg, online=True)
    scheduler.examine(job(), CFG | {"namespace": "n"}, online=True)
    cluster.queue = {"metadata": {"name": "default"}, "status": {"state": "Open"}}
    scheduler.examine(job(), CFG | {"namespace": "n"}, online=True)  # nothing is missing: a rehearsal
    scheduler.schedule(scheduler.submit_dryrun(app, cfg))
    scheduler.describe("n:pretrain-x")
    scheduler.list()
    list(scheduler.log_iter("n:pretrain-x", "trainer", 0))
    scheduler._cancel_existing("n:pretrain-x")
    scheduler.delete("n:pretrain-x")
    return cluster.rights


def granted() -> set[Right]:
    found = set()
    for document in yaml.safe_load_all(ROLES.read_text()):
        for rule in document.get("rules", []):
            found |= {
                (group, resource, verb, document["kind"] == "Role")
                for group in rule["apiGroups"]
                for resource in rule["resources"]
                for verb in rule["verbs"]
            }
    return found


def test_the_roles_hold_what_our_commands_use_and_nothing_else():
    needed = used(training()) | used(waiting()) | used(lost_node())
    assert needed == granted()


@pytest.mark.parametrize("kind", ["events", "nodes", "queues", "podgroups", "pods/log"])
def test_a_right_that_is_missing_leaves_a_status(kind):
    for made in (training(), waiting(), lost_node()):
        made.forbidden = {kind}
        assert made.describe().state.name in ("RUNNING", "PENDING")


def test_roles_are_bound_to_the_same_person():
    documents = {document["kind"]: document for document in yaml.safe_load_all(ROLES.read_text())}
    for kind in ("Role", "ClusterRole"):
        binding = documents[f"{kind}Binding"]
        assert binding["roleRef"] == {
            "apiGroup": "rbac.authorization.k8s.io",
            "kind": kind,
            "name": documents[kind]["metadata"]["name"],
        }
        assert [subject["name"] for subject in binding["subjects"]] == ["PERSON"]
