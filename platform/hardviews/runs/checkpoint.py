"""Checkpoints: torch.distributed.checkpoint to a folder at a URL, committed by a manifest that is written last.

A folder without a manifest was never finished and is not read. On load the size and checksum of every file must be
equal to the manifest's. If the newest checkpoint is damaged, the one before it is loaded. The manifest holds the
numbers: the progress of the run and the samples that it was trained on. The other files hold the tensors and the
metrics so far.

All processes train the same weights, so rank 0 alone writes and reads, and passes the content to the others. So nothing
here waits for a process that is gone, and all processes go on from the same bytes.
"""

import logging
import warnings
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
from torch import Tensor
from torch.distributed.checkpoint import FileSystemReader, FileSystemWriter
from torch.distributed.checkpoint.metadata import TensorStorageMetadata

from hardviews.collectives import broadcast_tensors, rank, world_size
from hardviews.errors import UserError
from hardviews.failures import kind_of, of_machine
from hardviews.runs.files import check_file, failure_of, fingerprint
from hardviews.runs.ledger import Range
from hardviews.runs.manifest import CHECKPOINTS, MANIFEST, Damaged, Manifest, Progress, is_checkpoint
from hardviews.storage.disk import room, temporary_folder, try_folder
from hardviews.storage.scratch import scratch
from hardviews.storage.store import open_store

HISTORY = "history.jsonl"
_CPU = torch.device("cpu")
_LOOKS = 3  # while a checkpoint is read, it may be removed because newer ones are committed

logger = logging.getLogger(__name__)

# One process saves the state that all have: torch warns that it does so without a process group.
warnings.filterwarnings("ignore", message="torch.distributed is disabled, unavailable or uninitialized")


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """A whole checkpoint: all tensors by name, the manifest's numbers, and the metrics so far as JSON lines."""

    tensors: dict[str, Tensor]
    progress: Progress
    ranges: tuple[Range, ...]
    history: bytes


def _nothing() -> None:
    """Allow it."""


