"""The coordinator's metrics, read as Prometheus reads them, against a membership that is driven by hand."""

import http.client
import re
from pathlib import Path

import pytest
from prometheus_client import REGISTRY
from prometheus_client.openmetrics.parser import text_string_to_metric_families as read_openmetrics
from prometheus_client.parser import text_string_to_metric_families as read_text

from hardviews.elastic.membership import Membership
from hardviews.elastic.messages import AgentState, Bounds, Failure, JobView, Member, Pulse, Round, Verdict
from hardviews.elastic.metrics import Figures, exposition
from tests.elastic.elastic import Job
from tests.elastic.test_coordinator import Serving

OPENMETRICS = "application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5"


def values(text: str, read=read_text) -> dict[str, float]:
    """Samples by name, and by state if they have one."""
    samples = [sample for family in read(text) for sample in family.samples]
    return {"/".join([s.name, *(v for k, v in s.labels.items() if k == "state")]): s.value for s in samples}


def figures(view: JobView, **changes) -> dict[str, float]:
    made = Figures(**({"job": "j", "view": view, "steps_per_second": None, "idle": None, "batch": None} | changes))
    return values(exposition(made, "")[0].decode())


class Hand:
    """A membership of nodes with two processes each, whose news are written by hand."""

    def __init__(self) -> None:
        self.now = 0.0
        self.membership = Membership("c", self.now)

    def hear(self, agent: str, state: AgentState, **changes) -> JobView:
        member = Member(agent, f"node of {agent}", "10.0.0.1", 1, 2)
        bounds = Bounds(1, 3, gather=0)
        return self.membership.hear(Pulse("j", "c", member, bounds, state, **changes), self.now)

    def metrics(self) -> dict[str, float]:
        return figures(self.membership.view(self.now))


def test_values_follow_a_job_from_its_start_over_a_loss_to_its_end():
    hand = Hand()
    assert hand.metrics() == {
        "hardviews_job_info": 1,
        "hardviews_nodes/training": 0,
        "hardviews_nodes/waiting": 0,
        "hardviews_nodes_min": 1,
        "hardviews_nodes_max": 1,
        "hardviews_processes": 0,
        "hardviews_round": 0,
        "hardviews_restarts_total": 0,
        "hardviews_stuck": 0,
    }
    for agent in "ab":
        hand.hear(agent, AgentState.WAITING)
    found = hand.metrics()
    assert (found["hardviews_nodes/waiting"], found["hardviews_nodes/training"]) == (2, 0)
    assert (found["hardviews_nodes_min"], found["hardviews_nodes_max"]) == (1, 3)

    hand.now += 1
    for agent in "ab":
        view = hand.hear(agent, AgentState.WAITING)
    for agent in "ab":
        hand.hear(agent, AgentState.RUNNING, round=view.round, stepped=True, reached=7)
    hand.hear("late", AgentState.WAITING)
    found = hand.metrics()
    assert (found["hardviews_nodes/waiting"], found["hardviews_nodes/training"]) == (1, 2)
    assert found["hardviews_processes"] == 4
    assert (found["hardviews_round"], found["hardviews_restarts_total"], found["hardviews_step"]) == (1, 0, 7)

    failed = {"round": view.round, "stepped": True, "failure": Failure(0, "why")}
    hand.hear("a", AgentState.RUNNING, **failed)
    found = hand.metrics()
    assert (found["hardviews_nodes/training"], found["hardviews_processes"]) == (0, 0)
    for agent in "ab":
        hand.hear(agent, AgentState.WAITING, **failed)
    hand.now += 1
    for agent in ("a", "b", "late"):
        view = hand.hear(agent, AgentState.WAITING, **({} if agent == "late" else failed))
    found = hand.metrics()
    assert (found["hardviews_round"], found["hardviews_restarts_total"]) == (2, 1)
    assert (found["hardviews_nodes/training"], found["hardviews_processes"], found["hardviews_step"]) == (3, 6, 7)

    hand.hear("a", AgentState.DONE, round=view.round, finished=True)
    assert hand.metrics()["hardviews_nodes/training"] == 0


