"""Reports of a training process about itself, and when it sends none."""

import json

import pytest
import torch.distributed as dist

from hardviews.elastic import worker
from hardviews.elastic.timeline import mark
from hardviews.elastic.worker import (
    Phase,
    advanced,
    doing,
    last_reached,
    leaving,
    lost_a_peer,
    reached,
    supervised,
    written,
)
from hardviews.errors import UserError


class Line:
    """In the place of the channel to the agent."""

    def __init__(self) -> None:
        self.said: list[dict] = []
        self.phase, self.count = Phase.START, 0

    def say(self, **message: object) -> None:
        self.said.append(message)


@pytest.fixture
def line(monkeypatch) -> Line:
    made = Line()
    monkeypatch.setattr(worker, "_line", made)
    return made


def test_without_an_agent_all_of_it_does_nothing(monkeypatch):
    monkeypatch.delenv("HARDVIEWS_REACHED", raising=False)
    with supervised():
        reached(3)
        with leaving(), doing(Phase.SAVE):
            advanced()
        written()
        assert last_reached() is None


def test_steps_are_reported(line):
    reached(3)
    assert line.said == [{"step": 3}]


def test_phases_and_progress_are_noted_for_the_watchdog(line):
    with doing(Phase.EPOCH):
        assert line.phase == Phase.EPOCH
        before = line.count
        advanced()
        assert line.count == before + 1
    assert line.phase == Phase.START
    reached(1)
    with pytest.raises(ValueError), doing(Phase.DATA):
        raise ValueError
    assert line.phase == Phase.STEP


def test_one_that_leaves_says_that_it_writes_nothing_more(line):
    written()
    assert line.said == [{"written": True}]


def test_the_furthest_step_of_earlier_lives_is_read(monkeypatch):
    monkeypatch.setenv("HARDVIEWS_REACHED", "17")
    assert last_reached() == 17


def test_a_mistake_of_the_user_is_reported_as_such(line):
    with pytest.raises(UserError), supervised():
        raise UserError("no such folder")
    assert line.said == [{"failing": "no such folder", "user": True}]


def test_leaving_and_success_are_no_failures(line):
    with pytest.raises(SystemExit), supervised():
        raise SystemExit(75)
    with supervised():
        pass
    assert line.said == []


GLOO = (
    "[/__w/pytorch/third_party/gloo/gloo/transport/tcp/pair.cc:561] Connection closed by peer [127.0.0.1]:36269. "
    "This is typically caused by a remote worker crashing. Check the logs."
)


@pytest.mark.parametrize(
    ("error", "lost"),
    [
        (RuntimeError(GLOO), True),
        (dist.DistNetworkError("The client socket has timed out"), True),
        (dist.DistStoreError("wait timeout"), True),
        (RuntimeError("The size of tensor a (3) must match the size of tensor b (4)"), False),
        (ValueError("peer"), False),
    ],
)
def test_a_lost_peer_is_distinguished_from_a_mistake(line, error, lost):
    assert lost_a_peer(error) == lost
    with pytest.raises(type(error)), supervised():
        raise error
    assert line.said[0]["peer"] == lost


def test_the_report_of_a_lost_peer_is_short(line):
    with pytest.raises(RuntimeError), supervised():
        raise RuntimeError(GLOO)
    assert line.said[0]["failing"] == "RuntimeError: Connection closed by peer [127.0.0.1]:36269."


def test_the_timeline_is_lines_of_json_where_it_is_wanted(tmp_path, monkeypatch, capsys):
    monkeypatch.delenv("HARDVIEWS_TIMELINE", raising=False)
    mark("step", step=1)
    monkeypatch.setenv("HARDVIEWS_TIMELINE", str(tmp_path / "timeline"))
    monkeypatch.setenv("RANK", "3")
    mark("step", step=2)
    mark("saved", step=2)
    lines = [json.loads(line) for line in (tmp_path / "timeline").read_text().splitlines()]
    assert [(line["event"], line["step"], line["rank"]) for line in lines] == [("step", 2, 3), ("saved", 2, 3)]
    monkeypatch.setenv("HARDVIEWS_TIMELINE", "-")
    mark("step", step=3)
    assert json.loads(capsys.readouterr().err)["step"] == 3


def test_a_timeline_that_cannot_be_written_stops_nothing(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("HARDVIEWS_TIMELINE", str(tmp_path / "no" / "such" / "folder"))
    mark("step", step=1)
    assert "HARDVIEWS_TIMELINE" in capsys.readouterr().err
