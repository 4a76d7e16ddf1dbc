"""A store in a folder of this machine."""

import contextlib
import errno
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from hardviews.errors import UserError
from hardviews.failures import of_machine
from hardviews.storage.disk import in_words, make_folder, nearest, remove_made, try_folder


class LocalStore:
    """A folder of this machine. `hardviews.storage.store.Store` is its contract."""

    local = True
    retries = 0
    received = 0

    def __init__(self, path: str, url: str = "") -> None:
        """Name the folder by its absolute path; `url` is its address in messages, by default the path."""
        self.path, self.url = path, url or path
        self.requests = 0

    def __reduce__(self) -> tuple[object, ...]:
        return LocalStore, (self.path, self.url)

    def name(self, file: str) -> str:
        return os.path.join(self.path, file)

    def inside(self, folder: str) -> "LocalStore":
        return LocalStore(self.name(folder))

    def patient(self, seconds: float | None) -> "LocalStore":
        return LocalStore(self.path, self.url)

    def close(self) -> None:
        """Do nothing: there are no waits for a local folder."""

    # Reading

    def size(self, file: str) -> int | None:
        try:
            return os.stat(self.name(file)).st_size if os.path.isfile(self.name(file)) else None
        except (FileNotFoundError, NotADirectoryError):
            return None

    def sizes(self) -> Mapping[str, int]:
        return {}

    def read(self, file: str, start: int = 0, stop: int | None = None) -> bytes:
        self.requests += 1
        with in_words(self.name(file)), open(self.name(file), "rb") as stream:
            stream.seek(start)
            return stream.read() if stop is None else stream.read(stop - start)

    def download(self, file: str, target: str, size: int) -> None:
        with in_words(target):
            shutil.copyfile(self.name(file), target)

    def files(self) -> list[str]:
        return self._names(os.DirEntry.is_file)

    def folders(self) -> list[str]:
        return self._names(os.DirEntry.is_dir)

    def _names(self, wanted: Callable[["os.DirEntry[str]"], bool]) -> list[str]:
        try:
            return sorted(entry.name for entry in os.scandir(self.path) if wanted(entry))
        except (FileNotFoundError, NotADirectoryError):
            return []

    # Writing

    def write(self, file: str, data: bytes, new: bool = False) -> None:
        self._place(file, new, lambda temporary: _spill(temporary, data))

    def put(self, source: str, file: str, move: bool = True) -> None:
        # A move is a rename on the same file system, else a copy.
        copy = shutil.move if move else shutil.copyfile
        self._place(file, False, lambda temporary: copy(source, temporary))

    @contextlib.contextmanager
    def staging(self, folder: str) -> Iterator[Path]:
        path = Path(self.name(folder))
        make_folder(str(path))
        yield path

    def disk_in_words(self) -> contextlib.AbstractContextManager[None]:
        return in_words(self.url)

    def remove(self, file: str) -> None:
        with contextlib.suppress(FileNotFoundError), in_words(self.name(file)):
            os.unlink(self.name(file))

    def remove_folder(self, folder: str) -> None:
        shutil.rmtree(self.name(folder), ignore_errors=True)

    def remove_if_empty(self) -> None:
        with contextlib.suppress(OSError):
            os.rmdir(self.path)
            remove_made(os.path.dirname(self.path))

    def check_writable(self) -> None:
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

    def _place(self, file: str, new: bool, fill: Callable[[str], object]) -> None:
        """Fill a temporary file beside a file, then give it the file's name."""
        target = self.name(file)
        with in_words(target):
            self._fill(target, new, fill)

    def _fill(self, target: str, new: bool, fill: Callable[[str], object]) -> None:
        folder, name = os.path.split(target)
        make_folder(folder)
        handle, temporary = tempfile.mkstemp(prefix=f".{name}.", dir=folder)
        os.close(handle)
        try:
            fill(temporary)
            os.chmod(temporary, 0o644)
            if new:
                os.link(temporary, target)  # unlike a rename, it refuses an existing name
                os.unlink(temporary)
            else:
                os.replace(temporary, target)
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(temporary)
            raise


def _spill(path: str, data: bytes) -> None:
    with open(path, "wb") as stream:
        stream.write(data)
