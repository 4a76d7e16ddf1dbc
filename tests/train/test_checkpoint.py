"""A checkpoint counts only when it is whole."""

import json
import logging
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from hardviews.errors import UserError
from hardviews.train.checkpoint import MANIFEST, Checkpoints, Progress
from tests.data.helpers import flip_bit

TENSORS = {"weight": torch.arange(6.0).view(2, 3), "count": torch.tensor(7), "none": torch.empty(0, dtype=torch.int64)}
PROGRESS = Progress(1, 0, 16, 16, "run", "recipe", "dataset", 1)


def save(folder: Path, steps: int, keep: int = 2) -> Checkpoints:
    checkpoints = Checkpoints(str(folder), keep)
    for step in range(1, steps + 1):
        checkpoints.save({name: tensor + step for name, tensor in TENSORS.items()}, replace(PROGRESS, step=step))
    return checkpoints


def test_what_is_saved_comes_back_and_old_ones_go(tmp_path: Path) -> None:
    checkpoints = save(tmp_path, 4)
    tensors, progress = checkpoints.latest()
    assert progress == replace(PROGRESS, step=4)
    assert {name: (t.dtype, t.shape) for name, t in tensors.items()} == {
        name: (t.dtype, t.shape) for name, t in TENSORS.items()
    }
    assert all(torch.equal(tensors[name], TENSORS[name] + 4) for name in TENSORS)
    assert sorted(path.name for path in checkpoints.folder.iterdir()) == ["step-00000003", "step-00000004"]


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


@pytest.mark.parametrize(
    "damage",
    [
        pytest.param(lambda step: (step / MANIFEST).unlink(), id="killed before the manifest"),
        pytest.param(lambda step: _cut(step / MANIFEST), id="manifest cut"),
        pytest.param(lambda step: flip_bit(str(next(step.glob("*.distcp"))), 100), id="a bit flipped"),
        pytest.param(lambda step: _cut(next(step.glob("*.distcp"))), id="a file cut"),
        pytest.param(lambda step: (step / ".metadata").unlink(), id="a file gone"),
    ],
)
def test_a_damaged_one_falls_back_to_the_one_before(tmp_path: Path, damage, caplog) -> None:
    checkpoints = save(tmp_path, 2)
    damage(checkpoints.folder / "step-00000002")
    with caplog.at_level(logging.WARNING, "hardviews"):
        tensors, progress = checkpoints.latest()
    assert progress.step == 1 and torch.equal(tensors["weight"], TENSORS["weight"] + 1)
    # The step is saved again over what is left of it.
    checkpoints.save(TENSORS, replace(PROGRESS, step=2))
    assert checkpoints.latest()[1].step == 2


def test_without_a_whole_one_the_run_begins_anew_and_says_so(tmp_path: Path, caplog) -> None:
    checkpoints = save(tmp_path, 1)
    flip_bit(str(next(checkpoints.folder.glob("*/*.distcp"))), 100)
    with caplog.at_level(logging.WARNING, "hardviews"):
        assert checkpoints.latest() is None
    assert "begins anew" in caplog.text
    assert Checkpoints(str(tmp_path / "elsewhere")).latest() is None


def test_another_versions_checkpoint_is_refused(tmp_path: Path) -> None:
    checkpoints = save(tmp_path, 1)
    manifest = checkpoints.folder / "step-00000001" / MANIFEST
    manifest.write_text(json.dumps(json.loads(manifest.read_text()) | {"format": 99}))
    with pytest.raises(UserError, match="format 99"):
        checkpoints.latest()
