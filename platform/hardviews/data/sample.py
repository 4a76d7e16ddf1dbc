"""What reading a dataset yields: samples, and a rank's share of a micro-batch."""

from dataclasses import dataclass, field
from typing import Generic, TypeVar

from hardviews.data.counters import Counters

T = TypeVar("T")


@dataclass(frozen=True)
class Sample:
    """One sample: its row in the index, its position in the epoch, and its encoded image.

    `index` names the sample that `data` is of, also where it stands in for a corrupt one.
    """

    index: int
    position: int
    key: str
    data: bytes = field(repr=False)
    label: int


@dataclass(frozen=True)
class Share(Generic[T]):
    """One rank's share of one micro-batch.

    The micro-batch is at positions [start, stop) of the epoch, the share at [first, last); `samples[i]`
    belongs to position first + i. `counters` is what this share added. Once every share up to it is used,
    `stop` is `consumed`.
    """

    start: int
    stop: int
    first: int
    last: int
    samples: list[T] = field(repr=False)
    counters: Counters


class CorruptSample(Exception):
    """A sample's bytes are not those that were packed; the message is the reason."""

    def __init__(self, reason: str, key: str) -> None:
        super().__init__(reason)
        self.key = key
