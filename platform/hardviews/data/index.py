"""The index of a packed dataset: place, checksum and label of each sample."""

import hashlib
import io
import json
import os
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from hardviews.data.source import LabelSet
from hardviews.errors import UserError
from hardviews.storage.failures import Denied, DiskFailure, Refused
from hardviews.storage.patience import TRAINING
from hardviews.storage.store import Store, open_store
from hardviews.storage.url import cache_folder, local_path

FORMAT = "hardviews-shards"
VERSION = 1
VERSION_WITH_LABEL_SETS = 2
"""Version of the index if images may have several classes: older readers refuse it."""
INDEX_NAME = "index.json"
SAMPLES_NAME = "samples.npy"
LABEL_SETS_NAME = "label_sets.npy"

_READS = 3  # tries to read a remote table, whose bytes may be damaged on their way

# One row a sample, ordered by shard, then offset. `offset` and `size` locate the image's bytes inside the shard; its
# tar header is the 512 bytes before. `label` is -1 if there is none. 28 bytes.
SAMPLE = np.dtype(
    [
        ("shard", "<u4"),
        ("offset", "<u8"),
        ("size", "<u4"),
        ("crc32", "<u4"),
        ("label", "<i4"),
        ("width", "<u2"),
        ("height", "<u2"),
    ]
)


# A row of label sets has one number a class: the class is in the image, is not, or is not to be judged there.
PRESENT, ABSENT, IGNORED = 1, 0, -1


@dataclass(frozen=True)
class Shard:
    """One tar file: its name, bytes, number of samples and checksums."""

    name: str
    size: int
    count: int
    crc32: int
    sha256: str


class NoDataset(UserError):
    """No packed dataset is at an address."""


@dataclass(frozen=True, eq=False)
class Index:
    """A packed dataset without its images.

    `samples` has dtype `SAMPLE`, shape (n,). `digest` (hexadecimal SHA-256) identifies the dataset: two datasets with
    equal digests hold the same bytes in the same places, on any store. `label_sets`, int8 of shape (n, number of
    classes), holds PRESENT, ABSENT or IGNORED for each image and class. It is None if an image has one class at most.
    """

    url: str
    classes: tuple[str, ...] = field(repr=False)
    shards: tuple[Shard, ...] = field(repr=False)
    samples: npt.NDArray[Any] = field(repr=False)
    rejected: int
    digest: str
    label_sets: npt.NDArray[np.int8] | None = field(default=None, repr=False)

    def __len__(self) -> int:
        return len(self.samples)

    @property
    def counts(self) -> npt.NDArray[np.int64]:
        """Number of samples in each shard, shape (number of shards,)."""
        return np.array([shard.count for shard in self.shards], dtype=np.int64)

    @property
    def labels(self) -> npt.NDArray[np.int64]:
        """Label of each sample, -1 if there is none, shape (n,)."""
        return self.samples["label"].astype(np.int64)

    @property
    def labelled(self) -> bool:
        """Whether every sample has one label."""
        return bool((self.samples["label"] >= 0).all())

    @property
    def multi_label(self) -> bool:
        """Whether samples may have several labels, or none of the classes."""
        return self.label_sets is not None

    def __reduce__(self) -> tuple[Any, ...]:
        # A worker gets the address and maps the table itself: a pickled table would be copied to each worker, 28 bytes
        # a sample.
        return (_reload, (self.url, self.digest))

    @staticmethod
    def load(url: str, patience: float | None = None) -> "Index":
        """Read the index of the dataset at a URL; `patience` is as in `open_store`.

        Raises:
            UserError: there is no index, or it is damaged.
        """
        store = open_store(url, patience)
        index, table_sha256, sets_sha256 = _head(url, store)
        sets = None
        if sets_sha256 is not None:
            shape = (len(index), len(index.classes))
            sets = _load_array(store, LABEL_SETS_NAME, sets_sha256, np.dtype(np.int8), shape)
        samples = _load_array(store, SAMPLES_NAME, table_sha256, SAMPLE, (len(index),))
        return replace(index, samples=samples, label_sets=sets)

    @staticmethod
    def head(url: str, patience: float | None = None) -> "Index":
        """Read the index without its tables: every row of `samples` and of `label_sets` is zero.

        Raises:
            UserError: as `load` does; `NoDataset` if there is no index.
        """
        return _head(url, open_store(url, patience))[0]


