"""Checkpoints of every format that this version reads still load, and their runs go on."""

import json
import tarfile
from pathlib import Path

import pytest
import torch

from hardviews.errors import UserError
from hardviews.runs.audit import audit
from hardviews.runs.checkpoint import Checkpoints
from hardviews.runs.manifest import FORMAT, MANIFEST, MIGRATIONS
from hardviews.runs.record import Record
from tests.runs.formats.__main__ import HERE, SAVED, constants
from tests.train.runs import BATCH, STEPS, packed, rows, simclr, train

FORMATS = [*sorted(MIGRATIONS), FORMAT]


def unpacked(number: int, folder: Path) -> Path:
    """Return the output of the run that is kept of a format."""
    with tarfile.open(HERE / f"{number}.tgz") as archive:
        archive.extractall(folder, filter="data")
    return folder / "run"


@pytest.mark.parametrize("number", FORMATS)
def test_a_checkpoint_of_every_format_loads(tmp_path: Path, number: int) -> None:
    run = unpacked(number, tmp_path)
    (manifest,) = run.glob(f"checkpoints/*/{MANIFEST}")
    assert json.loads(manifest.read_text())["format"] == number
    found = Checkpoints(str(run)).latest()
    record = Record.read(str(run))
    assert found is not None and record is not None
    assert (found.progress.step, found.progress.samples, found.progress.world) == (SAVED, SAVED * BATCH, 1)
    assert (found.progress.recipe, found.progress.dataset) == (simclr(2, keep=1).digest(), record.dataset)
    assert sum(entry.stop - entry.start for entry in found.ranges) == SAVED * BATCH
    expected = constants(found.tensors)
    assert len(found.tensors) > 50
    assert all(torch.equal(tensor, expected[name]) for name, tensor in found.tensors.items())
    assert found.history.count(b"\n") == SAVED // 2


@pytest.mark.parametrize("number", FORMATS)
def test_a_run_of_every_format_goes_on(untracked: Path, number: int) -> None:
    run, data = unpacked(number, untracked), packed(untracked / "shards")
    before = rows(run)
    train(simclr(2, keep=1), data, run)
    after = rows(run)
    assert [row["step"] for row in after] == list(range(2, 2 * STEPS + 1, 2)) and after[: len(before)] == before
    report = audit(str(run), data)
    assert not report.problems and report.step == 2 * STEPS and len(report.lives) == 2


def test_every_format_since_the_oldest_is_migrated() -> None:
    assert list(range(min(FORMATS), FORMAT + 1)) == FORMATS


@pytest.mark.parametrize("number", [min(FORMATS) - 1, FORMAT + 1])
def test_another_format_is_refused_in_words(tmp_path: Path, number: int) -> None:
    run = unpacked(FORMAT, tmp_path)
    (manifest,) = run.glob(f"checkpoints/*/{MANIFEST}")
    manifest.write_text(json.dumps(json.loads(manifest.read_text()) | {"format": number}))
    with pytest.raises(UserError, match=f"has format {number}, this version reads {FORMATS[0]} to {FORMAT}"):
        Checkpoints(str(run)).latest()


def test_a_changed_manifest_of_an_older_format_is_damaged(tmp_path: Path) -> None:
    run = unpacked(min(FORMATS), tmp_path)
    (manifest,) = run.glob(f"checkpoints/*/{MANIFEST}")
    content = json.loads(manifest.read_text())
    content["progress"]["step"] += 1
    manifest.write_text(json.dumps(content))
    with pytest.raises(UserError, match="contradicts its own checksum"):
        Checkpoints(str(run)).latest()
