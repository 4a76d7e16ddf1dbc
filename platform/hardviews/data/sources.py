"""Where images come from before they are packed: a folder, a torchvision dataset, the handwritten digits."""

from __future__ import annotations

import hashlib
import inspect
import io
import os
import re
import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import numpy as np
from PIL import Image

from hardviews.errors import UserError

Split = Literal["train", "test"]

EXTENSIONS = frozenset("jpg jpeg png bmp webp tif tiff ppm pgm gif".split())
_SPLIT_FOLDERS = {"train": ("train",), "test": ("test", "val", "valid", "validation")}
_LONGEST_KEY = 80  # bytes; a tar member's name, extension included, must fit into 100


@dataclass(frozen=True)
class Item:
    """One image as it will be stored: `label` is -1 where there is none, `name` says where it came from."""

    key: str
    data: bytes
    extension: str
    label: int
    name: str


class Source(Protocol):
    """A finite collection of images. `read` is called from several threads; it raises OSError or ValueError for an
    image that cannot be had."""

    @property
    def classes(self) -> tuple[str, ...]: ...

    def __len__(self) -> int: ...

    def key(self, i: int) -> str:
        """A name without "." and "/", unique in the source."""
        ...

    def read(self, i: int) -> Item: ...


def iterate(source: Source) -> Iterator[Item]:
    """Every image of a source, in its order."""
    return (source.read(i) for i in range(len(source)))


@dataclass(frozen=True)
class Subset:
    """Some images of a source, with the classes of the whole."""

    source: Source
    chosen: tuple[int, ...]

    @property
    def classes(self) -> tuple[str, ...]:
        return self.source.classes

    def __len__(self) -> int:
        return len(self.chosen)

    def key(self, i: int) -> str:
        return self.source.key(self.chosen[i])

    def read(self, i: int) -> Item:
        return self.source.read(self.chosen[i])


def hold_out(source: Source, split: Split, share: float) -> Source:
    """The part of a source that is held out for testing, or the rest.

    An image is held out where a hash of its key falls below `share`, in (0, 1): adding or removing other images
    never moves it across, so a test set packed later cannot hold what was trained on.
    """
    if not 0.0 < share < 1.0:
        raise UserError(f"hold_out={share} is not a share: give a number between 0 and 1, for example 0.2.")

    def out(key: str) -> bool:
        return int.from_bytes(hashlib.sha256(key.encode()).digest()[:8], "big") < share * 2**64

    chosen = tuple(i for i in range(len(source)) if out(source.key(i)) == (split == "test"))
    if not chosen or len(chosen) == len(source):
        raise UserError(
            f"Holding out {share:g} of {len(source)} images leaves one side empty. Add images, or hold out another share."
        )
    return Subset(source, chosen)


@dataclass(frozen=True)
class Folder:
    """Image files of a folder. `files`: path relative to `root`, key and label of each."""

    root: str
    classes: tuple[str, ...]
    files: tuple[tuple[str, str, int], ...]

    def __len__(self) -> int:
        return len(self.files)

    def key(self, i: int) -> str:
        return self.files[i][1]

    def read(self, i: int) -> Item:
        path, key, label = self.files[i]
        with open(os.path.join(self.root, path), "rb") as stream:
            return Item(key, stream.read(), _extension(path), label, path)


def image_folder(path: str, split: Split | None = None, hold_out_share: float = 0.0) -> Source:
    """Images of a folder of class folders, or of a flat folder (labels -1).

    Classes are the folders that hold images, at any depth, in alphabetical order. `split` chooses between folders
    `train` and `test` (or `val`) inside; where there are none, between what `hold_out` leaves and takes. A key is the
    path with everything but letters, digits, "-" and "_" replaced by "_"; where two paths would share one, or it is
    too long, a hash of the path is appended. Hidden files and files that are no images by their extension are left out.
    """
    if not os.path.isdir(path):
        raise UserError(
            f"There is no folder of images at {path!r}. Give a folder with one sub-folder per class."
        )
    folders = {name: _first_folder(path, _SPLIT_FOLDERS[name]) for name in ("train", "test")}
    if folders["train"] is not None and folders["test"] is not None:
        if split is None:
            raise UserError(
                f"{path!r} holds the folders {folders['train']} and {folders['test']}: say which one, with split train or test."
            )
        classes = _read_folder(os.path.join(path, folders["train"])).classes
        found = _read_folder(os.path.join(path, str(folders[split])))
        unknown = sorted(set(found.classes) - set(classes))
        if unknown:
            raise UserError(
                f"The class {unknown[0]!r} is in {found.root!r} but has no images in {folders['train']!r}. "
                "Rename or remove its folder."
            )
        number = {name: classes.index(name) for name in found.classes}
        files = tuple((p, k, number[found.classes[c]] if c >= 0 else c) for p, k, c in found.files)
        return Folder(found.root, classes, files)
    source = _read_folder(path)
    if split is None:
        return source
    if not hold_out_share:
        raise UserError(
            f"{path!r} has no train and test folders to choose {split!r} from. Give hold_out (for example 0.2) to set "
            "images aside for testing, or no split."
        )
    return hold_out(source, split, hold_out_share)


