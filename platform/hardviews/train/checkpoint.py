"""Checkpoints: torch.distributed.checkpoint to a folder, committed by a manifest that is written last.

A folder without a manifest was never finished and is not read. On load every file's size and checksum must be those of
the manifest; a damaged newest checkpoint falls back to the one before. The manifest holds the numbers (step, epoch,
consumed, run), the folder the tensors.
"""

import json
import logging
import os
import re
import shutil
import warnings
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
from torch import Tensor
from torch.distributed.checkpoint import FileSystemReader, FileSystemWriter
from torch.distributed.checkpoint.metadata import TensorStorageMetadata

from hardviews.collectives import rank, world_size
from hardviews.errors import UserError

MANIFEST = "manifest.json"
FORMAT = 1
_CHUNK = 1 << 20

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Progress:
    """The numbers of a checkpoint: where the run stands and what it is a run of.

    `consumed` counts samples of the epoch, `progress` samples since the run began; `recipe` and `dataset` are digests.
    """

    step: int
    epoch: int
    consumed: int
    progress: int
    run_id: str
    recipe: str
    dataset: str
    world: int


class Checkpoints:
    """The checkpoints of one run, in the folder `checkpoints` of its output."""

    def __init__(self, output: str, keep: int = 2) -> None:
        """Name the folder; `keep` committed checkpoints stay, older ones go."""
        self.folder = Path(output) / "checkpoints"
        self.keep = keep

    def save(self, tensors: Mapping[str, Tensor], progress: Progress) -> Path:
        """Write and commit a checkpoint; every rank calls this with the same tensors."""
        path = self.folder / f"step-{progress.step:08d}"
        if rank() == 0:
            shutil.rmtree(path, ignore_errors=True)
            path.mkdir(parents=True)
        _barrier()
        with _quiet():
            dcp.save(dict(tensors), storage_writer=FileSystemWriter(path), no_dist=world_size() == 1)
        if rank() == 0:
            files = {file.name: _fingerprint(file) for file in sorted(path.iterdir())}
            manifest = {"format": FORMAT, "progress": asdict(progress), "files": files}
            temporary = path / f".{MANIFEST}"
            temporary.write_text(json.dumps(manifest, indent=1))
            os.replace(temporary, path / MANIFEST)
            self._forget_old()
        _barrier()
        return path

    def latest(self) -> tuple[dict[str, Tensor], Progress] | None:
        """Return the tensors and numbers of the newest whole checkpoint, or None where there is none.

        Raises:
            UserError: this rank does not see the checkpoint that rank 0 chose.
        """
        chosen: list[str | None] = [self._newest_whole() if rank() == 0 else None]
        if world_size() > 1:
            # One rank looks, so that all begin at the same step.
            dist.broadcast_object_list(chosen, src=0)
        if chosen[0] is None:
            return None
        path = self.folder / chosen[0]
        progress = _progress(path)
        if progress is None:
            raise UserError(
                f"Rank {rank()} does not see the checkpoint {path} that rank 0 found. --output must be a folder on a "
                "disk that all nodes share."
            )
        return self._read(path), progress

    def _newest_whole(self) -> str | None:
        committed = self._committed()
        for path in committed:
            if _verified(path) is not None:
                return path.name
            logger.warning("the checkpoint %s is damaged; looking for the one before it", path)
        if committed:
            logger.warning("no checkpoint in %s is whole; the run begins anew", self.folder)
        return None

    def _read(self, path: Path) -> dict[str, Tensor]:
        stored = FileSystemReader(path).read_metadata().state_dict_metadata
        tensors = {
            name: torch.empty(entry.size, dtype=entry.properties.dtype)
            for name, entry in stored.items()
            if isinstance(entry, TensorStorageMetadata)
        }
        with _quiet():
            dcp.load(tensors, storage_reader=FileSystemReader(path), no_dist=True)
        return tensors

    def _committed(self) -> list[Path]:
        found = [p for p in self.folder.glob("step-*") if re.fullmatch(r"step-\d+", p.name) and (p / MANIFEST).exists()]
        return sorted(found, reverse=True)

    def _forget_old(self) -> None:
        kept = set(self._committed()[: self.keep])
        newest = max(kept, default=None)
        for path in self.folder.glob("step-*"):
            if path not in kept and newest is not None and path < newest:
                shutil.rmtree(path, ignore_errors=True)


def _verified(path: Path) -> Progress | None:
    """Return the checkpoint's numbers if all of its files are whole."""
    try:
        files = json.loads((path / MANIFEST).read_text())["files"]
        whole = all(_fingerprint(path / name) == entry for name, entry in files.items())
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
    return _progress(path) if whole else None


def _progress(path: Path) -> Progress | None:
    """Return the numbers in a checkpoint's manifest, None where it is not readable.

    Raises:
        UserError: it is of another version.
    """
    try:
        manifest = json.loads((path / MANIFEST).read_text())
        if manifest["format"] != FORMAT:
            raise UserError(
                f"The checkpoint {path} has format {manifest['format']}, this version reads {FORMAT}. Resume it with "
                "the version that wrote it, or start with another output."
            )
        return Progress(**manifest["progress"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _fingerprint(file: Path) -> dict[str, int]:
    checksum = 0
    with file.open("rb") as stream:
        while chunk := stream.read(_CHUNK):
            checksum = zlib.crc32(chunk, checksum)
    return {"size": file.stat().st_size, "crc32": checksum}


def _barrier() -> None:
    if world_size() > 1:
        dist.barrier()


@contextmanager
def _quiet() -> Iterator[None]:
    """Hide torch's note that it saves without a process group, which is what one process means to do."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
