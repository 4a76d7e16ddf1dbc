"""`hardviews runs`: which runs are dead, closing them, and sending records that were left."""

import json
import os
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from hardviews.elastic.identity import processes
from hardviews.errors import UserError
from hardviews.runs.life import Life
from hardviews.runs.listing import Runs, run_runs
from hardviews.runs.verdict import judge
from hardviews.tracking import sender as sender_module
from hardviews.tracking.metric_groups import LOSS
from hardviews.tracking.mlflow_run import Run
from hardviews.tracking.notes import HEAD, NOTE
from hardviews.tracking.runs import Entry, entries
from hardviews.tracking.server import Server
from hardviews.tracking.unfinished import unfinished
from tests.stores import client, project

__all__ = ["client", "project"]

NOW = 1_000_000.0


def lived(output: Path, end: Any, updated: float, processes: str = "") -> None:
    """Write the file of a run's third life."""
    life = Life(3, 2, 10, updated - 50, "host", 40, updated, end, processes=processes)
    (output / "lives").mkdir(parents=True, exist_ok=True)
    (output / "lives" / "0003.json").write_text(json.dumps(asdict(life)))


@pytest.mark.parametrize(
    ("end", "updated", "heard", "status"),
    [
        ("failed", 100, 100, "FAILED"),
        ("interrupted", 100, 100, "FAILED"),
        ("evicted", 100, 100, "KILLED"),
        ("finished", 100, 100, "FINISHED"),
        ("failed", 30, 30, None),  # the next life may be beginning
        (None, 100, 100, None),  # it goes on
        (None, 2000, 100, None),  # a long step: the tracking hears of it
        (None, 100, 2000, None),  # the server is away: the output hears of it
        (None, 2000, 2000, "KILLED"),
        ("no lives", 0, 100, None),
        ("no lives", 0, 2000, "KILLED"),
    ],
)
def test_a_run_is_dead_by_its_last_life_or_by_silence(
    tmp_path: Path, end: Any, updated: float, heard: float, status: str | None
) -> None:
    if end != "no lives":
        lived(tmp_path, end, NOW - updated)
    entry = Entry("id", "name", "RUNNING", NOW - heard, str(tmp_path), "")
    found = judge(entry, 900.0, NOW)
    assert (found and found[0]) == status


def names(kind: str) -> str:
    """Return the processes of a life or a run: of this machine, living or gone, or of another machine."""
    living = processes(os.getpid())
    gone = f"{living.rpartition(':')[0]}:0"  # the same id, but an earlier start
    return {"living": living, "gone": gone, "elsewhere": f"other/{gone}"}.get(kind, kind)


@pytest.mark.parametrize(
    ("end", "of_life", "of_run", "status"),
    [
        (None, "gone", "", "KILLED"),
        ("failed", "gone", "", "FAILED"),
        ("finished", "gone", "", "FINISHED"),
        (None, "living", "", None),
        (None, "elsewhere", "", None),
        ("failed", "living", "", None),
        # A newer life than the store knows of.
        (None, "living", "gone", None),
        (None, "elsewhere", "gone", None),
        # Evaluations have no lives.
        ("no lives", "", "gone", "KILLED"),
        ("no lives", "", "living", None),
        ("no lives", "", "elsewhere", None),
        ("no lives", "", "-", None),
    ],
)
def test_a_run_is_dead_at_once_if_its_processes_of_this_machine_are_gone(
    tmp_path: Path, end: Any, of_life: str, of_run: str, status: str | None
) -> None:
    if end != "no lives":
        lived(tmp_path, end, NOW - 1, names(of_life))
    found = judge(Entry("id", "name", "RUNNING", NOW - 1, str(tmp_path), "", names(of_run)), 900.0, NOW)
    assert (found and found[0]) == status


def test_dead_runs_are_listed_closed_and_go_on_when_they_are_continued(
    project: Path, client: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    lived(tmp_path / "out", None, time.time() - 5000)
    monkeypatch.setattr(sender_module, "BEAT", 0.0)
    dead = Run.start("exp", "dead", folder=project, tags={"hardviews.output": str(tmp_path / "out")})
    alive = Run.start("exp", "alive", folder=project, tags={"hardviews.job": "kubernetes://x/y"})
    for run in (dead, alive):
        run.set_section(HEAD, unfinished(0, 4))
        run.log_metrics({LOSS: 1.0}, 1)
        assert run.drain(60)
        run.close(None)
    other = client.create_run("0").info.run_id
    monkeypatch.setattr(
        "hardviews.runs.listing.entries", lambda *_: [_older(entry, dead.run_id) for entry in entries(*_)]
    )
    run_runs(Runs(project=str(project)))
    listed = capsys.readouterr().out
    assert f"{dead.run_id}  dead  {tmp_path}/out  dead: silent for" in listed
    assert alive.run_id in listed and "kubernetes://x/y" in listed and other not in listed
    assert client.get_run(dead.run_id).info.status == "RUNNING"
    run_runs(Runs(project=str(project), close=True))
    assert "closed: silent for" in capsys.readouterr().out
    assert [client.get_run(i).info.status for i in (dead.run_id, alive.run_id, other)] == [
        "KILLED",
        "RUNNING",
        "RUNNING",
    ]
    notes = [client.get_run(run.run_id).data.tags[NOTE] for run in (dead, alive)]
    assert notes[0].startswith("**Unfinished**: 1 of 4 samples seen (25 %). Closed as KILLED: silent for 1 h. Its own")
    assert notes[1] == unfinished(0, 4)
    assert client.get_run(dead.run_id).info.end_time < 1000 * time.time() - 4000 * 1000
    again = Run.start("exp", "dead", dead.run_id, folder=project)
    assert again.drain(60) and client.get_run(dead.run_id).info.status == "RUNNING"
    again.close()
    assert client.get_run(dead.run_id).info.status == "FINISHED"


def _older(entry: Entry, run_id: str) -> Entry:
    """The later answer of the store about the dead run."""
    return Entry(**{**asdict(entry), "heard": time.time() - 5000}) if entry.run_id == run_id else entry


def test_leftovers_are_listed_and_sent(project: Path, client: Any, capsys: pytest.CaptureFixture[str]) -> None:
    run = Run.start("exp", "x", folder=project)
    assert run.drain(60)
    location = client.get_experiment_by_name("exp").artifact_location.removeprefix("file://")
    Path(location).rename(f"{location}.away") if Path(location).exists() else Path(location).parent.mkdir(exist_ok=True)
    Path(location).write_text("in the way")
    run.log_text("hello", "notes.txt")
    assert run.close() == 1
    run_runs(Runs(project=str(project)))
    assert f"records of run {run.run_id} wait in" in capsys.readouterr().out
    with pytest.raises(UserError, match=f"Records of run {run.run_id} stay in"):
        run_runs(Runs(project=str(project), send=True))
    Path(location).unlink()
    run_runs(Runs(project=str(project), send=True))
    assert f"sent the remaining records of run {run.run_id}" in capsys.readouterr().out
    assert [item.path for item in client.list_artifacts(run.run_id)] == ["notes.txt"]
    assert client.get_run(run.run_id).info.status == "FINISHED"


def test_a_folder_without_a_record_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    with pytest.raises(UserError, match="no tracking record"):
        run_runs(Runs(project=str(tmp_path / "none")))
    assert not (tmp_path / "none").exists()
    with pytest.raises(UserError, match=r"^--silence is 0; it must be above 0 \(seconds\)"):
        Runs(silence=0)
    assert Server.connect(None, tmp_path).uri.startswith("sqlite:")
