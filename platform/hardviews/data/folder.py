"""A folder of images as a source: one sub-folder per class, or flat and unlabelled."""

from __future__ import annotations

import hashlib
import os
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from hardviews.data.source import Item, Source, Split, hold_out
from hardviews.errors import UserError

EXTENSIONS = frozenset(["jpg", "jpeg", "png", "bmp", "webp", "tif", "tiff", "ppm", "pgm", "gif"])
_SPLIT_FOLDERS = {"train": ("train",), "test": ("test", "val", "valid", "validation")}
_LONGEST_KEY = 80  # bytes; a tar member's name, extension included, must fit into 100


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

    Classes are the folders that hold images, at any depth, in alphabetical order. `split` chooses between
    folders `train` and `test` (or `val`) inside; where there are none, between what `hold_out` leaves and
    takes. A key is the path with everything but letters, digits, "-" and "_" replaced by "_"; where two paths
    would share one, or it is too long, a hash of the path is appended. Hidden files and files that are no
    images by their extension are left out.
    """
    if not os.path.isdir(path):
        raise UserError(f"There is no folder of images at {path!r}. Give a folder with one sub-folder per class.")
    folders = _split_folders(path)
    if has_split_folders(path):
        if split is None:
            raise UserError(
                f"{path!r} holds the folders {folders['train']} and {folders['test']}: say which one, with "
                "split train or test."
            )
        classes = _read_folder(os.path.join(path, str(folders["train"]))).classes
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
            f"{path!r} has no train and test folders to choose {split!r} from. Give hold_out (for example "
            "0.2) to set images aside for testing, or no split."
        )
    return hold_out(source, split, hold_out_share)


def has_split_folders(path: str) -> bool:
    """Whether a folder is divided into folders of training and test images."""
    return None not in _split_folders(path).values()


def _split_folders(path: str) -> dict[str, str | None]:
    return {name: _first_folder(path, _SPLIT_FOLDERS[name]) for name in ("train", "test")}


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
        # Links to folders are followed (subsets are often made of them), but a link to a parent must not
        # loop.
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
            f"No images were found in {root!r}. Images are files ending in {', '.join(sorted(EXTENSIONS))}, "
            "in one sub-folder per class, or directly in the folder."
        )
    tops = [path.split(os.sep)[0] if os.sep in path else "" for path in paths]
    classes = tuple(sorted(set(tops) - {""}))
    if classes and "" in tops:
        loose = [path for path, top in zip(paths, tops, strict=True) if not top]
        raise UserError(
            f"{root!r} holds class folders and also {len(loose)} image(s) outside of them, first "
            f"{loose[0]!r}. Move these into a class folder, or out of it."
        )
    labels = {name: number for number, name in enumerate(classes)}
    keys = _keys(paths)
    return Folder(root, classes, tuple((p, k, labels.get(t, -1)) for p, k, t in zip(paths, keys, tops, strict=True)))


def _keys(paths: Sequence[str]) -> list[str]:
    """A valid, unique key for each path, a function of the set of paths."""
    plain = [re.sub(r"[^A-Za-z0-9_-]", "_", os.path.splitext(path)[0]) for path in paths]
    uses = Counter(plain)

    def key(path: str, name: str) -> str:
        if uses[name] == 1 and len(name) <= _LONGEST_KEY:
            return name
        return f"{name[: _LONGEST_KEY - 17]}-{hashlib.sha256(os.fsencode(path)).hexdigest()[:16]}"

    return [key(path, name) for path, name in zip(paths, plain, strict=True)]