class TorchvisionDataset:
    """A torchvision classification dataset, its images re-encoded as PNG (lossless)."""

    def __init__(self, dataset: Any, name: str) -> None:
        self._dataset, self._name = dataset, name
        self._lock = threading.Lock()  # torchvision promises nothing about threads
        self._labels: dict[str, int] = {}
        classes = getattr(dataset, "classes", None)
        if classes is None:
            labels = getattr(
                dataset, "targets", getattr(dataset, "labels", getattr(dataset, "_labels", None))
            )
            count = (
                int(np.max(np.asarray(labels))) + 1
                if labels is not None
                else getattr(dataset, "num_classes", 0)
            )
            classes = [str(label) for label in range(max(0, int(count)))]
        # Some datasets list synonyms: ("tench", "Tinca tinca").
        self.classes = tuple(c if isinstance(c, str) else ", ".join(map(str, c)) for c in classes)

    def __len__(self) -> int:
        return len(self._dataset)

    def key(self, i: int) -> str:
        return f"{self._name.lower()}_{i:08d}"

    def read(self, i: int) -> Item:
        with self._lock:
            image, label = self._dataset[i]
        if not isinstance(image, Image.Image):
            image = Image.fromarray(np.asarray(image))
        return Item(self.key(i), _png(image), "png", int(label), f"{self._name}[{i}]")


def torchvision_dataset(name: str, root: str, split: Split | None = None, download: bool = False) -> Source:
    """A dataset of torchvision by its class name, for example CIFAR10, from the folder that torchvision keeps it in."""
    from torchvision import datasets

    kind = getattr(datasets, name, None)
    if not (inspect.isclass(kind) and name in datasets.__all__):
        near = [n for n in datasets.__all__ if n.lower().startswith(name.lower()[:3])]
        hint = f" Did you mean {', '.join(near)}?" if near else ""
        raise UserError(f"torchvision has no dataset named {name!r}.{hint}")
    known = inspect.signature(kind).parameters
    arguments: dict[str, Any] = {"root": root} if "root" in known else {}
    if "download" in known:
        arguments["download"] = download
    if "train" in known:
        arguments["train"] = split != "test"
    elif "split" in known:
        # ImageNet and a few others name their held-out part "val".
        arguments["split"] = (
            "val" if split == "test" and name in ("ImageNet", "Places365") else split or "train"
        )
    elif split is not None:
        raise UserError(
            f"torchvision's {name} has no train and test parts. Leave out the split, or use hold_out."
        )
    try:
        return TorchvisionDataset(kind(**arguments), name)
    except (RuntimeError, ValueError, OSError, TypeError) as error:
        raise UserError(
            f"torchvision's {name} could not be opened in {root!r}: {str(error).rstrip('.')}. Put the dataset there, "
            "or ask for its download where it has one."
        ) from error


@dataclass(frozen=True)
class Digits:
    """Handwritten digits that ship with scikit-learn: 8x8 pixels, enlarged to `size` x `size` RGB PNGs."""

    pixels: Any
    labels: tuple[int, ...]
    numbers: tuple[int, ...]
    size: int

    classes = tuple("zero one two three four five six seven eight nine".split())

    def __len__(self) -> int:
        return len(self.numbers)

    def key(self, i: int) -> str:
        return f"digit_{self.numbers[i]:04d}"

    def read(self, i: int) -> Item:
        image = Image.fromarray(self.pixels[i]).resize((self.size, self.size), Image.Resampling.BILINEAR)
        return Item(self.key(i), _png(image), "png", self.labels[i], f"load_digits()[{self.numbers[i]}]")


