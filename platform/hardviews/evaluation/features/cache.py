"""Features on the local disk, shared by the processes that see its folder and by later evaluations.

A file holds the rows of one dataset under one map and one preprocessing. It is filled by micro-batches; each is checked
by its CRC-32 whenever the file is opened, so a killed process loses at most the present micro-batch.

Shape suffixes: N samples, D features, M micro-batches.
"""

import fcntl
import hashlib
import json
import logging
import os
import random
import time
import uuid
import zlib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from hardviews.elastic.worker import advanced
from hardviews.errors import UserError
from hardviews.storage.disk import in_words
from hardviews.storage.url import cache_folder
from hardviews.world import World

logger = logging.getLogger(__name__)

_ELSEWHERE = "HARDVIEWS_CACHE names another folder for features."
_AGAIN = 0.5  # seconds, and up to twice as many, between two tries to lock a file
LIMIT = 64 * 10**9
"""Bytes of features that are kept on a machine; the least recently used go first."""


@dataclass(frozen=True)
class FeatureKey:
    """All that features depend on.

    Attributes:
        embedding: digest of the map.
        data: digest of the dataset.
        resize: see `Preprocess`.
        crop: see `Preprocess`.
        precision: precision of the network.
        device: kind of device, since kinds round differently.
        micro_batch: images encoded at once, for the same reason.
        interpolation: see `Preprocess`.
    """

    embedding: str
    data: str
    resize: int
    crop: int
    precision: str
    device: str
    micro_batch: int
    interpolation: str = "bicubic"

    @property
    def digest(self) -> str:
        """SHA-256 (hexadecimal) of all of it."""
        fields = {name: value for name, value in asdict(self).items() if (name, value) != ("interpolation", "bicubic")}
        return hashlib.sha256(json.dumps([1, fields], sort_keys=True).encode()).hexdigest()


