"""A dataset of torchvision as a source, from the folder that torchvision keeps it in."""

import hashlib
import inspect
import io
import os
import re
import threading
from collections.abc import Mapping
from typing import Any

import numpy as np
from PIL import Image

from hardviews.data.fetch_by_hand import by_hand
from hardviews.data.joined import Joined
from hardviews.data.listing import listing
from hardviews.data.source import Item, Source, Split
from hardviews.data.torchvision_options import MULTI_LABEL, arguments, torchvision_class
from hardviews.data.voc import Voc
from hardviews.errors import UserError

# Attributes in which torchvision's classes keep the paths of their images, or pairs of a path and a label.
_PATHS = ("_image_files", "_images", "samples", "imgs", "_samples")
# Attributes that name the folder of one dataset among several in a root.
_FOLDERS = ("_base_folder", "base_folder", "_data_dir", "_data_path", "raw_folder")


class TorchvisionDataset:
    """A torchvision classification dataset, its images re-encoded as PNG (lossless).

    `part` is a word in the keys, if several parts of one dataset are joined. `made_of` is all that its content depends
    on.
    """

    def __init__(self, dataset: Any, name: str, part: str = "", made_of: str = "") -> None:
        self._dataset, self._name, self._part, self._made_of = dataset, name, part, made_of
        self._lock = threading.Lock()  # torchvision promises nothing about threads
        if len(dataset) and not isinstance(dataset[0][1], int | np.integer):
            raise UserError(
                f"torchvision's {name} has no class labels. Give a classification dataset, for example CIFAR10."
            )
        names = (getattr(dataset, name, None) for name in ("classes", "categories", "all_categories"))
        classes = next((found for found in names if found is not None), None)
        if classes is None:
            labels = getattr(dataset, "targets", getattr(dataset, "labels", getattr(dataset, "_labels", None)))
            count = int(np.max(np.asarray(labels))) + 1 if labels is not None else getattr(dataset, "num_classes", 0)
            classes = [str(label) for label in range(max(0, int(count)))]
        # Some datasets list synonyms: ("tench", "Tinca tinca").
        self.classes = tuple(c if isinstance(c, str) else ", ".join(map(str, c)) for c in classes)
        self._paths = _paths(dataset)

    def __len__(self) -> int:
        return len(self._dataset)

    def key(self, i: int) -> str:
        part = f"_{re.sub('[^A-Za-z0-9-]', '-', self._part)}" if self._part else ""
        return f"{self._name.lower()}{part}_{i:08d}"

    def path(self, i: int) -> str:
        """Return the path of an image's file; empty if the dataset does not keep its images in files."""
        return self._paths[i] if self._paths else ""

    def stamp(self) -> str:
        made_of = f"{self._name} {self._part} {self._made_of} {len(self)} {self.classes}"
        return hashlib.sha256(made_of.encode(errors="surrogateescape")).hexdigest()

    def read(self, i: int) -> Item:
        try:
            with self._lock:
                image, label = self._dataset[i]
            if not isinstance(image, Image.Image):
                image = Image.fromarray(np.asarray(image))
            data = as_png(image)
        except (OSError, ValueError):
            raise
        except Exception as error:  # torchvision decodes here, and decoders raise errors of every type
            raise ValueError(f"{type(error).__name__}: {error}") from error
        return Item(self.key(i), data, "png", int(label), f"{self._name}[{i}]")


def torchvision_dataset(
    name: str,
    root: str,
    split: Split | None = None,
    download: bool = False,
    options: Mapping[str, str] | None = None,
    remedy: str = "add --download",
) -> Source:
    """Open a dataset of torchvision by its class name, for example CIFAR10, from the folder that holds it.

    `options` are further options of its class, as text: `partition`, `version`; `split` names one part, or several that
    are joined, as in `train+val`. `remedy` is the user's way to download it.

    Raises:
        UserError: the dataset is not there; the message names the archive and its place. Or an option is unknown.
    """
    kind = torchvision_class(name)
    parts = arguments(name, split, options or {})
    found = []
    for part, given in parts.items():
        word = part if len(parts) > 1 else ""  # in the keys, which have to differ
        found.append(_open(kind, name, root, given, download, word, remedy))
    return found[0] if len(found) == 1 else Joined.of(found)


def _open(kind: Any, name: str, root: str, given: Mapping[str, Any], download: bool, part: str, remedy: str) -> Source:
    known = inspect.signature(kind).parameters
    places = {"root": root} if "root" in known else {}
    fetching = {"download": download} if "download" in known else {}
    try:
        dataset = kind(**places, **fetching, **given)
        if name in MULTI_LABEL:
            return Voc.of(dataset)
        folder = _folder(dataset, root) if places else ""
        made_of = f"{folder} {sorted(given.items())} {listing(folder) if folder else ''}"
        return TorchvisionDataset(dataset, name, part, made_of)
    except (RuntimeError, ValueError, OSError, TypeError) as error:
        # Torchvision advises its own argument.
        reason = re.sub(r"[.,;]?\s*you (can|may) (use|set) download=True[^.]*", "", str(error), flags=re.IGNORECASE)
        fetch = remedy if "download" in known and not download else "look there for files that are missing"
        raise UserError(
            f"torchvision's {name} could not be opened in {root!r}: {reason.rstrip('.')}. {by_hand(name, root)}Put the "
            f"dataset there, or {fetch}."
        ) from error


def _paths(dataset: Any) -> list[str]:
    """Return the paths of a dataset's images in its order; empty if they are not in files."""
    for attribute in _PATHS:
        files = getattr(dataset, attribute, None)
        if isinstance(files, list | tuple) and len(files) == len(dataset) > 0:
            first = [file[0] if isinstance(file, tuple | list) else file for file in files]
            if isinstance(first[0], str | os.PathLike):
                return [os.fspath(path) for path in first]
    kind = type(dataset).__name__
    if kind == "Caltech101":
        return [
            os.path.join(dataset.root, dataset.categories[label], f"image_{number:04d}.jpg")
            for label, number in zip(dataset.y, dataset.index, strict=True)
        ]
    if kind == "INaturalist":
        return [os.path.join(dataset.root, dataset.all_categories[number], name) for number, name in dataset.index]
    return []


def _folder(dataset: Any, root: str) -> str:
    """Return the folder of one dataset: the root may hold several."""
    for attribute in _FOLDERS:
        name = getattr(dataset, attribute, None)
        if isinstance(name, str | os.PathLike):
            folder = os.path.join(root, os.fspath(name))
            if os.path.isdir(folder):
                return os.path.abspath(folder)
    own = getattr(dataset, "root", root)  # for Caltech101 a folder in the root
    return os.path.abspath(os.fspath(own) if isinstance(own, str | os.PathLike) else root)


def as_png(image: Image.Image) -> bytes:
    """Return the bytes of a PNG."""
    stream = io.BytesIO()
    image.convert("RGB").save(stream, "PNG", compress_level=6)
    return stream.getvalue()