def digits(split: Split | None = None, size: int = 32) -> Source:
    """scikit-learn's 1,797 handwritten digits; every fifth one (359 of them) is the test part.

    The collection is ordered by writer, so this splits every writer's digits evenly.
    """
    from sklearn.datasets import load_digits

    bunch = load_digits()
    pixels = np.rint(bunch.images * (255.0 / 16.0)).astype(np.uint8)
    tested = np.arange(len(pixels)) % 5 == 4
    numbers = np.flatnonzero(np.ones_like(tested) if split is None else tested == (split == "test"))
    return Digits(pixels[numbers], tuple(map(int, bunch.target[numbers])), tuple(map(int, numbers)), size)


def open_source(where: str, split: Split | None = None, hold_out_share: float = 0.0) -> Source:
    """The source that a user named: `digits`, `torchvision:CIFAR10:ROOT`, or a folder of images.

    `hold_out_share` sets images aside for the test split where the source has no such part of its own.
    """
    if where == "digits":
        return digits(split)
    if where.startswith("torchvision:"):
        _, name, root = (where + "::").split(":", 2)
        return torchvision_dataset(name, root.rstrip(":") or os.path.expanduser("~/datasets"), split)
    return image_folder(os.path.expanduser(where), split, hold_out_share)


def _png(image: Image.Image) -> bytes:
    stream = io.BytesIO()
    image.convert("RGB").save(stream, "PNG", compress_level=6)
    return stream.getvalue()


def _extension(path: str) -> str:
    extension = os.path.splitext(path)[1].lower().lstrip(".")
    return "jpg" if extension == "jpeg" else extension


def _first_folder(path: str, names: Sequence[str]) -> str | None:
    return next((name for name in names if os.path.isdir(os.path.join(path, name))), None)


def _read_folder(root: str) -> Folder:
    """Image files below a folder, in alphabetical order, each labelled by the top-level folder it lies in."""
    paths: list[str] = []
    seen: set[str] = set()
    for folder, below, files in os.walk(root, followlinks=True):
        real = os.path.realpath(folder)
        # Links to folders are followed (subsets are often made of them), but a link to a parent must not loop.
        if real in seen:
            below.clear()
            continue
        seen.add(real)
        below[:] = sorted(name for name in below if not name.startswith("."))
        paths += [
            os.path.relpath(os.path.join(folder, name), root)
            for name in files
            if not name.startswith(".") and os.path.splitext(name)[1].lower().lstrip(".") in EXTENSIONS
        ]
    paths.sort()
    if not paths:
        raise UserError(
            f"No images were found in {root!r}. Images are files ending in {', '.join(sorted(EXTENSIONS))}, in one "
            "sub-folder per class, or directly in the folder."
        )
    tops = [path.split(os.sep)[0] if os.sep in path else "" for path in paths]
    classes = tuple(sorted(set(tops) - {""}))
    if classes and "" in tops:
        loose = [path for path, top in zip(paths, tops, strict=True) if not top]
        raise UserError(
            f"{root!r} holds class folders and also {len(loose)} image(s) outside of them, first {loose[0]!r}. "
            "Move these into a class folder, or out of it."
        )
    labels = {name: number for number, name in enumerate(classes)}
    keys = _keys(paths)
    return Folder(
        root, classes, tuple((p, k, labels.get(t, -1)) for p, k, t in zip(paths, keys, tops, strict=True))
    )


def _keys(paths: Sequence[str]) -> list[str]:
    """A valid, unique key for each path, a function of the set of paths."""
    plain = [re.sub(r"[^A-Za-z0-9_-]", "_", os.path.splitext(path)[0]) for path in paths]
    uses = Counter(plain)

    def key(path: str, name: str) -> str:
        if uses[name] == 1 and len(name) <= _LONGEST_KEY:
            return name
        return f"{name[: _LONGEST_KEY - 17]}-{hashlib.sha256(os.fsencode(path)).hexdigest()[:16]}"

    return [key(path, name) for path, name in zip(paths, plain, strict=True)]
