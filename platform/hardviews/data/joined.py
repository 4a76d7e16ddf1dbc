"""Sources put together, and sources whose classes have other numbers."""

import bisect
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import accumulate

from hardviews.data.names import printable
from hardviews.data.source import Item, Source, name_of, path_of, stamp_of
from hardviews.errors import UserError


@dataclass(frozen=True)
class Joined:
    """The images of several sources, one source after the other; all have the same classes."""

    sources: tuple[Source, ...]
    stops: tuple[int, ...]

    @staticmethod
    def of(sources: Sequence[Source]) -> "Joined":
        """Join sources; classes are numbered as in the first one."""
        same = [sources[0], *(renumbered(source, sources[0].classes) for source in sources[1:])]
        return Joined(tuple(same), tuple(accumulate(len(source) for source in same)))

    @property
    def classes(self) -> tuple[str, ...]:
        return self.sources[0].classes

    def __len__(self) -> int:
        return self.stops[-1]

    def key(self, i: int) -> str:
        source, j = self._at(i)
        return source.key(j)

    def name(self, i: int) -> str:
        return name_of(*self._at(i))

    def path(self, i: int) -> str:
        return path_of(*self._at(i))

    def read(self, i: int) -> Item:
        source, j = self._at(i)
        return source.read(j)

    def stamp(self) -> str:
        return hashlib.sha256(" ".join(stamp_of(source) for source in self.sources).encode()).hexdigest()

    def _at(self, i: int) -> tuple[Source, int]:
        number = bisect.bisect_right(self.stops, i)
        return self.sources[number], i - (self.stops[number - 1] if number else 0)


@dataclass(frozen=True)
class Renumbered:
    """A source whose classes have the numbers of another one; `numbers` holds the new number of each class."""

    source: Source
    classes: tuple[str, ...]
    numbers: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.source)

    def key(self, i: int) -> str:
        return self.source.key(i)

    def name(self, i: int) -> str:
        return name_of(self.source, i)

    def path(self, i: int) -> str:
        return path_of(self.source, i)

    def read(self, i: int) -> Item:
        item = self.source.read(i)
        labels = None if item.labels is None else item.labels.renumbered(self.numbers)
        return replace(item, label=self.numbers[item.label] if item.label >= 0 else -1, labels=labels)

    def stamp(self) -> str:
        return hashlib.sha256(f"{stamp_of(self.source)} {self.classes}".encode()).hexdigest()


def renumbered(source: Source, classes: tuple[str, ...]) -> Source:
    """Return a source whose classes are numbered by their names, as in `classes`.

    Raises:
        UserError: a class of the source is not among them.
    """
    if source.classes == classes:
        return source
    numbers = {name: number for number, name in enumerate(classes)}
    unknown = [name for name in source.classes if name not in numbers]
    if unknown:
        listed = ", ".join(printable(name) for name in unknown[:3])
        raise UserError(
            f"The test images have {len(unknown)} classes that the training images lack, first {listed}. Classes are "
            "matched by their names: rename them, add training images of them, or leave their test images out."
        )
    return Renumbered(source, classes, tuple(numbers[name] for name in source.classes))