def test_speed_and_idleness_are_there_once_they_are_known():
    view = JobView(reached=10, stuck=True)
    names = ("hardviews_steps_per_second", "hardviews_samples_per_second", "hardviews_seconds_since_step")
    assert not {*names} & {*figures(view)}
    found = figures(view, steps_per_second=2.5, idle=3.0)
    assert (found[names[0]], found[names[2]], found["hardviews_stuck"]) == (2.5, 3.0, 1)
    assert names[1] not in found
    assert figures(view, steps_per_second=2.5, idle=3.0, batch=100)[names[1]] == 250


def test_the_docs_name_every_metric_and_no_other():
    page = (Path(__file__).parents[2] / "docs" / "cluster.md").read_text()
    section = page.partition("## Metrics of the coordinator")[2].partition("\n## ")[0]
    found = figures(JobView(reached=1), steps_per_second=1.0, idle=1.0, batch=1)
    assert {*re.findall(r"hardviews_[a-z_]+", section)} == {name.partition("/")[0] for name in found}


@pytest.mark.parametrize(
    ("accept", "content", "read"),
    [
        ("", "text/plain", read_text),
        ("text/plain;version=0.0.4", "text/plain", read_text),
        (OPENMETRICS, "application/openmetrics-text", read_openmetrics),
        ("application/openmetrics-text; version=new", "text/plain", read_text),
    ],
)
def test_the_reader_gets_a_format_that_it_reads(accept, content, read):
    made = Figures('odd "name"\n', JobView(round=Round(3, ()), reached=4), 1.0, 2.0, 8)
    text, kind = exposition(made, accept)
    assert kind.startswith(content)
    families = {family.name: family for family in read(text.decode())}
    (sample,) = families["hardviews_job_info" if read is read_text else "hardviews_job"].samples
    assert sample.labels == {"name": 'odd "name"\n'}
    assert values(text.decode(), read)["hardviews_restarts_total"] == 2
    assert all(family.documentation.endswith(".") for family in families.values())


def test_nothing_is_added_to_the_registry_of_the_process():
    before = {family.name for family in REGISTRY.collect()}
    exposition(Figures("j", JobView(), None, None, None), "")
    assert {family.name for family in REGISTRY.collect()} == before


def get(port: int, path: str = "/metrics") -> tuple[int, str, str]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", path)
        response = connection.getresponse()
        return response.status, response.headers["Content-Type"], response.read().decode()
    finally:
        connection.close()


def test_a_coordinator_answers_by_its_port():
    coordinator = Serving()
    view = coordinator.pulse("a", AgentState.WAITING, bounds=Bounds(1, 1, gather=0))
    coordinator.pulse("a", AgentState.RUNNING, round=view.round, stepped=True, reached=12, batch=64)
    status, content, text = get(coordinator.port)
    assert (status, content) == (200, "text/plain; version=0.0.4; charset=utf-8")
    found = values(text)
    assert (found["hardviews_step"], found["hardviews_nodes/training"]) == (12, 1)
    assert found["hardviews_samples_per_second"] == 0  # of the first step nobody knows how long it took
    assert get(coordinator.port, "/metrics?name=x")[0] == 200
    assert get(coordinator.port, "/metric")[0] == 404
    coordinator.pulse("a", AgentState.GONE, failed=Verdict("end"))


def test_a_running_job_is_measured(tmp_path: Path):
    job = Job(tmp_path, nodes=2)
    try:
        job.until_stepping(2)
        port = int(job.place.rpartition(":")[2])
        found: dict[str, float] = {}

        def faster() -> bool:
            found.update(values(get(port)[2]))
            # A step of the toy takes 20 ms and more. Early news that come late make the mean too high for a while.
            return 0 < found.get("hardviews_steps_per_second", 0) <= 50

        job.until(faster)
        assert found["hardviews_samples_per_second"] == pytest.approx(10 * found["hardviews_steps_per_second"])
        assert (found["hardviews_nodes/training"], found["hardviews_processes"]) == (2, 2)
        assert 0 < found["hardviews_step"] <= job.step()["step"]
        assert found["hardviews_seconds_since_step"] < 30
        assert found["hardviews_restarts_total"] == 0
        job.kill_node("n1")
        job.until_stepping(1)
        job.until(lambda: faster() and found["hardviews_nodes/training"] == 1)
        assert (found["hardviews_restarts_total"], found["hardviews_round"]) == (1, 2)
    finally:
        job.close()
