"""Write a small run that ended in its second epoch, with a checkpoint of the format that is current.

`python -m tests.runs.formats` writes `tests/runs/formats/FORMAT.tgz`; a test resumes from the file of every format. All
weights are constants, one for each name, so that the file is small and can be checked without a second copy.
"""

import tarfile
import tempfile
import zlib
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from unittest.mock import patch

import torch
from torch import Tensor

from hardviews.runs.checkpoint import Checkpoints
from hardviews.runs.manifest import FORMAT
from hardviews.runs.saver import Saver, State
from hardviews.runs.where import Where
from hardviews.tracking.mlflow_run import NullRun, Run
from hardviews.train.loop import pretrain
from tests.train.runs import dying, packed, simclr

HERE = Path(__file__).parent
DIES, SAVED = 7, 6  # steps


def constants(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return tensors of the same names, shapes and types; those of floating point hold one number of their name."""
    return {
        name: torch.full_like(tensor, (1 + zlib.crc32(name.encode()) % 97) / 1000)
        if tensor.is_floating_point() and not name.startswith("meter.")
        else tensor
        for name, tensor in tensors.items()
    }


def write(file: Path) -> None:
    """Train, end without notice after a save, and pack the output."""
    save = Saver.save

    def save_constants(self: Saver, state: State) -> bool:
        begun = save(self, replace(state, tensors=constants(state.tensors)))
        self.close(60)
        return begun

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        where = Where(packed(folder / "shards"), str(folder / "run"), str(folder / "project"))
        started = lambda *_, run_id=None, **__: NullRun(run_id or "unknown")  # noqa: E731
        with patch.object(Saver, "save", save_constants), patch.object(Run, "start", started), dying(DIES):
            pretrain(simclr(2, keep=1), where)
        assert Checkpoints(where.output).names() == [f"step-{SAVED:08d}"]
        with tarfile.open(file, "w:gz") as archive:
            archive.add(where.output, "run")


if __name__ == "__main__":
    write(HERE / f"{FORMAT}.tgz")
