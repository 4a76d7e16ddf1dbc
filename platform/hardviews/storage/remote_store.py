"""A store that is not on this machine, through fsspec."""

import contextlib
import os
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import Any, TypeVar

from hardviews.storage import aws
from hardviews.storage.answer import answer_of
from hardviews.storage.disk import TEMPORARY_FOLDER, in_words, temporary_folder
from hardviews.storage.failures import CONDITIONAL, Misconfigured, Refused, Unsupported, is_taken, lacks
from hardviews.storage.filesystem import file_system
from hardviews.storage.patience import Patience, usual
from hardviews.storage.scratch import scratch
from hardviews.storage.url import protocol_of

T = TypeVar("T")

PART = 8 * 2**20  # bytes per request of a large file, for upload and download
IN_FLIGHT = 6  # parts of one file at once; times PART, the bound of a transfer's memory


class RemoteStore:
    """A folder that fsspec reaches. `hardviews.storage.store.Store` is its contract.

    The fsspec instance is made on first use in each process. It is never kept across a fork or a pickle, which
    connections and event loops do not survive. If a failure may pass, calls are repeated for `patience` seconds, with
    random pauses. After `patience`, or `close`, a failure is `Unreachable`. Other failures are a UserError at once.
    """

    local = False
    path: None = None

    def __init__(self, url: str, patience: float) -> None:
        """Name the folder by its URL, without a slash at its end."""
        self.url, self.patience = url, patience
        self.received = 0
        self._protocol = protocol_of(url)
        self._s3 = self._protocol == "s3"
        self._calls = Patience(patience)
        self._fs: Any = None
        self._pid = os.getpid()

    def __reduce__(self) -> tuple[object, ...]:
        return RemoteStore, (self.url, self.patience)

    @property
    def requests(self) -> int:
        return self._calls.requests

    @property
    def retries(self) -> int:
        return self._calls.retries

    def name(self, file: str) -> str:
        return f"{self.url}/{file}"

    def inside(self, folder: str) -> "RemoteStore":
        return RemoteStore(self.name(folder), self.patience)

    def patient(self, seconds: float | None) -> "RemoteStore":
        return RemoteStore(self.url, usual() if seconds is None else seconds)

    def close(self) -> None:
        self._calls.end()

    def fs(self) -> Any:
        """Return this process's fsspec file system."""
        if self._fs is None or self._pid != os.getpid():
            wrong = aws.mistake_in_keys() if self._s3 else None
            if wrong:
                raise Misconfigured(f"{self.url} cannot be reached. {wrong}")
            self._fs, self._pid = file_system(self._protocol), os.getpid()
        return self._fs

    # Reading

    def size(self, file: str) -> int | None:
        try:
            if self._s3:
                return int(self._call(lambda: self.fs().length(self.name(file)), file))
            found = self._call(lambda: self.fs().info(self.name(file)), file)
        except (FileNotFoundError, NotADirectoryError):
            return None
        return int(found["size"]) if found["type"] == "file" else None

    def sizes(self) -> dict[str, int]:
        found = {name: entry.get("size") for name, entry in self._listed("file").items()}
        return {name: int(size) for name, size in found.items() if size is not None}

    def read(self, file: str, start: int = 0, stop: int | None = None) -> bytes:
        if stop == start:
            return b""

        def fetch() -> bytes:
            data = bytes(self.fs().cat_file(self.name(file), start=start or None, end=stop, **self._whole()))
            if stop is not None and len(data) != stop - start:
                raise OSError(f"{self.name(file)}: got {len(data)} bytes of {stop - start}")
            return data

        data = self._call(fetch, file)
        self.received += len(data)
        return data

    def download(self, file: str, target: str, size: int) -> None:
        """Copy a file to a path of this machine in concurrent ranged requests, each retried alone.

        Raises:
            OSError: the disk is full; otherwise the errors of `read`.
        """
        descriptor = os.open(target, os.O_RDWR | os.O_CREAT, 0o644)
        # Few threads, each with one part: memory stays bounded for any size of file.
        pool = ThreadPoolExecutor(min(IN_FLIGHT, max(1, -(-size // PART))), "part")
        try:

            def copy(start: int) -> None:
                data = self.read(file, start, min(start + PART, size))
                while data:
                    written = os.pwrite(descriptor, data, start)
                    data, start = data[written:], start + written

            for done in as_completed([pool.submit(copy, start) for start in range(0, size, PART)]):
                done.result()
        finally:
            pool.shutdown(wait=True, cancel_futures=True)
            os.close(descriptor)

    def files(self) -> list[str]:
        return sorted(self._listed("file"))

    def folders(self) -> list[str]:
        return sorted(self._listed("directory"))

    def _listed(self, kind: str) -> dict[str, Any]:
        """Return fsspec's description of each file or folder directly in the folder, by name."""
        try:
            found = self._call(lambda: self.fs().ls(self.url, detail=True), "")
        except (FileNotFoundError, NotADirectoryError):
            return {}
        entries = {str(entry["name"]).rstrip("/"): entry for entry in found if entry["type"] == kind}
        entries.pop(
            str(self.fs()._strip_protocol(self.url)), None
        )  # placeholder for the folder itself, made by a web console
        return {path.rsplit("/", 1)[-1]: entry for path, entry in entries.items()}

    # Writing

    def write(self, file: str, data: bytes, new: bool = False) -> None:
        self._check_kind()
        # S3 has conditional writes; for other protocols fsspec ignores the mode, or looks first.
        mode = {"mode": "create"} if new else {}
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
                # An answer may get lost after the write: then the existing file is ours.
                if tries == 1 or self.fs().cat_file(name, **self._whole()) != data:
                    raise FileExistsError(f"{name} exists already") from error

        self._call(send, file)

    def put(self, source: str, file: str, move: bool = True) -> None:
        """Publish a file of this machine; a large one goes to S3 in parts, which are discarded if that fails."""
        self._check_kind()
        parts = {"chunksize": PART, "max_concurrency": IN_FLIGHT} if self._s3 else {}
        self._call(lambda: self.fs().put_file(source, self.name(file), **parts), file)
        if move:
            os.unlink(source)

    @contextlib.contextmanager
    def staging(self, folder: str) -> Iterator[Path]:
        with scratch() as here:
            yield here
            paths = sorted(path for path in here.iterdir() if path.is_file())
            with ThreadPoolExecutor(max(1, len(paths))) as pool:
                list(pool.map(lambda path: self.put(str(path), f"{folder}/{path.name}", move=False), paths))

    def disk_in_words(self) -> contextlib.AbstractContextManager[None]:
        return in_words(temporary_folder(), TEMPORARY_FOLDER)

    def remove(self, file: str) -> None:
        with contextlib.suppress(FileNotFoundError):
            self._call(lambda: self.fs().rm_file(self.name(file)), file)

    def remove_folder(self, folder: str) -> None:
        own = str(self.fs()._strip_protocol(self.name(folder))).rstrip("/") + "/"
        found = [str(path) for path in self._call(lambda: self.fs().find(self.name(folder)), folder)]
        files = [path.removeprefix(own) for path in found if path.startswith(own)]
        for file in files:
            self.remove(f"{folder}/{file}")
        if self._s3:
            # S3 has no folders, but some servers keep a folder as an empty file until it is deleted too.
            parents = {file.rsplit("/", number)[0] for file in files for number in range(1, file.count("/") + 1)}
            for parent in [*sorted(parents, key=len, reverse=True), ""]:
                self.remove(f"{folder}/{parent}/" if parent else f"{folder}/")

    def remove_if_empty(self) -> None:
        """Do nothing: a remote folder is the common start of its files' names."""

    def check_writable(self) -> None:
        # A listing fails if the bucket is missing, a write if the right is missing.
        self.files()
        probe = f".hardviews-{uuid.uuid4().hex}"
        # The deletion comes first: it needs its own right, which S3 checks even if there is no such file.
        with contextlib.suppress(Unsupported):  # the write raises it too, with the better message
            self.remove(probe)
        self.write(probe, b"may this process write here?\n")
        try:
            if self._s3:
                self._check_conditional(probe)
        finally:
            self.remove(probe)

    def _check_conditional(self, probe: str) -> None:
        """Raise Unsupported if the server overwrites an existing file: old servers ignore the condition."""
        try:
            self.write(probe, b"may it write here twice?\n", new=True)
        except FileExistsError:
            return
        raise Unsupported(f"{self.url} cannot be written to: its server overwrites where it must not. {CONDITIONAL}")

    def _check_kind(self) -> None:
        if self._protocol in ("http", "https"):
            raise Refused(f"{self.url} can only be read. Give a local folder or s3://bucket/folder to write to.")

    def _whole(self) -> dict[str, int]:
        """Return options of a read in one request: by default s3fs requests the size of a whole file first."""
        return {"max_concurrency": 1} if self._s3 else {}

    def _call(self, function: Callable[[], T], file: str) -> T:
        if self._pid != os.getpid():
            # After a fork: a lock or an event of the parent may be held for ever.
            self._calls = Patience(self.patience)
        return self._calls.call(function, self.url, self.name(file) if file else self.url)
