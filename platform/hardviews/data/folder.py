"""A folder of images as a source: class folders, parts for training and testing, or flat and unlabelled."""

import hashlib
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

from hardviews.data.index import INDEX_NAME, SAMPLES_NAME
from hardviews.data.layout import Layout, Part, Tree, recognise
from hardviews.data.listing import listing_of
from hardviews.data.names import held_out_by, key, printable
from hardviews.data.scan import Scan, scan
from hardviews.data.source import Item, Source, Split, hold_out
from hardviews.errors import UserError
from hardviews.storage.url import local_path
from hardviews.views.formats import usual_extension

_MOST_BYTES = 2**31  # largest size of a file; larger than any picture that is decoded


@dataclass(frozen=True)
class Folder:
    """Image files of a folder. `files`: path relative to `root` and label of each."""

    root: str
    classes: tuple[str, ...]
    files: tuple[tuple[str, int], ...]

    def __len__(self) -> int:
        return len(self.files)

    def key(self, i: int) -> str:
        return key(self.files[i][0])

    def name(self, i: int) -> str:
        return printable(self.files[i][0])

    def path(self, i: int) -> str:
        return self.files[i][0]

    def stamp(self) -> str:
        made_of = f"{self.classes} {[label for _, label in self.files]} {listing_of(self.root, self._paths())}"
        return hashlib.sha256(made_of.encode(errors="surrogateescape")).hexdigest()

    def _paths(self) -> Iterator[str]:
        return (path for path, _ in self.files)

    def held_out_by(self, i: int) -> str:
        """Return the name that decides whether an image is held out."""
        return held_out_by(self.files[i][0])

    def read(self, i: int) -> Item:
        path, label = self.files[i]
        try:
            data = read_file(os.path.join(self.root, path))
        except OSError as error:
            if not os.path.isdir(self.root):
                raise UserError(
                    f"The folder {printable(self.root)!r} went away while its images were read ({error.strerror}). "
                    "Make it available again, and pack again."
                ) from error
            raise
        extension = usual_extension(os.path.splitext(path)[1].lstrip("."))
        return Item(key(path), data, extension, label, printable(path))


@dataclass(frozen=True)
class ImageFolder:
    """A folder of images that was walked through once."""

    found: Scan
    layout: Layout

    @staticmethod
    def open(path: str) -> "ImageFolder":
        """Walk through a folder and recognise its layout.

        Raises:
            UserError: the folder holds no images, or its layout is not a known one.
        """
        path = check_folder(path)
        found = scan(path)
        if not found.paths:
            raise found.refusal()
        return ImageFolder(found, recognise(Tree(found.paths), path))

    @property
    def labelled(self) -> bool:
        """Whether images for training have labels."""
        return bool(self.layout.train.classes)

    def remarks(self) -> list[str]:
        """Return one sentence for each remark to the user: on the recognised layout, and on files that are left out."""
        remarks = [*self.layout.remarks, *(f"left out: {what}" for what in self.found.left_out())]
        if len(self.layout.train.classes) == 1:
            name = printable(self.layout.train.classes[0])
            remarks.append(f"there is one class only, {name}: good for pretraining, but not for evaluation")
        return remarks

    def part(self, split: Split | None, hold_out_share: float = 0.0) -> Source:
        """Return the images for training or testing, or all images if there are no parts and `split` is None."""
        layout, train = self.layout, self._train
        if split is None:
            if layout.test is not None:
                raise UserError(
                    f"{self.found.root!r} holds the folders {' and '.join(layout.parts)}: say which one, with split "
                    "train or test."
                )
            return train
        if layout.test is not None:
            return train if split == "train" else self._source(layout.test)
        if not hold_out_share:
            raise UserError(
                f"{self.found.root!r} has no train and test folders to choose {split!r} from. Give hold_out (for "
                "example 0.2) to set images aside for testing, or no split."
            )
        return hold_out(train, split, hold_out_share)

    @cached_property
    def _train(self) -> Folder:
        return self._source(self.layout.train)

    def _source(self, part: Part) -> Folder:
        """Return the images of a part, numbered by the classes of the training part."""
        classes = self.layout.train.classes
        numbers = {name: number for number, name in enumerate(classes)}
        inside = os.path.join(part.folder, "")
        files = []
        for path in self.found.paths:
            if path.startswith(inside):
                top, separator, _ = path[len(inside) :].partition(os.sep)
                if part.classes and separator:
                    files.append((path, numbers[top]))
                elif not part.classes:
                    files.append((path, -1))
        return Folder(self.found.root, tuple(printable(name) for name in classes), tuple(files))


def image_folder(path: str, split: Split | None = None, hold_out_share: float = 0.0) -> Source:
    """Return the images of a folder of class folders, or of a flat folder (labels -1).

    Classes are the folders that hold images, at any depth, in alphabetical order. `split` chooses between folders for
    training and testing inside. If there are no such folders, it chooses between the images that `hold_out` leaves and
    takes. Every key and every hold-out decision depends on the path of the image alone. Left out are files without the
    extension of an image, hidden files, and folders made by machines.
    """
    return ImageFolder.open(path).part(split, hold_out_share)


def check_folder(source: str) -> str:
    """Return the local folder that a source names; if there is none, raise UserError with the way to make one."""
    path = local_path(source) if "://" in source else source
    if path is None:
        raise UserError(
            f"{source!r} is an address, and images are packed from a local folder. Copy them first, for example: "
            f"aws s3 sync {source} images. Then: hardviews pack --source images --out SHARDS, which may be an address."
        )
    if os.path.isdir(path):
        if any(_is_packed(os.path.join(path, name)) for name in ("", "train", "test")):
            raise UserError(
                f"{printable(path)!r} is packed already: give it to pretrain as --data. To pack it in another way, "
                "take the images that it was made of, or unpack its shards as docs/data.md shows."
            )
        return path
    if ".tar" in os.path.basename(path):
        raise UserError(
            f"{printable(path)!r} is not a folder of images. Unpack tar files first. If they are WebDataset shards, "
            "docs/data.md shows how to get class folders from them."
        )
    raise UserError(
        f"There is no folder of images at {printable(path)!r}. Give a folder with one sub-folder per class."
    )


def _is_packed(folder: str) -> bool:
    return all(os.path.isfile(os.path.join(folder, name)) for name in (INDEX_NAME, SAMPLES_NAME))


def read_file(path: str) -> bytes:
    """Return a file's bytes; raise OSError, and ValueError for anything that is not a file of a picture's size."""
    # A named pipe would block for ever. Without blocking it opens, and is refused below.
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    with open(descriptor, "rb") as stream:
        state = os.fstat(descriptor)
        if not stat.S_ISREG(state.st_mode):
            raise ValueError("not a regular file")
        if state.st_size > _MOST_BYTES:
            raise ValueError(f"{state.st_size} bytes: more than {_MOST_BYTES}")
        return stream.read()
