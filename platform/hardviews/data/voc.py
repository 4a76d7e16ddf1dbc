"""Pascal VOC as a source of images with several classes each, from the boxes of torchvision's VOCDetection.

A class is present in an image if it has an object that is not marked as difficult there. It is ignored if all of its
objects are difficult (Everingham et al. 2010, section 4.1; the same rule as in VISSL's `create_voc_data_files.py`).
"""

import hashlib
import os
from dataclasses import dataclass
from typing import Any
from xml.etree import ElementTree

from hardviews.data.folder import read_file
from hardviews.data.listing import listing_of
from hardviews.data.names import key
from hardviews.data.source import Item, LabelSet
from hardviews.errors import UserError

CLASSES = (
    *("aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow", "diningtable", "dog"),
    *("horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor"),
)
_NUMBERS = {name: number for number, name in enumerate(CLASSES)}


@dataclass(frozen=True)
class Voc:
    """Images of one part of one year; `files` holds the path of each relative to `root`, and its classes."""

    root: str
    year: str
    files: tuple[tuple[str, LabelSet], ...]

    classes = CLASSES

    @staticmethod
    def of(dataset: Any) -> "Voc":
        """Read the annotations of a VOCDetection.

        Raises:
            UserError: a file of annotations is missing or is not one of Pascal VOC.
        """
        pairs = zip(dataset.images, dataset.targets, strict=True)
        root = os.path.dirname(os.path.abspath(os.path.dirname(dataset.images[0]))) if dataset.images else ""
        files = ((os.path.relpath(image, root), label_set(target)) for image, target in pairs)
        return Voc(root, dataset.year, tuple(files))

    def __len__(self) -> int:
        return len(self.files)

    def key(self, i: int) -> str:
        return key(f"voc{self.year}/{self.files[i][0]}")

    def name(self, i: int) -> str:
        return self.files[i][0]

    def path(self, i: int) -> str:
        return self.files[i][0]

    def read(self, i: int) -> Item:
        path, labels = self.files[i]
        return Item(self.key(i), read_file(os.path.join(self.root, path)), "jpg", -1, path, labels)

    def stamp(self) -> str:
        listed = listing_of(self.root, (path for path, _ in self.files))
        return hashlib.sha256(f"{self.year} {[labels for _, labels in self.files]} {listed}".encode()).hexdigest()


def label_set(path: str) -> LabelSet:
    """Return the classes of an image by the file of its boxes.

    Raises:
        UserError: the file is missing, is not XML, or names a class that is not one of the twenty.
    """
    seen: set[int] = set()
    difficult: set[int] = set()
    try:
        for box in ElementTree.parse(path).iter("object"):
            number = _NUMBERS[(box.findtext("name") or "").strip()]
            (difficult if (box.findtext("difficult") or "0").strip() == "1" else seen).add(number)
    except (OSError, ElementTree.ParseError, KeyError) as error:
        reason = f"class {error}" if isinstance(error, KeyError) else error
        raise UserError(
            f"The annotations {path!r} are not annotations of Pascal VOC ({reason}). Unpack them again."
        ) from error
    return LabelSet(tuple(sorted(seen)), tuple(sorted(difficult - seen)))
