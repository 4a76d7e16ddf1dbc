"""States of a cluster, as `torchx status` reads them: built here, or recorded from a real one.

`python -m tests.launch.kubernetes.situations NAMESPACE JOB > tests/launch/kubernetes/recorded/NAME.json` records.
"""

import copy
import json
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from torchx.schedulers.api import DescribeAppResponse

from hardviews.launch.kubernetes import surroundings
from hardviews.launch.kubernetes.cluster import GROUPS, JOBS, QUEUES, ApiRefused, Cluster, Silent
from hardviews.launch.kubernetes.scheduler import ElasticKubernetesScheduler
from tests.launch.kubernetes.clusters import refusal
from tests.launch.kubernetes.jobs import job as application
from tests.launch.kubernetes.jobs import manifest

RECORDED = Path(__file__).parent / "recorded"
NOW = datetime(2026, 11, 22, 15, 0, 0, tzinfo=UTC)
IMAGE = "registry/hardviews:1"
_DROPPED = {"managedFields", "resourceVersion", "generation", "annotations", "ownerReferences", "tolerations", "env"}
_DROPPED |= {"securityContext", "volumeMounts", "imageID", "nodeInfo", "podIPs", "hostIPs", "podCIDRs", "addresses"}
_DROPPED |= {"qosClass", "serviceAccount", "dnsPolicy", "source", "reportingComponent", "reportingInstance", "plugins"}


def ago(seconds: float) -> str:
    """A time of the API so long before the look."""
    return (NOW - timedelta(seconds=seconds)).strftime("%Y-%m-%dT%H:%M:%SZ")


