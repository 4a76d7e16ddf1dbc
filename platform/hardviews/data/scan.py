"""A walk through a folder: the images in it, and everything that is left out, counted and named."""

import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

from hardviews.data.names import printable
from hardviews.errors import UserError
from hardviews.views.formats import extensions

# Folders in which storage devices, systems and programs keep thumbnails, deleted files and their own records, in lower
# case. Folders whose names begin with a dot are left out too.
_MACHINES = frozenset(
    {"@eadir", "@tmp", "@recycle", "@recently-snapshot", "@sharebin", "@synoresource", "#recycle", "#snapshot"}
    | {"$recycle.bin", "recycler", "recycled", "system volume information", "lost+found", "found.000"}
    | {"__macosx", "network trash folder", "temporary items", "thevolumesettingsfolder", "trashbox"}
    | {"__pycache__", "_vti_cnf", "_notes", "_thumbs", "_thumbnails", "cvs", "node_modules"}
)
_CONVERTIBLE = frozenset(
    {"heic", "heif", "jxl", "dng", "cr2", "cr3", "nef", "arw", "raf", "orf", "rw2", "exr", "hdr", "svg", "pdf", "psb"}
)
_ARCHIVES = frozenset({"tar", "zip", "tgz", "gz", "bz2", "xz", "zst", "7z", "rar"})
_LISTED = 8


@dataclass
class Scan:
    """Contents of a folder.

    Attributes:
        root: the folder.
        paths: paths of images, relative to `root`, in alphabetical order.
        others: number of other files by extension.
        hidden: number of files whose names begin with a dot.
        machines: number of folders made by machines, by name.
        unreadable: folders that cannot be read, and why.
        repeated: links to folders that are read elsewhere, and links back to a folder above the link.
        empty: folders without an image.
    """

    root: str
    paths: list[str] = field(default_factory=list)
    others: Counter[str] = field(default_factory=Counter)
    hidden: int = 0
    machines: Counter[str] = field(default_factory=Counter)
    unreadable: list[str] = field(default_factory=list)
    repeated: list[str] = field(default_factory=list)
    empty: list[str] = field(default_factory=list)

    def left_out(self) -> list[str]:
        """Return one sentence for each kind of thing that was left out."""
        found = []
        if self.others:
            found.append(f"{_number(self.others.total(), 'file')} not named like an image: {self._extensions()}")
            if _CONVERTIBLE & set(self.others):
                found[-1] += " (to use such pictures, convert them to JPEG or PNG)"
        if self.hidden:
            found.append(f"{_number(self.hidden, 'hidden file')} (the name begins with a dot)")
        if self.machines:
            named = _listed([f"{count} {printable(name)}" for name, count in _by_number(self.machines)])
            found.append(f"{_number(self.machines.total(), 'folder')} that are hidden or made by machines: {named}")
        for what, names in (
            ("that cannot be read", self.unreadable),
            ("linked to a place that is read anyway", self.repeated),
            ("without an image", self.empty),
        ):
            if names:
                found.append(f"{_number(len(names), 'folder')} {what}: {_listed(names)}")
        return found

    def refusal(self) -> UserError:
        """Return the error for a folder without an image."""
        seen = f" Seen: {'; '.join(self.left_out())}." if self.left_out() else ""
        advice = f"Images are files ending in {', '.join(sorted(extensions()))}"
        if _ARCHIVES & set(self.others):
            advice = (
                "Archives are not opened: unpack them first. docs/data.md shows how to turn WebDataset shards into "
                f"class folders. {advice}"
            )
        return UserError(
            f"No images were found in {printable(self.root)!r}.{seen} {advice}, in one sub-folder per class, or "
            "directly in the folder."
        )

    def _extensions(self) -> str:
        return _listed([f"{n} .{printable(e)}" if e else f"{n} without" for e, n in _by_number(self.others)])


def scan(root: str) -> Scan:
    """Walk through a folder; raise UserError if it cannot be read.

    Links to folders are followed, since subsets are often made of them.
    """
    found = Scan(root)
    holding: set[str] = set()  # folders with an image at any depth
    visited: list[str] = []
    top = os.path.realpath(root)
    # A folder: its path below the root, and the real paths of the folders that links were followed from, itself last.
    waiting: list[tuple[str, tuple[str, ...]]] = [("", (top,))]
    while waiting:
        below, chain = waiting.pop()
        try:
            entries = sorted(os.scandir(os.path.join(root, below)), key=lambda entry: entry.name)
        except OSError as error:
            if not below:
                raise UserError(f"The folder {printable(root)!r} cannot be read: {error.strerror}.") from error
            found.unreadable.append(f"{printable(below)} ({error.strerror})")
            continue
        visited.append(below)
        for entry in entries:
            path = os.path.join(below, entry.name)
            if not _is_folder(entry):
                if _sort_file(found, entry.name):
                    found.paths.append(path)
                    holding.update(_above(path))
            elif _left_out(entry.name):
                found.machines[entry.name] += 1
            elif not entry.is_symlink():
                waiting.append((path, (*chain[:-1], os.path.join(chain[-1], entry.name))))
            else:
                target = os.path.realpath(entry.path)
                if any(_lies_in(place, target) for place in chain) or _is_read(target, top):
                    found.repeated.append(printable(path))
                else:
                    waiting.append((path, (*chain, target)))
    found.paths.sort()
    hollow = set(visited) - holding
    found.empty = sorted(printable(path) for path in hollow if path and os.path.dirname(path) not in hollow)
    found.repeated.sort()
    found.unreadable.sort()
    return found


def _sort_file(found: Scan, name: str) -> bool:
    """Return whether a file is named like an image, and count it if not."""
    extension = os.path.splitext(name)[1].lower().lstrip(".")
    if name.startswith("."):
        found.hidden += 1
        return False
    if extension in extensions():
        return True
    found.others[extension] += 1
    return False


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link that leads nowhere
        return False


def _left_out(name: str) -> bool:
    return name.startswith(".") or name.lower() in _MACHINES


def _is_read(target: str, top: str) -> bool:
    """Return whether a real folder is walked through at its own place."""
    return _lies_in(target, top) and not any(_left_out(part) for part in os.path.relpath(target, top).split(os.sep))


def _lies_in(path: str, folder: str) -> bool:
    """Return whether a real path is a folder or lies in it."""
    return path == folder or path.startswith(folder.rstrip(os.sep) + os.sep)


def _above(path: str) -> Iterator[str]:
    """Yield the folders that a relative path lies in, the root ("") last."""
    while path:
        path = os.path.dirname(path)
        yield path


def _by_number(counts: Counter[str]) -> list[tuple[str, int]]:
    """Return names and numbers, the most frequent first."""
    return sorted(counts.items(), key=lambda pair: (-pair[1], pair[0]))


def _number(count: int, noun: str) -> str:
    return f"{count} {noun}{'' if count == 1 else 's'}"


def _listed(names: list[str]) -> str:
    more = f", and {len(names) - _LISTED} more" if len(names) > _LISTED else ""
    return ", ".join(names[:_LISTED]) + more
