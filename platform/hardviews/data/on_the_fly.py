"""Packs a data set that is named in another form, once, into the cache of this machine.

Processes that want it at the same time wait for the one that packs. Its place is named by a digest of its images, so
a changed folder is packed again. Equal images get the same digest as from `hardviews pack`.
"""

import fcntl
import hashlib
import json
import os
import re
import shutil
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from hardviews.data.address import is_unpacked, name_of_address, read_address
from hardviews.data.index import Index
from hardviews.data.joined import renumbered
from hardviews.data.names import printable
from hardviews.data.pack import pack
from hardviews.data.source import Source, Split, stamp_of
from hardviews.errors import UserError
from hardviews.storage.disk import in_words
from hardviews.storage.url import cache_folder

_VERSION = 1  # version of the way in which images become a packed data set here
_ELSEWHERE = "HARDVIEWS_CACHE names another folder for packed data sets."
_PARTIAL = ".partial"


def packed_parts(address: str) -> tuple[str, str]:
    """Return the folders of the packed training and test part of a data set that is not packed.

    Raises:
        UserError: the data set does not exist, or it has no labels and so no test part.
    """
    parts = read_address(address).parts(_say)
    if "test" not in parts:
        raise UserError(
            f"Evaluation needs labels, and {printable(address)} has none. Put the images of each class in a folder of "
            "its own, or list them with their labels."
        )
    folder = _packed(address, parts)
    return str(folder / "train"), str(folder / "test")


def packed_part(address: str, split: Split, classes: tuple[str, ...] | None = None) -> str:
    """Return the address of a packed part; a data set that is packed already keeps its address.

    `classes` are the classes of the training part, which number the labels.

    Raises:
        UserError: the data set does not exist, or has a class that is not among `classes`.
    """
    if not is_unpacked(address):
        return address
    source = read_address(address).whole(split, _say)
    if not source.classes:
        raise UserError(f"Evaluation needs labels, and {printable(address)} has none.")
    if classes is not None:
        source = renumbered(source, classes)
    return str(_packed(address, {split: source}) / split)


def packed_pair(train: str, test: str) -> tuple[str, str]:
    """Return the addresses of two packed parts, each given in any form.

    Classes are matched by name, and numbered as in the training part.
    """
    first = packed_part(train, "train")
    if not is_unpacked(test):
        return first, test
    return first, packed_part(test, "test", Index.head(first).classes)


def _packed(address: str, parts: Mapping[Split, Source]) -> Path:
    """Return the folder of packed parts; pack them if nobody has."""
    made_of = {split: stamp_of(source) for split, source in parts.items()}
    key = hashlib.sha256(json.dumps([_VERSION, made_of], sort_keys=True).encode()).hexdigest()[:32]
    folder = Path(cache_folder()) / "packed"
    # Its last parts are the readable name of the data set, as everywhere.
    name = re.sub(r"[^A-Za-z0-9._-]", "_", name_of_address(address)).lstrip(".") or "data"
    with _locked(folder, key):
        found = folder / key
        if not found.exists():
            partial = folder / f"{key}{_PARTIAL}"
            shutil.rmtree(partial, ignore_errors=True)  # left by a killed process
            try:
                for split, source in parts.items():
                    print(f"packing {printable(address)}, {split}, once, into {found}", file=sys.stderr)
                    pack(source, str(partial / name / split))
                os.rename(partial, found)
            finally:
                shutil.rmtree(partial, ignore_errors=True)
        return next(found.iterdir())  # under another name, if the same images were packed before


@contextmanager
def _locked(folder: Path, key: str) -> Iterator[None]:
    """Let one process at a time pack a data set; the others wait."""
    with in_words(str(folder), _ELSEWHERE):
        folder.mkdir(parents=True, exist_ok=True)
        lock = open(folder / f"{key}.lock", "w")  # noqa: SIM115 (closed below)
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print("another process packs the same images: waiting for it", file=sys.stderr, flush=True)
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _say(sentence: str) -> None:
    print(sentence, file=sys.stderr)
