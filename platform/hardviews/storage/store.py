"""The contract of a store, a folder of files by URL, and the function that opens one."""

from collections.abc import Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Protocol

from hardviews.errors import UserError
from hardviews.storage.local_store import LocalStore
from hardviews.storage.patience import usual
from hardviews.storage.remote_store import RemoteStore
from hardviews.storage.url import local_path, mistake


class Store(Protocol):
    """One folder whose files are read by range and written whole: a `LocalStore` or a `RemoteStore`.

    A file is named by its path inside the folder: `index.json`, `checkpoints/step-00000012/manifest.json`.

    A missing file is a FileNotFoundError. Other failures are UserErrors: `DiskFailure` of a disk of this machine;
    `NoBucket`, `Refused` or `Unreachable` of a remote store.
    """

    @property
    def url(self) -> str:
        """Address of the folder as the user wrote it, without a final slash."""

    @property
    def path(self) -> str | None:
        """Absolute path of a local folder; None if the folder is remote."""

    @property
    def local(self) -> bool:
        """Whether the folder is on this machine."""

    @property
    def requests(self) -> int:
        """Number of reads and, for a remote store, of all other requests; repeated ones count again."""

    @property
    def retries(self) -> int:
        """Number of requests that were repeated."""

    @property
    def received(self) -> int:
        """Bytes that were read over the network."""

    def name(self, file: str) -> str:
        """Return the full address of a file."""

    def inside(self, folder: str) -> "Store":
        """Return the store of a folder in this one."""

    def patient(self, seconds: float | None) -> "Store":
        """Return another store of the same folder, with another patience; None as in `open_store`."""

    def close(self) -> None:
        """End the present waits of this store, and make no later ones."""

    # Reading

    def size(self, file: str) -> int | None:
        """Return the bytes in a file, or None if there is no such file.

        This needs no right to list. Without that right, S3 denies files that do not exist: `Denied`.
        """

    def sizes(self) -> Mapping[str, int]:
        """Return the bytes of files directly in the folder, if one listing is cheaper than `size` of each.

        Files that are not in the answer may exist: only `size` is sure.
        """

    def read(self, file: str, start: int = 0, stop: int | None = None) -> bytes:
        """Return bytes [start, stop) of a file, in one request."""

    def download(self, file: str, target: str, size: int) -> None:
        """Copy a file of `size` bytes to a path of this machine."""

    def files(self) -> list[str]:
        """Return the sorted names of the files directly in the folder; none if the folder does not exist."""

    def folders(self) -> list[str]:
        """Return the sorted names of the folders directly in the folder; none if the folder does not exist."""

    # Writing

    def write(self, file: str, data: bytes, new: bool = False) -> None:
        """Write a file whole or not at all, with the folders in its name.

        Raises:
            FileExistsError: `new` is set and the file exists. It stays as it is, even if two processes write at once.
        """

    def put(self, source: str, file: str, move: bool = True) -> None:
        """Publish a file of this machine whole or not at all; `move` removes the source afterwards."""

    def staging(self, folder: str) -> AbstractContextManager[Path]:
        """Yield a folder of this machine; after the block its files are in a folder of this store.

        If the block fails, a local folder keeps its files, and nothing is sent to a remote one.
        """

    def disk_in_words(self) -> AbstractContextManager[None]:
        """Raise failures of the disk that files are prepared on as DiskFailure.

        This is the disk of a local folder. For a remote one it is the disk of temporary files.
        """

    def remove(self, file: str) -> None:
        """Delete a file, if it exists."""

    def remove_folder(self, folder: str) -> None:
        """Delete a folder and everything in it, if it exists."""

    def remove_if_empty(self) -> None:
        """Delete the folder of this store itself if it is empty, and folders above it that this process has made."""

    def check_writable(self) -> None:
        """Raise UserError if files cannot be written and removed here; leave no file, make no folder."""


def open_store(url: str, patience: float | None = None) -> Store:
    """Return the store of a folder by its path or URL; nothing is read yet.

    `patience` is the time in seconds that each request waits for a remote store to recover; None for
    HARDVIEWS_PATIENCE, or a minute.

    Raises:
        UserError: the URL is mistyped, or HARDVIEWS_PATIENCE is not a number.
    """
    wrong = mistake(url)
    if wrong:
        raise UserError(f"{url!r} {wrong}.")
    address = url.rstrip("/") or url
    path, seconds = local_path(url), usual() if patience is None else patience
    return RemoteStore(address, seconds) if path is None else LocalStore(path, address)


def check_writable(option: str, url: str, patience: float | None = None) -> None:
    """Refuse a place that cannot be written, by the option that names it; leave no file, make no folder.

    Raises:
        UserError: the place is refused; the message names it and the option.
    """
    try:
        open_store(url, patience).check_writable()
    except UserError as error:
        raise UserError(f"--{option}: {error}") from error
