"""Write samples into shards, and publish these with an index beside them."""

import concurrent.futures
import contextlib
import fcntl
import hashlib
import io
import json
import os
import re
import shutil
import tempfile
import zlib
from collections.abc import Iterable
from typing import Any

import numpy as np
import numpy.typing as npt
import webdataset

from hardviews.data.claim import Claim
from hardviews.data.index import (
    INDEX_NAME,
    LABEL_SETS_NAME,
    SAMPLE,
    SAMPLES_NAME,
    Index,
    Shard,
    encode_index,
    encode_label_sets,
    encode_table,
)
from hardviews.data.prepare import Ready, Reject
from hardviews.data.source import LabelSet
from hardviews.errors import UserError
from hardviews.storage.disk import make_folder, temporary_folder
from hardviews.storage.store import Store

REJECTS_NAME = "rejects.jsonl"

_HEADER = 512  # bytes of a tar header and of a tar block
_STAGING = ".packing-"
_LEAVING = 10.0  # seconds to wait for a silent store while published files are removed
_KEY = re.compile(r"[^./]{1,90}")
_OURS = re.compile(r"shard-\d{6}\.tar")


class Writer:
    """Collects samples into shards, publishes them, and removes the published files if packing fails.

    A local target is filled at the end, from a hidden folder inside it. A remote target gets each shard once it is
    full, while the next is being filled, so local disk must hold two shards. A killed process leaves shards without an
    index. They are not a dataset, and the next pack into the folder replaces them.
    """

    def __init__(self, target: Store, shard_bytes: int, stale: list[str]) -> None:
        self._target, self._shard_bytes, self._stale = target, shard_bytes, stale
        self._shards: list[Shard] = []
        self._rows: list[tuple[int, ...]] = []  # rows of the open shard
        self._tables: list[npt.NDArray[Any]] = []  # rows of the closed shards, in a tenth of the memory
        self._label_sets: list[LabelSet] = []  # one a sample, or none at all
        self._rejects: list[Reject] = []
        self._keys: set[str] = set()
        self._published: list[str] = []
        self._tar: Any = None
        self._started = False
        self._made_target = False
        self._claim = None if target.local else Claim(target)
        self._uploads = None if target.local else concurrent.futures.ThreadPoolExecutor(1, "upload")
        self._uploading: concurrent.futures.Future[None] | None = None

    def __enter__(self) -> "Writer":
        parent = None
        if self._target.path is not None:
            parent = self._target.path
            if os.path.exists(parent) and not os.path.isdir(parent):
                raise UserError(f"{self._target.url!r} is a file. Give a folder to write the shards into.")
            self._made_target = not os.path.exists(parent)
            try:
                make_folder(parent)
                _clear_interrupted(parent)
                self._folder = tempfile.mkdtemp(prefix=_STAGING, dir=parent)
            except OSError as error:
                if self._made_target:
                    self._target.remove_if_empty()
                raise UserError(
                    f"The folder {self._target.url!r} cannot be written to: {error.strerror}. Choose another."
                ) from error
        else:
            assert self._claim is not None
            self._folder = tempfile.mkdtemp(prefix="hardviews-packing-", dir=temporary_folder())
            try:
                self._claim.take()
            except BaseException:
                os.rmdir(self._folder)
                raise
        self._lock = os.open(self._folder, os.O_RDONLY)
        fcntl.flock(self._lock, fcntl.LOCK_EX)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        if self._tar is not None:
            # If the disk is full, the rest of their buffers cannot be written.
            for closing in (self._tar, self._stream):
                with contextlib.suppress(OSError) if kind is not None else contextlib.nullcontext():
                    closing.close()
        if self._uploads is not None:
            self._uploads.shutdown(wait=True, cancel_futures=True)
        shutil.rmtree(self._folder, ignore_errors=True)
        os.close(self._lock)
        if self._claim is not None:
            # If the store is away, packing has waited for it already.
            with contextlib.suppress(UserError) if kind is not None else contextlib.nullcontext():
                self._leave_remote(self._target.patient(_LEAVING), failed=kind is not None)
        elif kind is not None:
            for name in self._published:
                self._target.remove(name)
        if kind is not None and self._made_target:
            self._target.remove_if_empty()

    def _leave_remote(self, target: Store, failed: bool) -> None:
        """Remove the published files if packing failed, unless another process has claimed the folder."""
        assert self._claim is not None
        self._claim.store = target
        if self._claim.holds():
            for name in self._published if failed else ():
                target.remove(name)
            self._claim.drop()

    def add(self, ready: Ready | Reject) -> None:
        """Append a sample to the open shard, or note that it was rejected."""
        if isinstance(ready, Reject):
            self._rejects.append(ready)
            return
        item = ready.item
        if not _KEY.fullmatch(item.key) or item.key in self._keys:
            raise UserError(
                f"The key {item.key!r} of {item.name!r} cannot be packed: a key has 1 to 90 characters, none "
                "of them '.' or '/', and occurs once. Rename the image."
            )
        self._keys.add(item.key)
        members = [{"__key__": item.key, item.extension: item.data}]
        if item.label >= 0:
            members.append({"__key__": item.key, "cls": str(item.label).encode()})
        needed = sum(_HEADER + _blocks(len(data)) for m in members for k, data in m.items() if k != "__key__")
        if self._tar is not None and self._tar.tarstream.offset + needed > self._shard_bytes:
            self._close_shard()
        if self._tar is None:
            self._open_shard()
        offset = self._tar.tarstream.offset + _HEADER
        for member in members:  # one call each: the writer sorts by extension, and the image must come first
            self._tar.write(member)
        row = (
            len(self._shards),
            offset,
            len(item.data),
            zlib.crc32(item.data),
            item.label,
            ready.width,
            ready.height,
        )
        self._rows.append(row)
        if item.labels is not None:
            self._label_sets.append(item.labels)

    def commit(self, classes: tuple[str, ...]) -> Index:
        """Publish the remaining files, the index last, and load the index."""
        self._close_shard()
        if not self._tables:
            first = self._rejects[0]
            raise UserError(
                f"None of the {len(self._rejects)} images could be read, so there is nothing to pack. "
                f"The first is {first.name!r}: {first.reason}. Check that these are images."
            )
        samples = np.concatenate(self._tables)
        table, shards = encode_table(samples), tuple(self._shards)
        files = {SAMPLES_NAME: table}
        label_sets = encode_label_sets(self._label_sets, len(classes)) if self._label_sets else None
        if label_sets is not None:
            files[LABEL_SETS_NAME] = label_sets
        if self._rejects:
            lines = (json.dumps(vars(reject)) + "\n" for reject in self._rejects)
            files[REJECTS_NAME] = "".join(lines).encode()
        files[INDEX_NAME] = encode_index(classes, shards, table, len(samples), len(self._rejects), label_sets)
        self._start()
        if self._target.local:
            for shard in shards:
                self._publish(shard.name)
        for name, content in files.items():
            if self._target.local:
                with open(os.path.join(self._folder, name), "wb") as stream:
                    stream.write(content)
                self._publish(name)
            else:
                self._send(name, content)
        for name in set(self._stale) - set(files) - {shard.name for shard in shards}:
            self._target.remove(name)
        return Index.load(self._target.url)

    def _start(self) -> None:
        """Remove the index of an earlier dataset before its first file is replaced."""
        if not self._started:
            self._started = True
            if INDEX_NAME in self._stale:
                self._target.remove(INDEX_NAME)

    def _open_shard(self) -> None:
        self._name = f"shard-{len(self._shards):06d}.tar"
        self._stream = open(os.path.join(self._folder, self._name), "wb")  # noqa: SIM115 (closed by _close_shard)
        self._tar = webdataset.TarWriter(
            self._stream, user="hardviews", group="hardviews", mode=0o444, mtime=0, encoder=False
        )

    def _close_shard(self) -> None:
        if self._tar is None:
            return
        self._tar.close()
        self._stream.close()
        self._tar = None
        path = os.path.join(self._folder, self._name)
        crc32, sha256 = checksums(path)
        self._shards.append(Shard(self._name, os.path.getsize(path), len(self._rows), crc32, sha256))
        self._tables.append(np.array(self._rows, dtype=SAMPLE))
        self._rows.clear()
        if not self._target.local:
            self._start()
            self._publish(self._name)

    def _publish(self, name: str) -> None:
        """Move a file of the hidden folder to the target; to a remote target in the background."""
        source = os.path.join(self._folder, name)
        if self._claim is None or self._uploads is None:
            self._published.append(name)
            self._target.put(source, name)
            return
        self._uploaded()
        self._claim.check()
        self._published.append(name)
        self._uploading = self._uploads.submit(self._target.put, source, name)

    def _uploaded(self) -> None:
        """Wait for the upload of a shard; raise the error that prevented it."""
        if self._uploading is not None:
            self._uploading.result()

    def _send(self, name: str, content: bytes) -> None:
        """Write a small file to a remote target; the index only if there is none."""
        assert self._claim is not None
        self._uploaded()
        self._claim.check()
        try:
            self._target.write(name, content, new=name == INDEX_NAME)
            self._published.append(name)
        except FileExistsError:
            raise UserError(
                f"Another process packed a dataset into {self._target.url!r} in the meantime. Pack into a folder of "
                "its own."
            ) from None


