"""The lines on whether a job trains: their content, how they are read, and when they are due."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hardviews.elastic.messages import Bounds, JobView, Member, Round, Verdict
from hardviews.elastic.standing import AWAY, Reporter, Standing
from tests.elastic.test_coordinator import AgentState, Serving

ROUND = Round(1, tuple(Member(f"a{i}", f"n{i}", "10.0.0.1", 1, 2) for i in range(2)))


def view(reached: int | None = None, round: Round | None = ROUND, **changes) -> JobView:
    return JobView(round=round, reached=reached, bounds=Bounds(2, 3), **changes)


@given(
    nodes=st.integers(0, 9),
    processes=st.integers(1, 9),
    step=st.none() | st.integers(0, 10**6),
    idle=st.integers(0, 10**5),
    waiting=st.integers(0, 9),
    least=st.integers(1, 9),
    alone=st.booleans(),
)
def test_a_line_is_read_as_it_was_written(nodes, processes, step, idle, waiting, least, alone):
    counts = {} if alone else {"waiting": waiting, "least": least}
    said = Standing(nodes, processes if nodes else 0, step, float(idle), alone=alone, **counts)
    assert Standing.parse(f"{said}\n") == said


def test_other_lines_are_no_lines_about_the_job():
    for line in ("", "standing: x", "rank 0: step 3", "nothing trains"):
        assert Standing.parse(line) is None


def test_lines_are_plain():
    assert str(Standing(2, 4, 165, 0.4, 1, 2)) == (
        "standing: 2 nodes with 4 processes run; 1 waits, 2 needed; step 165, 0 s ago"
    )
    assert str(Standing(0, 0, None, 30, alone=True)) == "standing: nothing trains; no coordinator; no step, 30 s ago"


def test_a_change_is_due_at_once_a_step_after_a_while_and_nothing_new_later():
    reporter = Reporter(0, every=30)
    assert "nothing trains" in reporter.job(view(round=None), 0)
    assert reporter.job(view(round=None), 59) is None
    assert reporter.job(view(round=None), 60)
    assert "2 nodes with 4 processes run" in reporter.job(view(), 61)
    assert "step 1, 0 s ago" in reporter.job(view(1), 61.5)  # the first one
    assert reporter.job(view(2), 62) is None
    assert "step 3, 0 s ago" in reporter.job(view(3), 92)
    assert reporter.job(view(3), 140) is None
    assert "step 3, 60 s ago" in reporter.job(view(3), 152)
    assert "nothing trains; 1 waits, 2 needed; step 3, 61 s ago" in reporter.job(view(3, broken=True, waiting=1), 153)


@pytest.mark.parametrize("end", [{"finished": True}, {"failed": Verdict("x")}])
def test_nothing_trains_at_the_end(end):
    assert "nothing trains" in Reporter(0).job(view(3, **end), 1)


def test_an_agent_reports_only_while_the_coordinator_is_away():
    reporter = Reporter(0, every=30)
    reporter.stepped(7, 10)
    assert reporter.node(2, 0.0, 11) is None
    assert reporter.node(2, AWAY - 1, 12) is None
    assert reporter.node(2, AWAY, 13) == "standing: 1 node with 2 processes runs; no coordinator; step 7, 3 s ago"
    assert "nothing trains; no coordinator; step 7, 4 s ago" in reporter.node(0, AWAY + 1, 14)
    assert reporter.node(0, AWAY + 2, 15) is None
    assert reporter.node(2, 0.0, 16) is None
    assert reporter.node(0, AWAY, 40)  # away once more


def test_a_step_that_is_run_again_counts_as_one():
    reporter = Reporter(0)
    reporter.stepped(9, 1)
    reporter.stepped(5, 20)
    assert "step 5, 0 s ago" in reporter.node(1, AWAY, 20)


def test_the_coordinator_prints_them(capfd):
    serving = Serving(report=30.0)
    serving.pulse("a", AgentState.WAITING)
    printed, deadline = "", time.monotonic() + 30
    while "1 node with 1 process runs" not in printed and time.monotonic() < deadline:
        serving.pulse("a", AgentState.WAITING)
        printed += capfd.readouterr().err
        time.sleep(0.02)
    lines = [standing for line in printed.splitlines() if (standing := Standing.parse(line))]
    assert [standing.nodes for standing in lines] == [0, 1]
    serving.pulse("a", AgentState.GONE, finished=True)
    assert serving.result() is None


def test_a_coordinator_of_one_machine_prints_none(capfd):
    serving = Serving()
    serving.pulse("a", AgentState.WAITING)
    serving.pulse("a", AgentState.GONE, finished=True)
    assert serving.result() is None
    assert "standing" not in capfd.readouterr().err
