"""A folder of files by URL: local paths directly, everything else through fsspec."""

import concurrent.futures
import contextlib
import errno
import os
import shutil
import tempfile
import uuid
from collections.abc import Callable
from typing import Any, TypeVar

from hardviews.errors import UserError
from hardviews.failures import of_machine
from hardviews.storage.answer import answer_of
from hardviews.storage.disk import in_words, nearest, try_folder
from hardviews.storage.failures import (
    CONDITIONAL,
    Denied,
    DiskFailure,
    NoBucket,
    Refused,
    Unreachable,
    Unsupported,
    is_taken,
    lacks,
)
from hardviews.storage.filesystem import file_system
from hardviews.storage.patience import STARTING, TRAINING, Patience, usual
from hardviews.storage.url import cache_folder, local_path, mistake, protocol_of

__all__ = [
    "STARTING",
    "TRAINING",
    "Denied",
    "DiskFailure",
    "NoBucket",
    "Refused",
    "Store",
    "Unreachable",
    "Unsupported",
    "cache_folder",
    "check_writable",
    "local_path",
    "protocol_of",
]

T = TypeVar("T")

PART = 8 * 2**20  # bytes per request of a large file, up and down
IN_FLIGHT = 6  # parts of one file at once: with PART, what a transfer takes of memory


