"""A disk that is full, over its quota, read-only or broken: reported once, and training goes on while it can."""

import errno
import logging
import os
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch.distributed.checkpoint import CheckpointException

from hardviews.errors import UserError
from hardviews.runs import checkpoint
from hardviews.runs.checkpoint import Checkpoints
from hardviews.runs.history import NAME, History
from hardviews.runs.saver import Saver
from hardviews.storage.failures import DiskFailure
from hardviews.storage.local_store import LocalStore
from hardviews.storage.scratch import scratch
from tests.runs.test_saver import state
from tests.train.runs import STEPS, rows, simclr, train

DISK = {
    errno.ENOSPC: "the disk is full",
    errno.EDQUOT: "the disk quota is used up",
    errno.EROFS: "can only be read",
    errno.EIO: "input/output error",
    errno.ESTALE: "stale NFS handle",
}


def full(*_: object, **__: object) -> None:
    """Be called in place of a function that writes."""
    raise OSError(errno.ENOSPC, "No space left on device")


class Disk:
    """Lets torch write a part of a checkpoint, and fail then with the number of an error; 0 for none."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, number: int, folder: Path) -> None:
        self.number, self.tries = number, 0
        self._save, self._folder = checkpoint.dcp.save, folder
        monkeypatch.setattr(checkpoint.dcp, "save", self.save)

    def save(self, *words: object, **more: object) -> None:
        self.tries += 1
        if self.number:
            for place in (self._folder / "checkpoints").iterdir():
                (place / "__0_0.distcp").write_bytes(b"a part of it")
            raise CheckpointException("write", {0: (OSError(self.number, "of the disk"), None)})
        self._save(*words, **more)


@pytest.mark.parametrize("number", DISK)
def test_a_disk_that_takes_no_checkpoint_is_reported_once_and_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, number: int
) -> None:
    disk = Disk(monkeypatch, number, tmp_path)
    saver = Saver(Checkpoints(str(tmp_path)), None, None, active=True)

    def save(step: int) -> None:
        assert saver.save(state(step, torch.zeros(3)))
        saver.close(20)

    for step in (1, 2, 3):
        save(step)
    assert disk.tries == saver.failures == 3 and saver.saved_step is None
    told = [record.getMessage() for record in caplog.records]
    assert len(told) == 1 and DISK[number] in told[0] and str(tmp_path) in told[0]
    # Nothing is left of them: it would take the room that the next one needs.
    assert not list((tmp_path / "checkpoints").iterdir())
    disk.number = errno.EIO if number != errno.EIO else errno.ENOSPC  # another cause is reported
    save(4)
    assert len(caplog.records) == 2
    disk.number = 0
    save(5)
    assert saver.saved_step == 5 and saver.reason == ""
    assert Checkpoints(str(tmp_path)).latest() is not None


def test_a_training_goes_on_and_ends_with_a_sentence(
    data: str, untracked: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    output = untracked / "run"
    disk = Disk(monkeypatch, errno.ENOSPC, output)
    with pytest.raises(UserError, match=r"complete, but its last checkpoint could not be saved: .*the disk is full"):
        train(simclr(1, checkpoint_steps=1), data, output)
    assert disk.tries == STEPS and rows(output)[-1]["step"] == STEPS
    told = [record for record in caplog.records if "could not be saved" in record.getMessage()]
    assert len(told) == 1
    disk.number = 0
    train(simclr(1, checkpoint_steps=1), data, output)
    assert (output / "encoder" / "encoder.json").exists()


def test_a_disk_without_room_for_a_checkpoint_is_refused_before_a_step(
    data: str, untracked: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checkpoint, "room", lambda folder: 1000)
    with pytest.raises(UserError, match=r"takes .* MB or more, and the disk of .*run has 0\.0 MB free"):
        train(simclr(1), data, untracked / "run")
    assert not (untracked / "run").exists()
    monkeypatch.setattr(checkpoint, "room", lambda folder: None)
    train(simclr(1), data, untracked / "run")


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS, errno.EDQUOT])
def test_an_output_that_cannot_be_written_is_refused_at_the_start(
    data: str, untracked: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise OSError(number, "of the disk")

    monkeypatch.setattr(tempfile, "TemporaryFile", fail)
    with pytest.raises(UserError, match=f"--output: .*{DISK[number]}"):
        train(simclr(1), data, untracked / "run")
    assert not (untracked / "run").exists()


def test_metrics_are_kept_until_the_disk_takes_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    history = History(str(tmp_path), b"", write=True)
    history.add({"step": 1})
    with monkeypatch.context() as patch:
        patch.setattr(history, "path", Path("/dev/full"))
        patch.setattr(tempfile, "mkstemp", full)
        for step in (2, 3):
            history.add({"step": step})
        assert (tmp_path / NAME).read_text() == '{"step": 1}\n'
        assert len([record for record in caplog.records if "the disk is full" in record.getMessage()]) == 1
    history.add({"step": 4})
    history.add({"step": 5})
    assert (tmp_path / NAME).read_text() == "".join(f'{{"step": {step}}}\n' for step in (1, 2, 3, 4, 5))


def test_a_folder_for_temporary_files_that_cannot_be_used_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(tempfile, "mkdtemp", full)
        with pytest.raises(DiskFailure, match=r"the disk is full.*TMPDIR"), scratch():
            pass
    monkeypatch.setattr(tempfile, "tempdir", None)
    monkeypatch.setattr(tempfile, "_get_default_tempdir", lambda: (_ for _ in ()).throw(FileNotFoundError(2, "none")))
    with pytest.raises(DiskFailure, match="TMPDIR"), scratch():
        pass


def test_old_checkpoints_that_stay_do_not_undo_a_save(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The right to delete may be taken away while a run goes on."""
    saver = Saver(Checkpoints(str(tmp_path), keep=1), None, None, active=True)

    def refuse(self: LocalStore, folder: str) -> None:
        if (tmp_path / "checkpoints" / folder / "manifest.json").exists() or folder != f"step-{saver_step:08d}":
            raise DiskFailure("not removed")

    remove = LocalStore.remove_folder
    for saver_step in (1, 2, 3):
        with monkeypatch.context() as patch, caplog.at_level(logging.WARNING):
            patch.setattr(LocalStore, "remove_folder", refuse)
            assert saver.save(replace(state(saver_step, torch.zeros(3))))
            saver.close(20)
    assert saver.saved_step == 3 and saver.failures == 0
    assert len([record for record in caplog.records if "not needed any more" in record.getMessage()]) == 1
    assert LocalStore.remove_folder is remove


COMMAND = "pretrain digits --data digits --output small/run --training.epochs 2 --training.checkpoint-steps 2"


@pytest.mark.chaos
@pytest.mark.skipif(os.geteuid() != 0, reason="mounts a small disk")
@pytest.mark.parametrize(("options", "words"), [("size=2m", "the disk is full"), ("size=2m,ro", "can only be read")])
def test_a_small_disk(tmp_path: Path, options: str, words: str) -> None:
    hardviews = Path(sys.executable).parent / "hardviews"
    (tmp_path / "small").mkdir()
    subprocess.run([hardviews, "pack", "--source", "digits", "--out", "digits"], cwd=tmp_path, check=True)
    inside = f"mount -t tmpfs -o {options} tmpfs small && exec {hardviews} {COMMAND}"
    run = subprocess.run(["unshare", "-m", "sh", "-c", inside], cwd=tmp_path, capture_output=True, text=True)
    assert run.returncode == 2 and "Traceback" not in run.stderr
    assert words in run.stderr.splitlines()[-1]
    assert run.stderr.count("could not be saved") <= 2