class Checkpoints:
    """The checkpoints of one run, in the folder `checkpoints` of its output (a path or a URL)."""

    def __init__(self, output: str, keep: int = 2, patience: float | None = None) -> None:
        """Name the folder; `keep` committed checkpoints stay, older ones go. `patience` is as in `open_store`."""
        self.output, self.keep, self.patience = output, keep, patience
        self.store = open_store(output, patience).inside(CHECKPOINTS)
        self._left = ""  # reason why old ones could not be removed

    def patient(self, seconds: float) -> "Checkpoints":
        """Return the same checkpoints in a store with another patience."""
        return Checkpoints(self.output, self.keep, seconds)

    # Writing

    def save(
        self,
        tensors: Mapping[str, Tensor],
        progress: Progress,
        ranges: tuple[Range, ...] = (),
        history: bytes = b"",
        check: Callable[[], None] = _nothing,
    ) -> str:
        """Write and commit a checkpoint of CPU tensors from this process alone; return its name.

        `check` is called before anything is written, and again before the commit; it raises if the checkpoint must not
        be written.

        Raises:
            UserError, OSError: the store or a disk failed. Then the checkpoint is not committed, and earlier ones are
                untouched.
        """
        check()
        name = _name_of(progress.step)
        # Remove the leftovers of a killed process; the manifest first, so that no reader takes the rest for whole.
        self.store.remove(f"{name}/{MANIFEST}")
        self.store.remove_folder(name)
        try:
            files = self._write(name, tensors, history)
            check()
            self.store.write(f"{name}/{MANIFEST}", Manifest(progress, ranges, files).encode())
        except BaseException:
            if self.store.local:
                # A part of it on a full disk would leave no room for the next one.
                self.store.remove_folder(name)
            raise
        try:
            self._forget_old()
        except (OSError, UserError) as error:
            self._tell_left(error)
        return name

    def _write(self, name: str, tensors: Mapping[str, Tensor], history: bytes) -> dict[str, dict[str, int]]:
        """Write all files but the manifest; return size and checksum of each."""
        with self.store.disk_in_words(), self.store.staging(name) as folder:
            # Files that are uploaded from here need not survive a power failure.
            writer = FileSystemWriter(folder, sync_files=self.store.local)
            failure = failure_of(lambda: dcp.save(dict(tensors), storage_writer=writer, no_dist=True))
            if failure is not None:
                if of_machine(failure, str(folder)) is None:
                    try_folder(str(folder))  # torch does not always pass on the reason why a file could not be written
                raise failure
            (folder / HISTORY).write_bytes(history)
            paths = sorted(path for path in folder.iterdir() if path.is_file())
            return {path.name: fingerprint(path) for path in paths}

    def check_room(self, tensors: Mapping[str, Tensor]) -> None:
        """Refuse to begin a training whose checkpoints the disk cannot hold; write nothing.

        Raises:
            UserError: the disk has less room than the tensors need.
        """
        needed = sum(tensor.numel() * tensor.element_size() for tensor in tensors.values())
        folder = self.store.path if self.store.path is not None else temporary_folder()
        free, shown = room(folder), self.output if self.store.local else folder
        if free is None or free >= needed:
            return
        instead = "give another --output" if self.store.local else "name another folder for temporary files with TMPDIR"
        raise UserError(
            f"A checkpoint of this training takes {needed / 1e6:.1f} MB or more, and the disk of {shown} has "
            f"{free / 1e6:.1f} MB free. Free some space, or {instead}."
        )

    def _forget_old(self) -> None:
        """Remove all checkpoints but the newest committed ones, and older unfinished ones."""
        names = self.names()
        kept = [name for name in names if self.store.size(f"{name}/{MANIFEST}") is not None][: self.keep]
        for name in names:
            if kept and name < kept[-1]:
                self.store.remove(f"{name}/{MANIFEST}")
                self.store.remove_folder(name)

    # Reading

    def latest(self, device: torch.device = _CPU) -> Checkpoint | None:
        """Return the newest whole checkpoint, or None if none was ever committed; every rank calls this.

        Raises:
            UserError: on all ranks, if rank 0 cannot read the store, if all checkpoints are damaged, or if the
                checkpoint has another version. Or on one rank, if it does not see the folder that rank 0 read.
        """
        found: Checkpoint | None = None
        message: list[Any] = [None]
        if rank() == 0:
            try:
                found = self._newest_whole()
                message = [None if found is None else (found.progress, found.ranges, found.history)]
            except UserError as error:
                message = [error]
        if world_size() > 1:
            # One rank looks, so that all begin at the same step.
            dist.broadcast_object_list(message, src=0, device=device)
        if isinstance(message[0], UserError):
            raise message[0]
        if message[0] is None:
            return None
        progress, ranges, history = message[0]
        name = _name_of(progress.step)
        if self.store.local and self.store.size(f"{name}/{MANIFEST}") is None:
            raise UserError(
                f"Rank {rank()} does not see the checkpoint {self.store.name(name)} that rank 0 found. --output must "
                "be a folder on a disk that all nodes share, or an address in an object store (s3://BUCKET/PREFIX)."
            )
        tensors = broadcast_tensors(None if found is None else found.tensors, device)
        return Checkpoint(tensors, progress, ranges, history)

    def named(self, name: str) -> Checkpoint | None:
        """Return one checkpoint, None if it was never committed.

        Raises:
            UserError: it is damaged, or has another version.
        """
        try:
            manifest = self.manifest(name)
            return None if manifest is None else self._read(name, manifest)
        except Damaged as error:
            raise UserError(f"The checkpoint {self.store.name(name)} is damaged ({error}).") from error

    def manifest(self, name: str) -> Manifest | None:
        """Return a checkpoint's manifest, None if it was never committed.

        Raises:
            Damaged, UserError: as `Manifest.decode` does.
        """
        try:
            return Manifest.decode(self.store.read(f"{name}/{MANIFEST}"), self.store.name(name))
        except (FileNotFoundError, NotADirectoryError):
            return None

    def _tell_left(self, error: Exception) -> None:
        """Log once that old checkpoints stay; this is no failure of the new one."""
        cause = kind_of(error)
        if cause != self._left:
            logger.warning("checkpoints that are not needed any more stay in %s: %s", self.store.url, error)
        self._left = cause

    def verify(self, name: str, manifest: Manifest) -> None:
        """Read every file of a checkpoint.

        Raises:
            Damaged: a size or checksum differs from the manifest.
        """
        with self._verified(name, manifest):
            pass

    def names(self) -> list[str]:
        """Return the folders of all checkpoints, finished or not, newest first."""
        return sorted((name for name in self.store.folders() if is_checkpoint(name)), reverse=True)

    def _newest_whole(self) -> Checkpoint | None:
        seen: list[str] = []
        damaged: dict[str, str] = {}
        for _ in range(_LOOKS):
            names = self.names()
            if names == seen:
                break
            seen = names
            damaged.clear()
            for name in names:
                try:
                    manifest = self.manifest(name)
                    if manifest is None:
                        continue
                    return self._read(name, manifest)
                except Damaged as error:
                    damaged[name] = str(error)
                    logger.warning(
                        "the checkpoint %s is damaged (%s); looking for the one before it", self.store.name(name), error
                    )
            if not damaged:
                break
        if not damaged:
            return None
        # A new start would overwrite a run that is only hidden by a mount.
        reasons = "; ".join(f"{name} ({reason})" for name, reason in damaged.items())
        raise UserError(
            f"No checkpoint in {self.store.url} is whole: {reasons}. A faulty disk or mount looks the same: mend it, "
            "or copy the checkpoints back, and start again. To begin anew, give another --output."
        )

    def _read(self, name: str, manifest: Manifest) -> Checkpoint:
        with self.store.disk_in_words(), self._verified(name, manifest) as folder:
            reader = FileSystemReader(folder)
            tensors = {
                key: torch.empty(entry.size, dtype=entry.properties.dtype)
                for key, entry in reader.read_metadata().state_dict_metadata.items()
                if isinstance(entry, TensorStorageMetadata)
            }
            failure = failure_of(lambda: dcp.load(tensors, storage_reader=FileSystemReader(folder), no_dist=True))
            if failure is not None:
                raise failure
            history = (folder / HISTORY).read_bytes()
        return Checkpoint(tensors, manifest.progress, manifest.ranges, history)

    @contextmanager
    def _verified(self, name: str, manifest: Manifest) -> Iterator[Path]:
        """Yield a local folder with the checkpoint's files, whose sizes and checksums agree with the manifest.

        Raises:
            Damaged: a file differs; the message names it.
        """
        if self.store.path is not None:
            folder = Path(self.store.path) / name
            for file, expected in manifest.files.items():
                check_file(folder / file, expected)
            yield folder
            return
        with scratch() as folder, ThreadPoolExecutor(max(1, len(manifest.files))) as pool:

            def fetch(file: str) -> None:
                size = self.store.size(f"{name}/{file}")
                if size is None or size != manifest.files[file].get("size"):
                    raise Damaged(f"{file} is {'missing' if size is None else 'of another size'}")
                self.store.download(f"{name}/{file}", str(folder / file), size)
                check_file(folder / file, manifest.files[file])

            try:
                list(pool.map(fetch, manifest.files))
            except FileNotFoundError as error:
                raise Damaged(f"a file is missing ({error})") from error
            yield folder


def _name_of(step: int) -> str:
    return f"step-{step:08d}"
