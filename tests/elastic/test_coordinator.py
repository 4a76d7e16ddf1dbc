"""The coordinator over real HTTP: its answers, its refusals, and its end."""

import http.client
import json
import socket
import subprocess
import sys
import threading
import time

import pytest

from hardviews.elastic import coordinator as module
from hardviews.elastic.address import reserve
from hardviews.elastic.coordinator import Coordinator, CoordinatorConfig, main
from hardviews.elastic.messages import LONGEST, AgentState, Bounds, Failure, JobView, Member, Pulse, Round, Verdict


class Serving:
    """A coordinator in a thread of this process."""

    def __init__(self, port: int = 0, **changes) -> None:
        self.server = Coordinator(CoordinatorConfig("127.0.0.1", port, shared=True, interval=0.01, **changes))
        self.port = self.server.server_address[1]
        self.connections: dict[str, http.client.HTTPConnection] = {}
        self.outcome: list[str | None] = []
        self.thread = threading.Thread(target=self._serve, daemon=True)
        self.thread.start()

    def _serve(self) -> None:
        self.outcome.append(self.server.serve_until_over())

    def request(self, method: str, path: str, body: bytes = b"", **headers: str) -> tuple[int, dict]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=5)
        try:
            connection.request(method, path, body, headers)
            response = connection.getresponse()
            return response.status, json.loads(response.read())
        finally:
            connection.close()

    def pulse(self, agent: str, state: AgentState, **changes) -> JobView:
        """As an agent does: by a connection that stays open."""
        if agent not in self.connections:
            self.connections[agent] = http.client.HTTPConnection("127.0.0.1", self.port, timeout=5)
        self.connections[agent].request("POST", "/pulse", pulse(agent, state, **changes).to_json())
        response = self.connections[agent].getresponse()
        body = response.read()
        assert response.status == 200, body
        return JobView.from_json(body)

    def result(self, seconds: float = 5) -> str | None:
        self.thread.join(seconds)
        assert self.outcome, "the coordinator still runs"
        return self.outcome[0]


def pulse(agent: str, state: AgentState, **changes) -> Pulse:
    bounds = Bounds(1, 2, gather=0)
    return Pulse(**{"job": "j", "command": "c", "member": member(agent), "bounds": bounds, "state": state} | changes)


def member(agent: str) -> Member:
    return Member(agent, f"node of {agent}", "127.0.0.1", 4000, 1)


def test_messages_survive_the_wire():
    told = pulse(
        "a",
        AgentState.RUNNING,
        round=Round(3, (member("a"), member("b"))),
        reached=7,
        failure=Failure(1, "why", peer=True),
        failed=Verdict("why", user=True),
        limit=2,
        overdue=True,
        written=True,
        batch=64,
    )
    assert Pulse.from_json(told.to_json()) == told
    view = JobView("x", Round(3, (member("a"),)), True, ("b",), 1, 2, 7, False, Verdict("why"), Bounds(1, 2), 2, True)
    assert JobView.from_json(view.to_json()) == view


def test_two_that_wait_get_a_round_together():
    coordinator = Serving()
    coordinator.pulse("a", AgentState.WAITING)
    view = coordinator.pulse("b", AgentState.WAITING)
    assert view.round is not None
    assert [m.agent for m in view.round.members] == ["a", "b"]
    coordinator.pulse("a", AgentState.GONE, failed=Verdict("end of the test"))


def test_done_waits_for_the_agents_to_hear_of_it():
    coordinator = Serving()
    for agent in "ab":
        coordinator.pulse(agent, AgentState.WAITING)
    round = coordinator.pulse("a", AgentState.WAITING).round
    assert coordinator.pulse("a", AgentState.DONE, round=round, finished=True).finished
    assert coordinator.pulse("b", AgentState.RUNNING, round=round).finished
    coordinator.pulse("a", AgentState.GONE, round=round, finished=True)
    time.sleep(0.3)
    assert coordinator.thread.is_alive()
    coordinator.pulse("b", AgentState.GONE, round=round)
    assert coordinator.result() is None


def test_it_stays_while_the_processes_of_its_agents_end():
    coordinator = Serving(settle=1.0)
    coordinator.pulse("a", AgentState.WAITING)
    round = coordinator.pulse("a", AgentState.WAITING).round
    coordinator.pulse("a", AgentState.DONE, round=round, finished=True)
    began = time.monotonic()
    coordinator.pulse("a", AgentState.GONE, round=round, finished=True)
    assert coordinator.result() is None
    assert time.monotonic() - began >= 1.0


def test_a_new_coordinator_learns_that_the_job_is_finished():
    coordinator = Serving()
    round = Round(4, (member("a"), member("b")))
    coordinator.pulse("a", AgentState.DONE, round=round, finished=True)
    coordinator.pulse("a", AgentState.GONE, round=round, finished=True)
    assert coordinator.result(15) is None  # b is not heard of, and counts as dead soon


