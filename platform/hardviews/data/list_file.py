"""A file that lists images and their classes, as a source: `path<TAB or blank>label` on each line.

A label with commas names several classes. `?name` means that nobody knows whether the image shows the class: it is not
scored. If one line has such a label, all images have sets of classes; a path and a tab alone are an image without any
of the classes.
"""

import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass

from hardviews.data.folder import read_file
from hardviews.data.listing import listing_of
from hardviews.data.names import held_out_by, key, printable
from hardviews.data.source import Item, LabelSet
from hardviews.errors import UserError
from hardviews.views.formats import usual_extension

_SHOWN = 3
_IGNORED = "?"


@dataclass(frozen=True)
class ListFile:
    """Images that a file lists; `files` holds the path of each relative to the list's folder, and its labels."""

    root: str
    classes: tuple[str, ...]
    files: tuple[tuple[str, int | LabelSet], ...]

    @staticmethod
    def open(path: str) -> "ListFile":
        """Read a list.

        Raises:
            UserError: a line has no label, or a file is not there or listed twice.
        """
        path = os.path.abspath(os.path.expanduser(path))
        lines = _lines(path)
        several = any("," in label or label.startswith(_IGNORED) for _, label in lines)
        if not several and (bare := [file for file, label in lines if not label]):
            raise UserError(f"The image {bare[0]!r} in the list {path!r} has no label. Write one behind the tab.")
        classes = _in_order({name for _, label in lines for name in (_names(label) if several else [label])})
        numbers = {name: number for number, name in enumerate(classes)}
        root = os.path.dirname(path)
        _refuse_missing(path, root, [file for file, _ in lines])
        files = ((file, _label_set(label, numbers) if several else numbers[label]) for file, label in lines)
        return ListFile(root, tuple(map(printable, classes)), tuple(files))

    def __len__(self) -> int:
        return len(self.files)

    def key(self, i: int) -> str:
        return key(self.files[i][0])

    def name(self, i: int) -> str:
        return printable(self.files[i][0])

    def path(self, i: int) -> str:
        return self.files[i][0]

    def held_out_by(self, i: int) -> str:
        """Return the name that decides whether an image is held out."""
        return held_out_by(self.files[i][0])

    def stamp(self) -> str:
        listed = listing_of(self.root, (path for path, _ in self.files))
        made_of = f"{self.classes} {[label for _, label in self.files]} {listed}"
        return hashlib.sha256(made_of.encode(errors="surrogateescape")).hexdigest()

    def read(self, i: int) -> Item:
        path, label = self.files[i]
        data = read_file(os.path.join(self.root, path))
        extension = usual_extension(os.path.splitext(path)[1].lstrip("."))
        if isinstance(label, LabelSet):
            return Item(key(path), data, extension, -1, printable(path), label)
        return Item(key(path), data, extension, label, printable(path))


def is_list(place: str) -> bool:
    """Return whether a place is a file on this machine, and so a list."""
    return os.path.isfile(os.path.expanduser(place)) and ".tar" not in os.path.basename(place)


def _lines(path: str) -> list[tuple[str, str]]:
    """Return path and label of each line. A path ends at the first tab, or else at the last blank."""
    found: list[tuple[str, str]] = []
    try:
        with open(path, encoding="utf-8-sig", errors="surrogateescape") as stream:
            for number, line in enumerate(stream, 1):
                if not line.strip():
                    continue
                parts = line.strip("\r\n").split("\t", 1) if "\t" in line else line.strip().rsplit(maxsplit=1)
                if len(parts) < 2 or not parts[0].strip():
                    raise UserError(
                        f"Line {number} of {path!r} is {line.strip()[:80]!r}: a list of images has a path, a tab or "
                        "blank, and a label on each line."
                    )
                found.append((parts[0].strip(), parts[1].strip()))
    except OSError as error:
        raise UserError(f"The list {path!r} cannot be read: {error.strerror}.") from error
    except ValueError as error:  # a NUL byte
        raise UserError(f"The list {path!r} is not text ({error}).") from error
    if not found:
        raise UserError(f"The list {path!r} is empty. Write the path of an image, a tab and its label on each line.")
    return found


def _names(label: str) -> list[str]:
    """Return the classes in a label of several, also the classes that are not to be judged."""
    return [name.strip().removeprefix(_IGNORED).strip() for name in label.split(",") if name.strip()]


def _label_set(label: str, numbers: Mapping[str, int]) -> LabelSet:
    parts = [part.strip() for part in label.split(",") if part.strip()]
    ignored = {numbers[name] for part in parts if part.startswith(_IGNORED) for name in _names(part)}
    present = {numbers[part] for part in parts if not part.startswith(_IGNORED)}
    return LabelSet(tuple(sorted(present)), tuple(sorted(ignored - present)))


def _refuse_missing(path: str, root: str, files: list[str]) -> None:
    missing = [file for file in files if not os.path.isfile(os.path.join(root, file))]
    if missing:
        shown = ", ".join(printable(file) for file in missing[:_SHOWN])
        raise UserError(
            f"{len(missing)} of the {len(files)} files in the list {path!r} are not there: {shown}. Paths are relative "
            f"to the list's folder, {root!r}."
        )
    if len(set(files)) < len(files):
        twice = next(file for file in files if files.count(file) > 1)
        raise UserError(f"The list {path!r} names {printable(twice)!r} twice. Keep one of the lines.")


def _in_order(names: set[str]) -> list[str]:
    """Return names in alphabetical order, numbers by their value."""
    if all(name.isdecimal() for name in names):
        return sorted(names, key=lambda name: (int(name), name))
    return sorted(names)
