"""The contract of a source of images, and the division of a source into held-out images and the rest."""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, runtime_checkable

from hardviews.errors import UserError

Split = Literal["train", "test"]


@dataclass(frozen=True)
class LabelSet:
    """The classes of an image that may have several: classes in it, and classes that are not to be judged.

    `ignored` are classes whose objects in the image are all too difficult to see. All other classes are absent.
    """

    present: tuple[int, ...] = ()
    ignored: tuple[int, ...] = ()

    def renumbered(self, numbers: Sequence[int]) -> "LabelSet":
        """Return the same set with new numbers of the classes."""
        return LabelSet(tuple(numbers[i] for i in self.present), tuple(numbers[i] for i in self.ignored))


@dataclass(frozen=True)
class Item:
    """One image as it will be stored: `label` is -1 if there is none, `name` is its origin.

    `labels` are the classes of an image that may have several; then `label` is -1.
    """

    key: str
    data: bytes
    extension: str
    label: int
    name: str
    labels: LabelSet | None = None


class Source(Protocol):
    """A finite collection of images.

    `read` is called from several threads. It raises OSError or ValueError if one image cannot be read, and UserError if
    no image can be read any more.
    """

    @property
    def classes(self) -> tuple[str, ...]: ...

    def __len__(self) -> int: ...

    def key(self, i: int) -> str:
        """Return a name without "." and "/", unique in the source."""
        ...

    def read(self, i: int) -> Item: ...


@runtime_checkable
class Named(Protocol):
    """A source that returns the origin of an image without reading it."""

    def name(self, i: int) -> str: ...


@runtime_checkable
class Pathed(Protocol):
    """A source that returns the file of an image."""

    def path(self, i: int) -> str: ...


@runtime_checkable
class Stamped(Protocol):
    """A source that notices a change of its images without reading them.

    `stamp` returns equal texts for equal images, labels and keys. It depends on names, sizes and times of files.
    """

    def stamp(self) -> str: ...


@runtime_checkable
class HeldOutBy(Protocol):
    """A source that returns the name of an image that decides whether it is held out."""

    def held_out_by(self, i: int) -> str: ...


def name_of(source: Source, i: int) -> str:
    """Return the origin of an image, or its key if the source does not return an origin."""
    return source.name(i) if isinstance(source, Named) else source.key(i)


def path_of(source: Source, i: int) -> str:
    """Return the path of an image's file, or the result of `name_of` if the source does not return paths."""
    return (source.path(i) if isinstance(source, Pathed) else "") or name_of(source, i)


def stamp_of(source: Source) -> str:
    """Return the stamp of a source; if it has none, a stamp of its keys."""
    if isinstance(source, Stamped):
        return source.stamp()
    return _digest(" ".join(source.key(i) for i in range(len(source))))


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode(errors="surrogateescape")).hexdigest()


def iterate(source: Source) -> Iterator[Item]:
    """Yield every image of a source, in its order."""
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

    def name(self, i: int) -> str:
        return name_of(self.source, self.chosen[i])

    def path(self, i: int) -> str:
        return path_of(self.source, self.chosen[i])

    def read(self, i: int) -> Item:
        return self.source.read(self.chosen[i])

    def stamp(self) -> str:
        return _digest(f"{stamp_of(self.source)} {self.chosen}")


def hold_out(source: Source, split: Split, share: float, name: Callable[[int], str] | None = None) -> Source:
    """Return the part of a source that is held out for testing, or the rest.

    An image is held out if a hash of its name falls below `share`, in (0, 1). `name` must depend on the image alone. By
    default it is the source's own name for this purpose, or the key. So adding, removing or renaming other images never
    moves an image to the other side. A test set packed later cannot hold a training image.
    """
    if not 0.0 < share < 1.0:
        raise UserError(f"hold_out={share} is not a share: give a number between 0 and 1, for example 0.2.")

    name = name or (source.held_out_by if isinstance(source, HeldOutBy) else source.key)

    def out(name: str) -> bool:
        return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big") < share * 2**64

    chosen = tuple(i for i in range(len(source)) if out(name(i)) == (split == "test"))
    if not chosen or len(chosen) == len(source):
        raise UserError(
            f"Holding out {share:g} of {len(source)} images leaves one side empty. Add images, or hold out "
            "another share."
        )
    return Subset(source, chosen)