class Situation(Cluster):
    """One job, and all that is around it."""

    def __init__(self, phase: str | None = "Running", name: str = "pretrain-x", **job: Any) -> None:
        super().__init__(api=object(), namespace="n")
        made = manifest(application(image=IMAGE, **job))
        made["metadata"] |= {"name": name, "uid": "u", "namespace": "n", "creationTimestamp": ago(600)}
        if phase is not None:
            made["status"] = {"state": {"phase": phase}}
        self.now = NOW
        self.job = made
        self.pods: list[dict[str, Any]] = []
        self.events: list[dict[str, Any]] = []
        self.nodes: dict[str, dict[str, Any]] = {}
        self.queue: dict[str, Any] | None = {"metadata": {"name": "default"}, "spec": {}, "status": {"state": "Open"}}
        self.group: dict[str, Any] | None = None
        self.logs: dict[str, str | Exception] = {}
        self.forbidden: set[str] = set()  # kinds of objects, as a role names them

    # Objects of the cluster

    def pod(self, name: str, phase: str = "Running", node: str | None = "node-a", **state: Any) -> dict[str, Any]:
        """Add a pod made of its task's template.

        Args:
            name: coordinator-0-0 or trainer-1.
            phase: of the pod.
            node: that it was given; None if none.
            state: `waiting`, `running` or `terminated`; `last`, `restarts`; `reason` and `message` of the pod;
                `conditions`, a dictionary from type to status, reason and message; `leaving`; `init`.
        """
        if node and node not in self.nodes:
            self.node(node)
        task = next(t for t in self.job["spec"]["tasks"] if name.startswith(t["name"]))
        made: dict[str, Any] = copy.deepcopy(task["template"])
        full = f"{self.job['metadata']['name']}-{name}"
        made["metadata"] |= {"name": full, "namespace": "n", "uid": f"uid-{name}", "creationTimestamp": ago(300)}
        made["metadata"]["labels"]["volcano.sh/job-name"] = self.job["metadata"]["name"]
        if state.pop("leaving", False):
            made["metadata"]["deletionTimestamp"] = ago(10)
        if node:
            made["spec"]["nodeName"] = node
        conditions = {"PodScheduled": {"status": "True" if node else "False"}} | state.pop("conditions", {})
        status: dict[str, Any] = {
            "phase": phase,
            "conditions": [{"type": k, "lastTransitionTime": ago(120)} | v for k, v in conditions.items()],
        }
        status |= {key: state.pop(key) for key in ("reason", "message") if key in state}
        if "init" in state:
            status["initContainerStatuses"] = [state.pop("init")]
        if phase == "Running" and not state:
            state = {"running": {"startedAt": ago(200)}}
        if state:
            container = {"name": task["name"], "image": IMAGE, "restartCount": state.pop("restarts", 0)}
            container["lastState"] = {"terminated": state.pop("last")} if "last" in state else {}
            status["containerStatuses"] = [container | {"state": state, "containerID": "containerd://c"}]
        made["status"] = status
        self.pods.append(made)
        return made

    def unplaced(self, name: str, why: str = "") -> dict[str, Any]:
        """Add a pod without a node, with the scheduler's message."""
        scheduled = {"status": "False", "reason": "Unschedulable", "message": why}
        return self.pod(name, "Pending", None, conditions={"PodScheduled": scheduled})

    def node(self, name: str, cpu: str = "2", not_ready: str = "", **changes: Any) -> dict[str, Any]:
        """Add a node; `not_ready` is the time since when it does not answer."""
        ready = {
            "type": "Ready",
            "status": "Unknown" if not_ready else "True",
            "lastTransitionTime": not_ready or ago(9),
        }
        made = {
            "metadata": {"name": name},
            "spec": {},
            "status": {"allocatable": {"cpu": cpu, "memory": "24376896Ki"}, "conditions": [ready]},
        } | changes
        self.nodes[name] = made
        return made

    def event(self, about: str, reason: str, message: str, seconds: float = 5, kind: str = "Warning") -> None:
        """Add an event about a pod (trainer-0), the job ("") or its pod group ("u")."""
        full = f"{self.job['metadata']['name']}-{about}" if about else self.job["metadata"]["name"]
        involved = {"name": full, "namespace": "n"}
        involved |= {"uid": f"uid-{about}"} if any(p["metadata"]["name"] == full for p in self.pods) else {}
        self.events.append(
            {
                "type": kind,
                "reason": reason,
                "message": message,
                "lastTimestamp": ago(seconds),
                "involvedObject": involved,
            }
        )

    def log(self, pod: str, *lines: tuple[float, str]) -> None:
        """Give a pod a log: seconds before the look, and the line."""
        written = "".join(f"{ago(seconds)[:-1]}.5Z {line}\n" for seconds, line in lines)
        self.logs[f"{self.job['metadata']['name']}-{pod}"] = written

    def silent(self, pod: str) -> None:
        """Let the node of a pod not answer when its log is read."""
        self.logs[f"{self.job['metadata']['name']}-{pod}"] = Silent("The cluster does not answer (Read timed out.).")

    # Reading

    def get(self, path: str, **query: str) -> dict[str, Any]:
        kind = next((k for k in ("events", "nodes", "queues", "podgroups") if f"/{k}" in path), "")
        if kind in self.forbidden:
            raise refusal(403, f"{kind} is forbidden")
        name = self.job["metadata"]["name"]
        found: Any = None
        if path == f"{JOBS}/namespaces/n/jobs/{name}":
            found = self.job
        elif path == "/api/v1/namespaces/n/pods":
            assert query == {"labelSelector": f"volcano.sh/job-name={name}"}
            found = {"items": self.pods}
        elif path == "/api/v1/namespaces/n/events":
            field, _, value = query["fieldSelector"].partition("=")
            look = {"involvedObject.name": lambda e: e["involvedObject"]["name"], "reason": lambda e: e["reason"]}[
                field
            ]
            found = {"items": [event for event in self.events if look(event) == value]}
        elif path == "/api/v1/nodes":
            found = {"items": list(self.nodes.values())}
        elif path.startswith("/api/v1/nodes/"):
            found = self.nodes.get(path.rpartition("/")[2])
        elif path.startswith(f"{QUEUES}/"):
            found = self.queue
        elif path.startswith(f"{GROUPS}/n/podgroups/"):
            found = self.group
        if found is None:
            raise refusal(404, f"{path} not found")
        return dict(found)

    def text(self, path: str, **query: str) -> bytes:
        if "pods/log" in self.forbidden:
            raise refusal(403, "pods/log is forbidden")
        found = self.logs.get(path.split("/")[-2], refusal(400, "container is waiting to start"))
        if isinstance(found, Exception):
            raise found
        return found.encode()

    # Messages

    def describe(self) -> DescribeAppResponse:
        """The answer to TorchX about the job."""
        scheduler = ElasticKubernetesScheduler("test")
        scheduler._cluster = self
        before = surroundings.now
        surroundings.now = lambda: self.now
        try:
            answer = scheduler.describe(f"n:{self.job['metadata']['name']}")
        finally:
            surroundings.now = before
        assert answer is not None
        return answer

    @property
    def message(self) -> str:
        return str(self.describe().msg)

    @classmethod
    def recorded(cls, name: str) -> "Situation":
        """Read a state that was recorded from a real cluster."""
        said = json.loads((RECORDED / f"{name}.json").read_text())
        made = cls()
        made.now = datetime.fromisoformat(said["now"])
        made.job, made.pods, made.events = said["job"], said["pods"], said["events"]
        made.nodes = {node["metadata"]["name"]: node for node in said["nodes"]}
        made.queue, made.group, made.logs = said["queue"], said["group"], dict(said["logs"])
        return made