def is_dataset(url: str, patience: float | None = None) -> bool:
    """Return whether an index lies at a URL.

    The answer is no if reading is denied: S3 denies access to missing files if the caller may not list.

    Raises:
        UserError: a store does not answer.
    """
    try:
        return open_store(url, patience).size(INDEX_NAME) is not None
    except Denied:
        return False


def dataset_around(url: str, patience: float | None = None) -> str | None:
    """Return the address of the packed dataset at or above a place; None if there is none.

    Links on this machine are followed. A folder that may not be read counts as no dataset.

    Raises:
        UserError: a store does not answer.
    """
    path = local_path(url)
    place = url.rstrip("/") if path is None else os.path.realpath(path)
    while True:
        try:
            content = json.loads(open_store(place, patience).read(INDEX_NAME))
            if isinstance(content, dict) and content.get("format") == FORMAT:
                return place
        except (OSError, ValueError, Refused, DiskFailure):
            pass  # no file, or a file of another program
        above = place.rpartition("/")[0] or "/"
        if above == place or above.endswith(("://", ":/")):
            return None
        place = above


def check_apart(option: str, url: str, patience: float | None = None) -> None:
    """Refuse a place for new files that is a packed dataset, or lies in one.

    Raises:
        UserError: the place lies in a dataset; the message names the option and the dataset.
    """
    dataset = dataset_around(url, patience)
    if dataset is not None:
        raise UserError(
            f"--{option} {url} lies in the packed dataset {dataset}, which holds nothing but its shards. Give a folder "
            "outside of it."
        )


def _head(url: str, store: Store) -> tuple[Index, str, str | None]:
    """Return an index whose tables are not read yet, and the checksums of its samples and label sets."""
    try:
        raw = store.read(INDEX_NAME)
    except (FileNotFoundError, NotADirectoryError):
        raise NoDataset(
            f"There is no packed dataset at {url!r} (no {INDEX_NAME}; it is written last, so an "
            f"interrupted pack has none). Make one with: hardviews pack --source IMAGES --out FOLDER"
        ) from None
    except OSError as error:
        raise UserError(f"The dataset at {url!r} cannot be read: {error}") from error
    try:
        head = json.loads(raw)
        if head["format"] != FORMAT:
            raise UserError(
                f"{store.name(INDEX_NAME)} is not the index of a hardviews dataset (its format is "
                f"{head['format']!r}). Give the folder that `hardviews pack` wrote."
            )
        if head["version"] not in (VERSION, VERSION_WITH_LABEL_SETS):
            raise UserError(
                f"The dataset at {url!r} has index version {head['version']}, and this hardviews reads versions up to "
                f"{VERSION_WITH_LABEL_SETS}. Pack it again with: hardviews pack --source IMAGES --out FOLDER "
                "--overwrite"
            )
        shards = tuple(Shard(**shard) for shard in head["shards"])
        classes = tuple(str(name) for name in head["classes"])
        n, table_sha256, rejected = int(head["n"]), str(head["samples_sha256"]), int(head["rejected"])
        digest = str(head["digest"])
        sets_sha256 = str(head["label_sets_sha256"]) if head["version"] == VERSION_WITH_LABEL_SETS else None
        intact = digest == dataset_digest(classes, shards, table_sha256, sets_sha256)
    except (ValueError, KeyError, TypeError) as error:
        raise _damaged(url, f"{INDEX_NAME} is cut or not an index ({type(error).__name__}: {error})") from error
    if not intact or sum(shard.count for shard in shards) != n:
        raise _damaged(url, f"{INDEX_NAME} contradicts its own digest")
    sets = None if sets_sha256 is None else np.zeros((n, len(classes)), np.int8)
    return Index(url, classes, shards, np.zeros(n, SAMPLE), rejected, digest, sets), table_sha256, sets_sha256


def dataset_digest(
    classes: tuple[str, ...], shards: tuple[Shard, ...], samples_sha256: str, label_sets_sha256: str | None = None
) -> str:
    """Return the SHA-256 (hexadecimal) of classes, checksums of shards, table of samples and label sets."""
    content: list[Any] = [FORMAT, VERSION, list(classes), [vars(shard) for shard in shards], samples_sha256]
    if label_sets_sha256 is not None:
        content = [FORMAT, VERSION_WITH_LABEL_SETS, *content[2:], label_sets_sha256]
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def encode_table(samples: npt.NDArray[Any]) -> bytes:
    """Return the bytes of `samples.npy`, equal for equal tables."""
    stream = io.BytesIO()
    np.lib.format.write_array(stream, np.ascontiguousarray(samples, dtype=SAMPLE), version=(1, 0))
    return stream.getvalue()


