"""A start closes the runs that processes of this machine left RUNNING, and no others."""

import json
import os
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from hardviews.elastic.identity import processes
from hardviews.errors import UserError
from hardviews.runs import sweep as sweep_module
from hardviews.runs.life import Life
from hardviews.runs.sweep import sweep
from hardviews.tracking.job import OUTPUT, PROCESSES
from hardviews.tracking.metric_groups import LOSS
from hardviews.tracking.notes import NOTE
from hardviews.tracking.runs import KEY
from hardviews.tracking.server import Server
from tests.stores import client, project

__all__ = ["client", "project"]

LIVING = processes(os.getpid())
GONE = f"{LIVING.rpartition(':')[0]}:0"  # the same id, but an earlier start
ELSEWHERE = f"other/{GONE}"


def running(client: Any, **tags: str) -> str:
    """Make a run of this platform that is RUNNING in the store; return its id."""
    names = {"processes": PROCESSES, "output": OUTPUT}
    return str(client.create_run("0", tags={KEY: "k", **{names[key]: tag for key, tag in tags.items()}}).info.run_id)


@pytest.mark.parametrize("samples", [1280, 640, None])
def test_the_description_of_a_run_that_was_killed_says_how_far_it_came(
    samples: int | None, project: Path, client: Any, tmp_path: Path
) -> None:
    """Its own training wrote the line before its first step, and could not write it again."""
    run = running(client, processes=GONE, output=lived(tmp_path / "killed", GONE))
    rest = "### Settings\n\n**Unfinished**: 0 of 9 samples seen (0 %)."
    client.set_tag(run, NOTE, f"**Unfinished**: 320 of 1,280 samples seen (25 %). Top-1: 50 %.\n\n{rest}")
    if samples is not None:
        client.log_metric(run, LOSS, 1.0, step=samples)
    sweep(Server.connect(None, project), "", longest=60.0).join(60)
    closed = client.get_run(run)
    seen = {1280: "1,280 of 1,280 samples seen (100 %)", 640: "640 of 1,280 samples seen (50 %)"}.get(
        samples or 0, "320 of 1,280 samples seen (25 %)"
    )
    assert closed.info.status == "KILLED"
    assert closed.data.tags[NOTE] == (
        f"**Unfinished**: {seen}. Closed as KILLED: the processes of its life 1 have ended, at step 4 or later. "
        f"Its own command goes on with it. Top-1: 50 %.\n\n{rest}"
    )


def lived(output: Path, of_life: str) -> str:
    life = Life(1, 1, 0, time.time(), "host", 4, time.time(), None, processes=of_life)
    (output / "lives").mkdir(parents=True)
    (output / "lives" / "0001.json").write_text(json.dumps(asdict(life)))
    return str(output)


def test_only_runs_that_are_provably_dead_are_closed_and_named(
    project: Path, client: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    dead = [
        running(client, processes=GONE),
        running(client, processes=GONE, output=lived(tmp_path / "killed", GONE)),
        running(client, processes=GONE, output=str(tmp_path / "deleted")),
        running(client, output=lived(tmp_path / "older", GONE)),  # of a version without the tag
    ]
    alive = [
        running(client, processes=LIVING),
        running(client, processes=ELSEWHERE),
        running(client),
        running(client, processes=GONE, output=lived(tmp_path / "goes on", LIVING)),
        running(client, processes=GONE, output=lived(tmp_path / "elsewhere", ELSEWHERE)),
        running(client, processes="-", output="s3://bucket/never-asked"),
    ]
    other = str(client.create_run("0", tags={PROCESSES: GONE}).info.run_id)  # of another platform
    own = running(client, processes=GONE)
    sweep(Server.connect(None, project), own, longest=60.0).join(60)
    status = {run: client.get_run(run).info.status for run in [*dead, *alive, other, own]}
    assert [status[run] for run in dead] == ["KILLED"] * len(dead)
    assert {status[run] for run in [*alive, other, own]} == {"RUNNING"}
    lines = [line.getMessage() for line in caplog.records if "was left RUNNING and is closed as" in line.getMessage()]
    assert len(lines) == len(dead) and all(sum(run in line for line in lines) == 1 for run in dead)


def test_nothing_is_closed_late_or_without_a_look_at_the_output(
    project: Path, client: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = running(client, processes=GONE, output=str(tmp_path))
    server = Server.connect(None, project)
    sweep(server, "", longest=-1.0).join(60)
    assert client.get_run(run).info.status == "RUNNING"
    with monkeypatch.context() as patch:
        patch.setattr(sweep_module, "last_life", lambda *_: (_ for _ in ()).throw(UserError("the store is away")))
        sweep(server, "", longest=60.0).join(60)
    assert client.get_run(run).info.status == "RUNNING"
    sweep(server, "", longest=60.0).join(60)
    assert client.get_run(run).info.status == "KILLED"


def test_a_store_that_fails_is_no_word_and_no_error(
    project: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(sweep_module, "entries", lambda *_, **__: (_ for _ in ()).throw(RuntimeError("away")))
    thread = sweep(Server.connect(None, project), "")
    thread.join(60)
    assert not thread.is_alive() and thread.daemon and not caplog.records
