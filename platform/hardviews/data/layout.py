"""The layout of a folder of images: which folders are classes, and which are parts for training and testing."""

import os
import re
from collections import Counter
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from typing import Literal

from hardviews.data.names import printable
from hardviews.errors import UserError

Role = Literal["train", "val", "test"]

_ROLES: dict[str, Role] = {
    **dict.fromkeys(("train", "training", "trainset", "trn"), "train"),
    **dict.fromkeys(("val", "valid", "validation", "valset", "dev", "eval", "evaluation"), "val"),
    **dict.fromkeys(("test", "testing", "testset", "tst"), "test"),
}
# Words beside the role in the name of a part: "training_set", "train images", "ILSVRC2012_img_val".
_FILLERS = frozenset({"set", "split", "part", "data", "dataset", "image", "images", "img", "imgs", "folder"})
# Folders that hold images of every kind, and folders of annotations beside them, which may be images too.
_CONTAINERS = frozenset(
    {"image", "images", "img", "imgs", "jpegimages", "jpg", "jpegs", "photo", "photos", "picture", "pictures"}
    | {"data", "dataset", "raw", "all"}
)
_ANNOTATIONS = frozenset(
    {"label", "labels", "annotation", "annotations", "annots", "mask", "masks", "gt", "groundtruth", "trimaps"}
    | {"segmentation", "segmentations", "segmentationclass", "segmentationobject", "imagesets", "bboxes", "boxes"}
)
_SHOWN = 5


class Tree:
    """Folders that hold images, by the numbers of images directly in each; "" is the root."""

    def __init__(self, paths: Iterable[str]) -> None:
        self.loose: Counter[str] = Counter()
        self.first: dict[str, str] = {}  # image directly in each folder
        for path in paths:
            folder, name = os.path.split(path)
            self.loose[folder] += 1
            self.first.setdefault(folder, name)
        self.total: Counter[str] = Counter()
        below: dict[str, set[str]] = {}
        for folder, count in self.loose.items():
            self.total[folder] += count
            while folder:
                parent, name = os.path.split(folder)
                below.setdefault(parent, set()).add(name)
                self.total[parent] += count
                folder = parent
        self._below = {folder: sorted(names) for folder, names in below.items()}

    def names(self, folder: str) -> list[str]:
        """Return the names of the folders in a folder that hold images at any depth."""
        return self._below.get(folder, [])


@dataclass(frozen=True)
class Part:
    """Images for training, or for testing.

    Attributes:
        folder: the folder of the class folders, or of the images; relative to the root, "" for the root.
        classes: names of the class folders in it; empty if the images have no labels.
    """

    folder: str
    classes: tuple[str, ...]


@dataclass
class Layout:
    """The recognised layout of a folder of images.

    Attributes:
        train: training images, or all images if there are no parts.
        test: test images in a folder of their own, if there are any with labels.
        parts: names of the folders for training and testing.
        remarks: sentences about what was recognised and left out.
    """

    train: Part
    test: Part | None = None
    parts: tuple[str, ...] = ()
    remarks: list[str] = field(default_factory=list)


def recognise(tree: Tree, root: str) -> Layout:
    """Return the layout of a folder; if it is not a known one, raise UserError with the folders found."""
    remarks: list[str] = []
    at = ""
    while True:
        roles = _roles(tree.names(at))
        if "train" in roles.values() and len(set(roles.values())) > 1:
            return _divided(tree, root, at, roles, remarks)
        if roles and len(roles) == len(tree.names(at)) and "train" not in roles.values():
            raise UserError(
                f"{_at(root, at)!r} holds images for testing and none for training: the folders {_listed(roles)}. Put "
                "a folder named train beside them. Or train on one of them, for example --source "
                f"{_at(root, at, next(iter(roles)))}"
            )
        inner = _inside(tree, at, remarks, root)
        if inner is None:
            _refuse_mixed(tree, root, at, roles)
            if at:
                remarks.append(f"the images are those in {printable(at)}")
            return Layout(_part(tree, root, at, remarks), remarks=remarks)
        at = inner


def _divided(tree: Tree, root: str, at: str, roles: dict[str, Role], remarks: list[str]) -> Layout:
    """Return the layout of a folder with folders for training and testing in it."""
    by_role: dict[Role, str] = {}
    for name, role in roles.items():
        if role in by_role:
            raise UserError(
                f"{_at(root, at)!r} holds two folders for one part of the data: {printable(by_role[role])} and "
                f"{printable(name)}. Join them, or move one of them away."
            )
        by_role[role] = name
    train = _content(tree, root, os.path.join(at, by_role["train"]), remarks)
    test: Part | None = None
    for role in ("test", "val"):
        if role not in by_role:
            continue
        folder = os.path.join(at, by_role[role])
        number = tree.total[folder]
        if test is not None:
            remarks.append(
                f"left out: {printable(folder)} ({number} images), since {printable(test.folder)} is for testing"
            )
        elif not train.classes:
            remarks.append(
                f"left out: {printable(folder)} ({number} images): the images in {printable(train.folder)} are not in "
                "class folders, and without labels there is nothing to test"
            )
        else:
            found = _content(tree, root, folder, remarks, train.classes)
            if found.classes:
                test = found
            else:
                remarks.append(
                    f"left out: {printable(folder)} ({number} images without labels): for testing they need the "
                    f"class folders of {printable(train.folder)}"
                )
    others = [name for name in tree.names(at) if name not in roles]
    if others:
        number = sum(tree.total[os.path.join(at, name)] for name in others)
        remarks.append(f"left out: {_listed(others)} ({number} images) beside the parts {_listed(roles)}")
    if tree.loose[at]:
        remarks.append(f"left out: {tree.loose[at]} images beside the folders {_listed(roles)}")
    if test is not None and (unknown := sorted(set(test.classes) - set(train.classes))):
        raise UserError(
            f"The class {printable(unknown[0])!r} is in {_at(root, test.folder)!r} but has no images in "
            f"{printable(train.folder)!r}. Rename or remove its folder."
        )
    if test is not None:
        remarks.insert(
            0, f"images in {printable(train.folder)} are for training, in {printable(test.folder)} for testing"
        )
    return Layout(train, test, tuple(printable(name) for name in roles), remarks)


