"""Test images that the encoder or its classifier may have seen: copies in the training set or in the pretraining data.

A copy has the same bytes (checksum and size), or looks the same: a perceptual hash within two bits, mirrored too.

Shape suffixes: N images, M test images.
"""

import os
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt

from hardviews.data.index import Index
from hardviews.data.perceptual_hash import Hashes, near, perceptual_hash
from hardviews.data.reader import Reader
from hardviews.data.sample import Sample
from hardviews.errors import UserError
from hardviews.ordered_map import ordered_map
from hardviews.progress import progress
from hardviews.runs.record import Record
from hardviews.storage.disk import in_words
from hardviews.storage.url import cache_folder
from hardviews.views.decode import DecodeError, decode

Look = Literal["auto", "bytes", "full", "off"]
TRAINING_SET = "the training set"
_MOST = 200_000  # images that `auto` decodes: more take longer than the evaluation
_AHEAD = 64


@dataclass(frozen=True, eq=False)
class Overlap:
    """Which test images have a copy elsewhere.

    `where` is the readable place of the other data. `same_M` marks images with equal bytes. `alike_M` marks images that
    look the same, including these; it equals `same_M` if only bytes were compared.
    """

    where: str
    same_M: npt.NDArray[np.bool_]
    alike_M: npt.NDArray[np.bool_]

    def remark(self) -> str:
        """Say how many there are, empty if there are none."""
        same, alike = int(self.same_M.sum()), int((self.alike_M & ~self.same_M).sum())
        if not same and not alike:
            return ""
        if not same:
            return f"{alike} of {len(self.same_M)} test images look like an image in {self.where}."
        more = f", and {alike} more look like one" if alike else ""
        return f"{same} of {len(self.same_M)} test images are copies of an image in {self.where}{more}."


def find_overlaps(test: Index, train: Index | None, place: str, look: Look, workers: int) -> list[Overlap]:
    """Compare the test images with the training set, and with the data that the encoder was pretrained on.

    `train`: None if nothing is fitted. `place` is the place of the encoder; a run's output contains the place of its
    data. `workers`: threads that decode images.
    """
    if look == "off":
        return []
    others = [] if train is None else [(TRAINING_SET, train)]
    pretraining = _pretraining(place)
    if pretraining is not None and (train is None or pretraining.digest != train.digest):
        others.append(("the pretraining data", pretraining))
    return [_overlap(where, test, other, look, workers) for where, other in others]


def _overlap(where: str, test: Index, other: Index, look: Look, workers: int) -> Overlap:
    same_M = np.isin(_contents(test), _contents(other))
    if look == "bytes" or (look == "auto" and max(len(test), len(other)) > _MOST):
        return Overlap(where, same_M, same_M)
    mine_M2, theirs_N2 = hashes(test, workers), hashes(other, workers)
    # Mirrored against as it is: of two images one is enough.
    alike_M = near(mine_M2[:, 0], np.concatenate((theirs_N2[:, 0], theirs_N2[:, 1])))
    return Overlap(where, same_M, same_M | alike_M)


def _contents(index: Index) -> npt.NDArray[np.uint64]:
    """Return checksum and size of each image as one number."""
    rows = index.samples
    return (rows["crc32"].astype(np.uint64) << np.uint64(32)) | rows["size"].astype(np.uint64)


def _pretraining(place: str) -> Index | None:
    """Return the data that a run was pretrained on, if it is known and still there."""
    try:
        record = Record.read(place)
        return Index.load(record.data) if record is not None and record.data else None
    except (UserError, OSError):
        return None


@lru_cache(maxsize=8)
def _loaded(path: str, rows: int) -> Hashes | None:
    try:
        found: Hashes = np.load(path, allow_pickle=False)
    except (OSError, ValueError):
        return None
    return found if found.shape == (rows, 2) and found.dtype == np.uint64 else None


def hashes(index: Index, workers: int) -> Hashes:
    """Return the hashes (N, 2) of all images and of their mirror images, from this machine's cache if they are there.

    An image that cannot be decoded has a hash of zeros.
    """
    path = Path(cache_folder()) / "hashes" / f"{index.digest}.npy"
    held = _loaded(str(path), len(index)) if path.exists() else None
    if held is not None:
        return held
    found_N2 = np.zeros((len(index), 2), np.uint64)
    reader = Reader(index)
    try:
        taken = ordered_map(_hashed, reader.iterate_all(), max(1, workers), ahead=_AHEAD)
        for row, pair in enumerate(progress(taken, len(index), "looking for copies")):
            found_N2[row] = pair
    finally:
        reader.close()
    with in_words(str(path.parent), "HARDVIEWS_CACHE names another folder."):
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_suffix(f".{os.getpid()}.npy")
        np.save(partial, found_N2, allow_pickle=False)
        partial.replace(path)
    return found_N2


def _hashed(sample: Sample) -> tuple[int, int]:
    try:
        return perceptual_hash(decode(sample.data))
    except DecodeError:
        return 0, 0
