"""SimCLR's published lists of labelled images of ImageNet: 1 and 10 % (Chen et al. 2020, section 4).

Files of google-research/simclr (Apache-2.0), folder `imagenet_subsets`: one file name a line, without a folder. They
are not shipped: the user gives a file, or it is fetched. A file with another SHA-256 than the published one is refused.
"""

import hashlib
import os
import re
from collections import defaultdict
from dataclasses import dataclass

from hardviews.data.index import Index
from hardviews.data.names import stem_of
from hardviews.data.reader import Reader, ReaderConfig
from hardviews.errors import UserError
from hardviews.progress import progress
from hardviews.storage.store import open_store

PLACE = "https://raw.githubusercontent.com/google-research/simclr/master/imagenet_subsets"
"""Address from which the lists are fetched."""
_PATIENCE = 10.0  # seconds until a fetch is given up
_SHOWN = 3


@dataclass(frozen=True)
class PublishedList:
    """A list by its name on the command line, its file, number of images, and SHA-256 (hexadecimal)."""

    name: str
    file: str
    images: int
    sha256: str

    @property
    def called(self) -> str:
        """Return its name in records: the name, and the first digits of the checksum."""
        return f"{self.name} (SHA-256 {self.sha256[:8]})"


LISTS = {
    one.name: one
    for one in (
        PublishedList(
            "simclr-1%", "1percent.txt", 12_811, "71e82a48ba78252683ae334c4d019ebd5c6e855b9599c1389fbe83eb9549cf17"
        ),
        PublishedList(
            "simclr-10%", "10percent.txt", 128_116, "6d09de11e7bdaf5b1f3b1f249b6183695f97310cdd20f0c03e7235b6b9392091"
        ),
    )
}


def read_names(published: PublishedList, place: str | None = None) -> list[str]:
    """Return the names of the images in a list.

    `place` is path or URL of the file, or of its folder; None fetches the file.

    Raises:
        UserError: the file cannot be read, or is not the published one.
    """
    address = PLACE if place is None else os.path.expanduser(place)
    folder, _, file = address.rpartition("/") if address.endswith(".txt") else (address.rstrip("/"), "", published.file)
    try:
        data = open_store(folder or ".", _PATIENCE).read(file)
    except (OSError, UserError) as error:
        fetched = "could not be fetched" if place is None else "cannot be read"
        reason = "there is no such file" if isinstance(error, FileNotFoundError) else str(error).rstrip(".")
        raise UserError(
            f"The list {published.name} {fetched} from {folder or '.'}/{file} ({reason}). Get {PLACE}/{published.file} "
            f"on a machine with a network, and give its place: --labels-list {published.file}"
        ) from error
    found = hashlib.sha256(data).hexdigest()
    if found != published.sha256:
        raise UserError(
            f"{folder or '.'}/{file} is not the list {published.name}: {_difference(published, data, found)}. The "
            f"SHA-256 of the published file begins with {published.sha256[:8]}, of this one with {found[:8]}. Get "
            f"{PLACE}/{published.file}"
        )
    return data.decode().split()


def _difference(published: PublishedList, data: bytes, found: str) -> str:
    """Return the difference between a file and a published list, in words."""
    other = next((one.name for one in LISTS.values() if one.sha256 == found), None)
    lines = data.count(b"\n")
    if other is not None:
        return f"it is {other}"
    if b"\r" in data and hashlib.sha256(data.replace(b"\r", b"")).hexdigest() == published.sha256:
        return "its lines end in the way of Windows"
    if lines < published.images:
        return f"it has {lines:,} lines and the list {published.images:,}, so it may be cut"
    return f"it has {lines:,} lines and the list {published.images:,}"


def rows_of(index: Index, published: PublishedList, place: str | None) -> list[int]:
    """Return the rows of a packed dataset that a list names, in the dataset's order; the keys of all images are read.

    Raises:
        UserError: as `read_names` does; or an image of the list is not in the dataset, or is there twice.
    """
    wanted = {stem_of(name): name for name in read_names(published, place)}
    parts = {name.count("_") + 1 for name in wanted}
    rows: dict[str, list[int]] = defaultdict(list)
    example = ""
    reader = Reader(index, ReaderConfig(ahead=0))
    try:
        for row, key in enumerate(progress(reader.read_keys(), len(index), f"looking for {published.name}")):
            example = example or key
            words = re.sub("-[0-9a-f]{16}$", "", key).split("_")
            for name in {"_".join(words[-count:]) for count in parts} & wanted.keys():
                rows[name].append(row)
    finally:
        reader.close()
    missing = [wanted[name] for name in wanted if name not in rows]
    if missing:
        raise UserError(
            f"{len(missing):,} of the {len(wanted):,} images of {published.name} are not in {index.url}, for example "
            f"{', '.join(missing[:_SHOWN])}. Images are found by the names of their files, and a key there is "
            f"{example}. Give ImageNet's training images, packed from their class folders."
        )
    twice = [(wanted[name], found) for name, found in rows.items() if len(found) > 1]
    if twice:
        raise UserError(
            f"{len(twice):,} images of {published.name} are several times in {index.url}, for example {twice[0][0]} in "
            f"the rows {twice[0][1][0]} and {twice[0][1][1]}. Give a dataset that holds each image once."
        )
    return sorted(row for found in rows.values() for row in found)