def _content(tree: Tree, root: str, at: str, remarks: list[str], known: Collection[str] = ()) -> Part:
    """Return the images of a part; folders named like a known class are classes."""
    while not set(tree.names(at)) & set(known) and (inner := _inside(tree, at, remarks, root)) is not None:
        at = inner
    return _part(tree, root, at, remarks)


def _inside(tree: Tree, at: str, remarks: list[str], root: str) -> str | None:
    """Return the one folder in a folder that holds the images, or None if there is no such folder.

    It is the only folder and holds class folders; or its name is one for images, and it holds images of all classes.
    """
    names = tree.names(at)
    if tree.loose[at] or not names:
        return None
    annotations = [name for name in names if _word(name) in _ANNOTATIONS]
    containers = [name for name in names if _word(name) in _CONTAINERS]
    if annotations and containers:
        if len(containers) > 1 or len(annotations) + 1 < len(names):
            raise UserError(
                f"{_at(root, at)!r} holds the folders {_listed(names)}, and it is not clear which of them holds the "
                f"images. Give that one, for example --source {_at(root, at, containers[0])}"
            )
        number = sum(tree.total[os.path.join(at, name)] for name in annotations)
        remarks.append(f"left out: {_listed(annotations)} ({number} images) beside {printable(containers[0])}")
        return os.path.join(at, containers[0])
    if len(names) > 1:
        return None
    inner = os.path.join(at, names[0])
    flat = bool(tree.loose[inner])
    named = _word(names[0]) in _CONTAINERS or _roles(names)
    return inner if named or not flat else None


def _refuse_mixed(tree: Tree, root: str, at: str, roles: dict[str, Role]) -> None:
    """Raise UserError for a folder that is a part by its name and content, if its neighbours are not."""
    for name in roles:
        folder = os.path.join(at, name)
        if tree.names(folder) and not tree.loose[folder]:
            others = [other for other in tree.names(at) if other not in roles]
            raise UserError(
                f"{_at(root, at)!r} holds the folder {printable(name)}, with folders in it as a part of the data has "
                f"them, beside {_listed(others)}. Give one of them, for example --source {_at(root, at, name)}. If "
                f"{printable(name)} is a class, rename it."
            )


def _part(tree: Tree, root: str, at: str, remarks: list[str]) -> Part:
    """Return a folder of class folders, or of images without labels."""
    names, loose = tree.names(at), tree.loose[at]
    if names and loose:
        raise UserError(
            f"{_at(root, at)!r} holds class folders ({_listed(names)}) and also {loose} image(s) outside of them, "
            f"first {printable(tree.first[at])!r}. Move these into a class folder, or out of it."
        )
    nested = [name for name in names if tree.names(os.path.join(at, name))]
    if nested:
        inner = sorted({below for name in nested for below in tree.names(os.path.join(at, name))})
        remarks.append(
            f"the classes are {_listed(names)}: folders in these ({_listed(inner)}) are not taken for classes"
        )
    return Part(at, tuple(names))


def _roles(names: Iterable[str]) -> dict[str, Role]:
    """Return the role of each folder whose name holds one, such as "seg_train" and "seg_test".

    Apart from the role their names are the same: a "train station" beside a "test tube" is a class.
    """
    found: dict[str, tuple[Role, tuple[str, ...]]] = {}
    for name in names:
        words = [word.lower() for word in re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+", name)]
        roles = [word for word in words if word in _ROLES]
        if len(roles) == 1:
            rest = tuple(word for word in words if word not in _FILLERS and word not in _ROLES)
            found[name] = (_ROLES[roles[0]], rest)
    rests = {rest for _, rest in found.values()}
    if len(rests) != 1 or (len(found) == 1 and rests != {()}):
        return {}
    return {name: role for name, (role, _) in found.items()}


def _word(name: str) -> str:
    """Return the letters of a name, in lower case."""
    return re.sub(r"[^a-z]", "", name.lower())


def _at(root: str, *below: str) -> str:
    return printable(os.path.join(root, *below).rstrip(os.sep) or os.sep)


def _listed(names: Iterable[str]) -> str:
    shown = [printable(name) for name in names]
    return ", ".join(shown[:_SHOWN]) + (f" and {len(shown) - _SHOWN} more" if len(shown) > _SHOWN else "")