def test_a_new_coordinator_that_finds_the_job_finished_waits_to_be_found():
    began = time.monotonic()
    coordinator = Serving(search=1.5)
    round = Round(4, (member("a"),))
    coordinator.pulse("a", AgentState.DONE, round=round, finished=True)
    coordinator.pulse("a", AgentState.GONE, round=round, finished=True)
    time.sleep(0.5)
    assert coordinator.pulse("late", AgentState.PREPARING).finished
    coordinator.pulse("late", AgentState.GONE)
    assert coordinator.result() is None
    assert time.monotonic() - began >= 1.5


def test_a_failure_is_passed_on():
    coordinator = Serving()
    coordinator.pulse("b", AgentState.WAITING)
    coordinator.pulse("a", AgentState.WAITING, failed=Verdict("no disk", user=True))
    assert coordinator.pulse("b", AgentState.WAITING).failed == Verdict("no disk", user=True)
    for agent in "ab":
        coordinator.pulse(agent, AgentState.GONE)
    assert coordinator.result() == "no disk"


def test_a_job_whose_agents_are_all_dead_ends_where_nobody_restarts_them():
    coordinator = Serving(alone=0.5)
    for _ in range(10):
        coordinator.pulse("a", AgentState.WAITING)
        time.sleep(0.1)
    assert coordinator.thread.is_alive()
    assert "no trainer" in str(coordinator.result())


def test_nodes_of_another_job_are_refused():
    coordinator = Serving()
    coordinator.pulse("a", AgentState.WAITING)
    for other in ({"job": "k"}, {"command": "d"}):
        status, said = coordinator.request("POST", "/pulse", pulse("b", AgentState.WAITING, **other).to_json())
        assert status == 409
        assert "the job j" in said["refused"]
    coordinator.pulse("a", AgentState.GONE, failed=Verdict("end of the test"))


@pytest.mark.parametrize(
    ("method", "path", "body", "headers", "status"),
    [
        ("GET", "/pulse", b"", {}, 404),
        ("POST", "/other", b"{}", {}, 404),
        ("POST", "/pulse", b"not json", {}, 400),
        ("POST", "/pulse", b"[]", {}, 400),
        ("POST", "/pulse", b'{"job": 1}', {}, 400),
        ("POST", "/pulse", b"[" * 100_000, {}, 400),
        ("POST", "/pulse", b"", {"Content-Length": str(LONGEST + 1)}, 413),
        ("POST", "/pulse", b"", {"Content-Length": "-1"}, 413),
        ("POST", "/pulse", b"", {"Content-Length": "many"}, 411),
    ],
)
def test_what_is_no_pulse_is_refused_and_does_no_harm(method, path, body, headers, status):
    coordinator = Serving()
    assert coordinator.request(method, path, body, **headers)[0] == status
    assert coordinator.pulse("a", AgentState.GONE, failed=Verdict("end")).failed


def test_status_returns_the_state_of_the_job():
    coordinator = Serving()
    coordinator.pulse("a", AgentState.WAITING, reached=12)
    status, said = coordinator.request("GET", "/status")
    assert (status, said["job"], said["reached"]) == (200, "j", 12)
    coordinator.pulse("a", AgentState.GONE, failed=Verdict("end"))


def test_a_closed_connection_makes_its_agent_suspect_at_once():
    coordinator = Serving()
    coordinator.pulse("a", AgentState.WAITING)
    coordinator.connections["a"].close()
    time.sleep(0.2)
    assert coordinator.pulse("b", AgentState.WAITING).waiting == 1
    coordinator.pulse("b", AgentState.GONE, failed=Verdict("end"))


def test_exit_code_3_and_the_reason_where_kubernetes_shows_it(tmp_path, monkeypatch, capsys):
    log = tmp_path / "termination-log"
    log.touch()
    monkeypatch.setattr(module, "TERMINATION_LOG", log)
    with reserve("127.0.0.1") as holder:
        port = holder.getsockname()[1]
        monkeypatch.setenv("HARDVIEWS_RENDEZVOUS", f"127.0.0.1:{port}")
        codes: list[int] = []
        thread = threading.Thread(target=lambda: codes.append(main([])), daemon=True)
        thread.start()
        deadline = time.monotonic() + 10
        while True:
            try:
                connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
                connection.request("POST", "/pulse", pulse("a", AgentState.GONE, failed=Verdict("no disk")).to_json())
                connection.getresponse().read()
                break
            except ConnectionRefusedError:
                assert time.monotonic() < deadline
                time.sleep(0.05)
        thread.join(10)
    assert codes == [3]
    assert log.read_text() == "no disk"
    assert capsys.readouterr().err == "the job failed: no disk\n"


def test_a_taken_port_is_one_line(capsys, monkeypatch):
    monkeypatch.delenv("HARDVIEWS_RENDEZVOUS", raising=False)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        assert main(["--port", str(taken.getsockname()[1])]) == 1
    assert "give another --port" in capsys.readouterr().err


def test_it_starts_without_torch_and_without_prometheus():
    code = "import sys, hardviews.elastic.coordinator, hardviews.elastic.agent; print({*sys.modules} & {*sys.argv})"
    words = [sys.executable, "-c", code, "torch", "prometheus_client"]  # the latter is loaded for its first reader
    assert subprocess.run(words, capture_output=True, text=True, timeout=60).stdout == "set()\n"