def record(cluster: Cluster, namespace: str, name: str) -> dict[str, Any]:
    """Read everything around a job, in the shape of `Situation.recorded`."""
    home = f"/api/v1/namespaces/{namespace}"
    job = cluster.get(f"{JOBS}/namespaces/{namespace}/jobs/{name}")
    pods = cluster.get(f"{home}/pods", labelSelector=f"volcano.sh/job-name={name}")["items"]
    events = cluster.get(f"{home}/events")["items"]
    nodes = cluster.get("/api/v1/nodes")["items"]
    for node in nodes:
        node["status"].pop("images", None)
    logs = {}
    for pod in pods:
        try:
            written = cluster.text(f"{home}/pods/{pod['metadata']['name']}/log", tailLines="40", timestamps="true")
            logs[pod["metadata"]["name"]] = written.decode()
        except (ApiRefused, Silent):
            continue
    group = cluster.find(f"{GROUPS}/{namespace}/podgroups/{name}-{job['metadata']['uid']}")
    said = {
        "now": datetime.now(UTC).isoformat(),
        "job": job,
        "pods": pods,
        "events": [
            event
            for event in events
            if event["involvedObject"]["name"].startswith(name)
            and event["lastTimestamp"] >= job["metadata"]["creationTimestamp"]
        ],
        "nodes": nodes,
        "queue": cluster.find(f"{QUEUES}/{job['spec']['queue']}"),
        "group": group,
        "logs": logs,
    }
    # One namespace for all of the recorded states.
    text = json.dumps(_lean(said)).replace(f'"namespace": "{namespace}"', '"namespace": "n"')
    return dict(json.loads(text))


def _lean(said: Any) -> Any:
    """Without fields that nobody reads."""
    if isinstance(said, dict):
        return {key: _lean(value) for key, value in said.items() if key not in _DROPPED}
    return [_lean(value) for value in said] if isinstance(said, list) else said


def written(said: dict[str, Any]) -> str:
    """A recorded state as JSON, one line an object."""
    parts = []
    for key, value in said.items():
        items = [json.dumps(item) for item in value] if isinstance(value, list) and value else None
        text = "[\n" + ",\n".join(items) + "\n]" if items else json.dumps(value)
        parts.append(f"{json.dumps(key)}: {text}")
    return "{\n" + ",\n".join(parts) + "\n}\n"


if __name__ == "__main__":
    sys.stdout.write(written(record(Cluster(), *sys.argv[1:])))