class FeatureFile:
    """Rows (N, D) float32 on disk, with a note for each micro-batch that is written.

    It is written while holding `locked`.
    """

    def __init__(self, folder: Path, key: FeatureKey, rows: int) -> None:
        self._path = folder / f"{key.digest}.features"
        self._notes = folder / f"{key.digest}.crc32"
        self._rows, self._micro_batch = rows, key.micro_batch
        self._count = -(-rows // key.micro_batch)
        self._crc_M2 = self._read_notes()

    @staticmethod
    def of(key: FeatureKey, rows: int) -> "FeatureFile":
        """Return the file that another process of this machine has written."""
        return FeatureFile(_folder(), key, rows)

    @property
    def missing(self) -> list[int]:
        """The micro-batches that are to be written."""
        return [number for number in range(self._count) if not self._intact(number)]

    @property
    def width(self) -> int:
        """D, or 0 if no row is written yet."""
        size = self._path.stat().st_size if self._path.exists() else 0
        return size // (4 * self._rows)

    def write(self, micro_batch: int, values_BD: npt.NDArray[np.float32]) -> None:
        """Write the rows of a micro-batch, then the note that they are there."""
        values_BD = np.ascontiguousarray(values_BD, dtype=np.float32)
        size = 4 * values_BD.shape[1]
        with in_words(str(self._path.parent), _ELSEWHERE):
            with open(self._path, "r+b" if self._path.exists() else "w+b") as file:
                file.truncate(size * self._rows)
                file.seek(micro_batch * self._micro_batch * size)
                file.write(values_BD.data)
            self._crc_M2[micro_batch] = 1, zlib.crc32(values_BD.data)
            with open(self._notes, "r+b" if self._notes.exists() else "w+b") as file:
                file.seek(8 * micro_batch)
                file.write(self._crc_M2[micro_batch].data)

    def open(self) -> npt.NDArray[np.float32]:
        """Return the rows (N, D), mapped from the file; changes of them stay in this process."""
        os.utime(self._path)
        mapped = np.memmap(self._path, np.float32, "c", shape=(self._rows, self.width))
        return mapped.view(np.ndarray)

    def _read_notes(self) -> npt.NDArray[np.uint32]:
        notes_M2 = np.zeros((self._count, 2), np.uint32)
        with suppress(FileNotFoundError):
            raw = self._notes.read_bytes()[: notes_M2.nbytes]
            notes_M2.reshape(-1)[: len(raw) // 4] = np.frombuffer(raw[: len(raw) // 4 * 4], np.uint32)
        return notes_M2

    def _intact(self, micro_batch: int) -> bool:
        if not self._crc_M2[micro_batch, 0] or not self.width:
            return False
        first = micro_batch * self._micro_batch
        size = 4 * self.width
        with open(self._path, "rb") as file:
            file.seek(first * size)
            data = file.read((min(self._rows, first + self._micro_batch) - first) * size)
        return zlib.crc32(data) == int(self._crc_M2[micro_batch, 1])


@contextmanager
def locked(key: FeatureKey, rows: int, width: int, world: World) -> Iterator[FeatureFile | None]:
    """Yield the file of some features, which no other evaluation writes meanwhile; None on ranks that do not write.

    One rank writes of all that share a folder, whatever machines they are on. Every rank calls this. width: an upper
    bound of D, by which room is made for the file.

    Raises:
        DiskFailure: the folder cannot be used.
    """
    folder = _folder()
    with ExitStack() as stack:
        writes = _writer(folder, world)
        _lock(folder / f"{key.digest}.lock", writes, stack, world)

        def prepare() -> FeatureFile | None:
            if not writes:
                return None
            with in_words(str(folder), _ELSEWHERE):
                _make_room(folder, key, 4 * rows * width)
                return FeatureFile(folder, key, rows)

        files: list[FeatureFile | None] = []
        world.together(lambda: files.append(prepare()))
        yield files[0]


def _writer(folder: Path, world: World) -> bool:
    """Return whether this rank is the first of those that see its folder: each leaves a mark there and looks."""
    token = world.together(lambda: uuid.uuid4().hex)[0]
    mine = folder / f".{token}-{world.rank}"

    def mark() -> None:
        try:
            with in_words(str(folder), _ELSEWHERE):
                folder.mkdir(parents=True, exist_ok=True)
                mine.touch()
        except (NotADirectoryError, FileExistsError) as error:
            raise UserError(f"{error.filename} is a file and no folder. {_ELSEWHERE}") from error

    try:
        world.together(mark)
        seen = min(rank for rank in range(world.size) if (folder / f".{token}-{rank}").exists())
        world.together(lambda: None)  # all have looked
    finally:
        with suppress(OSError):
            mine.unlink()
    return seen == world.rank


def _lock(path: Path, writes: bool, stack: ExitStack, world: World) -> None:
    """Take the locks of all writers, or none and try again later: so two evaluations never wait for each other."""
    reported = False
    while True:
        with ExitStack() as tries:

            def take(tries: ExitStack = tries) -> bool:
                if not writes:
                    return True
                with in_words(str(path.parent), _ELSEWHERE):
                    lock = tries.enter_context(open(path, "w"))
                    try:
                        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    except BlockingIOError:
                        return False
                    return True

            if all(world.together(take)):
                stack.push(tries.pop_all())
                return
        if not reported and world.leads:
            reported = True
            logger.warning("another evaluation computes the same features: waiting for it")
        advanced()
        time.sleep(_AGAIN * (1 + random.SystemRandom().random()))


def _folder() -> Path:
    return Path(cache_folder()) / "features"


def _make_room(folder: Path, key: FeatureKey, size: int) -> None:
    """Remove the least recently used features of others until `size` bytes more are within the limit."""
    files = [path for path in folder.glob("*.features") if path.stem != key.digest]
    used = sum(path.stat().st_size for path in files) + size
    for path in sorted(files, key=lambda path: path.stat().st_mtime):
        if used <= LIMIT:
            return
        with open(path.with_suffix(".lock"), "w") as lock, suppress(BlockingIOError):
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)  # one that is in use stays
            used -= path.stat().st_size
            path.unlink()
            path.with_suffix(".crc32").unlink(missing_ok=True)