def encode_label_sets(sets: Sequence[LabelSet], classes: int) -> bytes:
    """Return the bytes of `label_sets.npy`, equal for equal sets.

    A class that is in both halves of a set is present.
    """
    rows = np.full((len(sets), classes), ABSENT, np.int8)
    for row, one in zip(rows, sets, strict=True):
        row[list(one.ignored)] = IGNORED
        row[list(one.present)] = PRESENT
    stream = io.BytesIO()
    np.lib.format.write_array(stream, rows, version=(1, 0))
    return stream.getvalue()


def encode_index(
    classes: tuple[str, ...],
    shards: tuple[Shard, ...],
    table: bytes,
    n: int,
    rejected: int,
    label_sets: bytes | None = None,
) -> bytes:
    """Return the bytes of `index.json`, equal for equal datasets."""
    table_sha256 = hashlib.sha256(table).hexdigest()
    sets_sha256 = None if label_sets is None else hashlib.sha256(label_sets).hexdigest()
    head = {
        "format": FORMAT,
        "version": VERSION if label_sets is None else VERSION_WITH_LABEL_SETS,
        "n": n,
        "rejected": rejected,
        "digest": dataset_digest(classes, shards, table_sha256, sets_sha256),
        "samples_sha256": table_sha256,
        **({} if sets_sha256 is None else {"label_sets_sha256": sets_sha256}),
        "classes": list(classes),
        "shards": [vars(shard) for shard in shards],
    }
    return (json.dumps(head, indent=1) + "\n").encode()


def _load_array(store: Store, name: str, sha256: str, dtype: np.dtype[Any], shape: tuple[int, ...]) -> npt.NDArray[Any]:
    """Return a verified table, mapped from a file; a remote table is first copied into the cache folder, once."""
    path = store.name(name)
    if store.local:
        if not os.path.isfile(path):
            raise _damaged(store.url, f"{name} is missing")
        intact = file_sha256(path) == sha256
    else:
        path = os.path.join(cache_folder(), "tables", f"{sha256}.npy")
        intact = _cache_table(store, name, path, sha256)
    if not intact:
        raise _damaged(store.url, f"{name} is missing, cut, altered or another dataset's")
    rows: npt.NDArray[Any] = np.load(path, mmap_mode="r", allow_pickle=False)
    if rows.dtype != dtype or rows.shape != shape:
        raise _damaged(store.url, f"{name} has {rows.shape} rows of {rows.dtype}, not {shape[0]} samples")
    return rows


def file_sha256(path: str) -> str:
    """SHA-256 (hexadecimal) of a file."""
    with open(path, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _cache_table(store: Store, name: str, path: str, sha256: str) -> bool:
    """Copy a remote table to a local path named by its content; return whether the content is right."""
    if os.path.exists(path) and file_sha256(path) == sha256:
        return True
    for _ in range(_READS):
        try:
            raw = store.read(name)
        except FileNotFoundError:
            return False
        if hashlib.sha256(raw).hexdigest() == sha256:
            break
    else:
        return False
    try:
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=os.path.dirname(path), delete=False) as stream:
            try:
                stream.write(raw)
                stream.flush()
                os.replace(stream.name, path)
            except BaseException:
                os.unlink(stream.name)
                raise
    except OSError as error:
        raise UserError(
            f"The table of the dataset at {store.url!r} cannot be kept in {os.path.dirname(path)!r}: {error.strerror}. "
            "Name a folder that can be written to with HARDVIEWS_CACHE."
        ) from error
    return True


def _damaged(url: str, what: str) -> UserError:
    return UserError(
        f"The dataset at {url!r} is damaged: {what}. Copy it again from a good copy, or pack it again "
        f"with: hardviews pack --source IMAGES --out FOLDER --overwrite"
    )


def _reload(url: str, digest: str) -> Index:
    """Unpickle: load again, and require the same dataset."""
    index = Index.load(url, TRAINING)
    if index.digest != digest:
        raise UserError(
            f"The dataset at {url!r} was replaced while it was in use: its digest was {digest[:12]}, now it "
            f"is {index.digest[:12]}. Start again with the new one, or restore the old."
        )
    return index