def _clear_interrupted(folder: str) -> None:
    """Remove the leftovers of a killed pack from a folder; raise UserError if a pack into it is still running."""
    for entry in os.scandir(folder):
        if not entry.name.startswith(_STAGING):
            continue
        descriptor = os.open(entry.path, os.O_RDONLY)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(entry.path)
        except BlockingIOError:
            raise UserError(
                f"Another process is packing into {folder!r}. Wait for it, or choose another folder."
            ) from None
        finally:
            os.close(descriptor)


def checksums(path: str) -> tuple[int, str]:
    """Return CRC-32 and SHA-256 (hexadecimal) of a file."""
    crc32, sha256 = 0, hashlib.sha256()
    with open(path, "rb") as stream:
        for part in _parts(stream):
            crc32 = zlib.crc32(part, crc32)
            sha256.update(part)
    return crc32, sha256.hexdigest()


def _parts(stream: io.BufferedReader) -> Iterable[bytes]:
    return iter(lambda: stream.read(2**20), b"")


def _blocks(size: int) -> int:
    return -(-size // _HEADER) * _HEADER


def is_ours(name: str) -> bool:
    """Whether a packed dataset holds a file of this name."""
    return name in (INDEX_NAME, SAMPLES_NAME, LABEL_SETS_NAME, REJECTS_NAME) or _OURS.fullmatch(name) is not None