class Store:
    """One folder, local or remote, whose files are read by range and written whole.

    A file is named by its path inside the folder: `index.json`, `checkpoints/step-00000012/manifest.json`. The fsspec
    instance is made on first use in each process and is never carried across a fork or a pickle: connections and event
    loops do not survive either. Failures of a remote store that may pass are waited out, in jittered pauses, for
    `patience` seconds a call (by default HARDVIEWS_PATIENCE, else a minute). What cannot pass (a missing bucket, wrong
    credentials) is a UserError at once, and a missing file a FileNotFoundError. After `patience`, or `close`, UserError
    (`Unreachable`). A disk of this machine that fails or is full is a UserError too (`DiskFailure`).
    """

    def __init__(self, url: str, patience: float | None = None) -> None:
        self.url = url.rstrip("/") or url
        if "://" in url and "://" not in self.url:
            raise UserError(f"{url} names no folder. Write {url.rstrip('/')}//bucket/folder.")
        wrong = mistake(url)
        if wrong:
            raise UserError(f"{url!r} {wrong}.")
        self.path = local_path(url)
        self.patience = usual() if patience is None else patience
        self.received = 0  # bytes
        self._calls = Patience(self.patience)
        self._fs: Any = None
        self._pid = os.getpid()

    def __getstate__(self) -> dict[str, Any]:
        return {"url": self.url, "patience": self.patience}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(**state)  # type: ignore[misc]

    @property
    def local(self) -> bool:
        """Whether the folder lies on this machine and is read without fsspec."""
        return self.path is not None

    @property
    def requests(self) -> int:
        """Calls since the store was made, those that were repeated included."""
        return self._calls.requests

    @property
    def retries(self) -> int:
        """Calls that were repeated since the store was made."""
        return self._calls.retries

    def inside(self, folder: str) -> "Store":
        """The store of a folder in this one."""
        return Store(self.name(folder), self.patience)

    def name(self, file: str) -> str:
        """The full address of a file, for messages and for fsspec."""
        return os.path.join(self.path, file) if self.path is not None else f"{self.url}/{file}"

    def fs(self) -> Any:
        """This process's fsspec file system."""
        if self._fs is None or self._pid != os.getpid():
            self._fs, self._pid = file_system(protocol_of(self.url)), os.getpid()
        return self._fs

    def close(self) -> None:
        """Give up what is being waited for, now and later."""
        self._calls.end()

    # Reading

    def size(self, file: str) -> int | None:
        """Bytes in a file, or None where there is no such file.

        Needs no right to list. Without that right, S3 denies what is not there: `Denied`.
        """
        try:
            if self.path is not None:
                return os.stat(self.name(file)).st_size if os.path.isfile(self.name(file)) else None
            if protocol_of(self.url) == "s3":
                return int(self._call(lambda: self.fs().length(self.name(file)), file))
            found = self._call(lambda: self.fs().info(self.name(file)), file)
        except (FileNotFoundError, NotADirectoryError) as error:
            if isinstance(error, UserError):
                raise
            return None
        return int(found["size"]) if found["type"] == "file" else None

    def read(self, file: str, start: int = 0, stop: int | None = None) -> bytes:
        """Bytes [start, stop) of a file, in one request; raises FileNotFoundError, or UserError."""
        if self.path is not None:
            self._calls.requests += 1
            with in_words(self.name(file)), open(self.name(file), "rb") as stream:
                stream.seek(start)
                return stream.read() if stop is None else stream.read(stop - start)
        if stop == start:
            return b""
        # Left to itself, s3fs asks for a whole file's size first.
        once = {"max_concurrency": 1} if protocol_of(self.url) == "s3" else {}

        def fetch() -> bytes:
            data = bytes(self.fs().cat_file(self.name(file), start=start or None, end=stop, **once))
            if stop is not None and len(data) != stop - start:
                raise OSError(f"{self.name(file)}: got {len(data)} bytes of {stop - start}")
            return data

        data = self._call(fetch, file)
        self.received += len(data)
        return data

    def download(self, file: str, target: str, size: int) -> None:
        """Copy a file of a known size to a local path; a remote one in concurrent ranged requests, each retried alone.

        Raises as `read`, and OSError where the disk is full.
        """
        if self.path is not None:
            with in_words(target):
                shutil.copyfile(self.name(file), target)
            return
        descriptor = os.open(target, os.O_RDWR | os.O_CREAT, 0o644)
        # Few threads, each with one part: memory stays bounded whatever the file's size.
        pool = concurrent.futures.ThreadPoolExecutor(min(IN_FLIGHT, max(1, -(-size // PART))), "part")
        try:

            def copy(start: int) -> None:
                data = self.read(file, start, min(start + PART, size))
                while data:
                    written = os.pwrite(descriptor, data, start)
                    data, start = data[written:], start + written

            for done in concurrent.futures.as_completed([pool.submit(copy, start) for start in range(0, size, PART)]):
                done.result()
        finally:
            pool.shutdown(wait=True, cancel_futures=True)
            os.close(descriptor)

    def sizes(self) -> dict[str, int]:
        """Bytes of each file directly in a remote folder, where its listing tells them."""
        found = {name: entry.get("size") for name, entry in self._listed("file").items()}
        return {name: int(size) for name, size in found.items() if size is not None}

    def files(self) -> list[str]:
        """Names of the files directly in the folder, sorted; empty where the folder does not exist."""
        return self._names("file")

    def folders(self) -> list[str]:
        """Names of the folders directly in the folder, sorted; empty where it does not exist."""
        return self._names("directory")

    # Writing

    def write(self, file: str, data: bytes, new: bool = False) -> None:
        """Write a file whole or not at all, with the folders that its name has.

        With `new`, a file that exists is left as it is and FileExistsError raised, also where two processes write at
        once.
        """
        if self.path is not None:
            self._place(file, new, lambda temporary: _spill(temporary, data))
            return
        self._check_kind()
        # Conditional writes are what S3 has; elsewhere fsspec ignores the mode, or looks first.
        mode = {"mode": "create"} if new else {}
        once = {"max_concurrency": 1} if protocol_of(self.url) == "s3" else {}
        name, tries = self.name(file), 0

        def send() -> None:
            nonlocal tries
            tries += 1
            try:
                self.fs().pipe_file(name, data, **mode)
            except Exception as error:
                if new and lacks(answer_of(error)):
                    raise Unsupported(
                        f"A conditional write of {name} failed ({answer_of(error)}). {CONDITIONAL}"
                    ) from error
                if not (new and is_taken(error)):
                    raise
                # An answer may get lost after the write: then the file that is there is ours.
                if tries == 1 or self.fs().cat_file(name, **once) != data:
                    raise FileExistsError(f"{name} exists already") from error

        self._call(send, file)

    def put(self, source: str, file: str, move: bool = True) -> None:
        """Publish a local file under a name of the folder: complete or not at all; removed where it was if `move`.

        A large file goes to S3 in parts; what was sent of it is discarded where that fails.
        """
        if self.path is not None:
            self._place(file, False, lambda temporary: _shift(source, temporary, move))
            return
        self._check_kind()
        parts = {"chunksize": PART, "max_concurrency": IN_FLIGHT} if protocol_of(self.url) == "s3" else {}
        self._call(lambda: self.fs().put_file(source, self.name(file), **parts), file)
        if move:
            os.unlink(source)

    def remove(self, file: str) -> None:
        """Delete a file; one that is not there is no error."""
        try:
            if self.path is not None:
                with in_words(self.name(file)):
                    os.unlink(self.name(file))
            else:
                self._call(lambda: self.fs().rm_file(self.name(file)), file)
        except FileNotFoundError as error:
            if isinstance(error, UserError):
                raise

    def remove_folder(self, folder: str) -> None:
        """Delete a folder and all that is in it; one that is not there is no error."""
        if self.path is not None:
            shutil.rmtree(self.name(folder), ignore_errors=True)
            return
        own = str(self.fs()._strip_protocol(self.name(folder))).rstrip("/") + "/"
        found = [str(path) for path in self._call(lambda: self.fs().find(self.name(folder)), folder)]
        files = [path.removeprefix(own) for path in found if path.startswith(own)]
        for file in files:
            self.remove(f"{folder}/{file}")
        if protocol_of(self.url) == "s3":
            # S3 has no folders, but some servers keep one as an empty file until that is deleted too.
            parents = {file.rsplit("/", number)[0] for file in files for number in range(1, file.count("/") + 1)}
            for parent in [*sorted(parents, key=len, reverse=True), ""]:
                self.remove(f"{folder}/{parent}/" if parent else f"{folder}/")

    def check_writable(self) -> None:
        """Raise UserError where files cannot be written and removed here; leaves nothing, makes no folder."""
        if self.path is not None:
            folder = nearest(self.path)
            try:
                try_folder(folder)
            except OSError as error:
                access = error.errno in (errno.EACCES, errno.EPERM, errno.ENOTDIR)
                remedy = None if access else of_machine(OSError(error.errno, error.strerror), folder)
                reason = f"{folder} is not a folder that we may write to ({error.strerror})."
                raise UserError(
                    f"{self.url} cannot be written: {remedy.words if remedy else reason} Give another one."
                ) from error
            return
        # Listing tells a missing bucket from a missing file, writing whether we may.
        self.files()
        probe = f".hardviews-{uuid.uuid4().hex}"
        # First what takes the probe back: deleting needs its own right, and S3 asks for it also if nothing is there.
        with contextlib.suppress(Unsupported):  # told below, unless writing tells more
            self.remove(probe)
        self.write(probe, b"may this process write here?\n")
        try:
            if protocol_of(self.url) == "s3":
                self._check_conditional(probe)
        finally:
            self.remove(probe)

    # Inside

    def _check_conditional(self, probe: str) -> None:
        """Raise Unsupported if the server makes a file anew that exists: an old one ignores the condition."""
        try:
            self.write(probe, b"may it write here twice?\n", new=True)
        except FileExistsError:
            return
        raise Unsupported(f"{self.url} cannot be written to: its server overwrites where it must not. {CONDITIONAL}")

    def _names(self, kind: str) -> list[str]:
        if self.path is None:
            return sorted(self._listed(kind))
        wanted = os.DirEntry.is_file if kind == "file" else os.DirEntry.is_dir
        try:
            return sorted(entry.name for entry in os.scandir(self.path) if wanted(entry))
        except (FileNotFoundError, NotADirectoryError):
            return []

    def _listed(self, kind: str) -> dict[str, Any]:
        """What fsspec says of each file or folder directly in a remote folder."""
        try:
            found = self._call(lambda: self.fs().ls(self.url, detail=True), "")
        except (FileNotFoundError, NotADirectoryError) as error:
            if isinstance(error, UserError):
                raise
            return {}
        entries = {str(entry["name"]).rstrip("/"): entry for entry in found if entry["type"] == kind}
        entries.pop(str(self.fs()._strip_protocol(self.url)), None)  # a console's placeholder for the folder itself
        return {path.rsplit("/", 1)[-1]: entry for path, entry in entries.items()}

    def _check_kind(self) -> None:
        if protocol_of(self.url) in ("http", "https"):
            raise Refused(f"{self.url} can only be read. Give a local folder or s3://bucket/folder to write to.")

    def _place(self, file: str, new: bool, fill: Callable[[str], None]) -> None:
        """Fill a temporary file beside a local file, then give it the file's name."""
        target = self.name(file)
        with in_words(target):
            self._fill(file, target, new, fill)

    def _fill(self, file: str, target: str, new: bool, fill: Callable[[str], None]) -> None:
        os.makedirs(os.path.dirname(target), exist_ok=True)
        handle, temporary = tempfile.mkstemp(prefix=f".{os.path.basename(file)}.", dir=os.path.dirname(target))
        os.close(handle)
        try:
            fill(temporary)
            os.chmod(temporary, 0o644)
            if new:
                os.link(temporary, target)  # unlike a rename, refuses where the name is taken
                os.unlink(temporary)
            else:
                os.replace(temporary, target)
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(temporary)
            raise

    def _call(self, function: Callable[[], T], file: str) -> T:
        if self._pid != os.getpid():
            # After a fork: a lock or an event of the parent's may be held for ever.
            self._calls = Patience(self.patience)
        return self._calls.call(function, self.url, self.name(file) if file else self.url)


def check_writable(option: str, url: str, patience: float | None = None) -> None:
    """Refuse a place that cannot be written, by the option that names it; leaves nothing there, makes no folder.

    Raises:
        UserError: naming the option and the place.
    """
    try:
        Store(url, patience).check_writable()
    except UserError as error:
        raise UserError(f"--{option}: {error}") from error


def _spill(path: str, data: bytes) -> None:
    with open(path, "wb") as stream:
        stream.write(data)


def _shift(source: str, target: str, move: bool) -> None:
    if move:
        shutil.move(source, target)  # a rename on the same file system, else a copy
    else:
        shutil.copyfile(source, target)
