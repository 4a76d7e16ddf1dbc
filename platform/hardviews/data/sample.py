"""The results of reading a dataset: samples, and a rank's share of a micro-batch."""

from dataclasses import dataclass, field
from typing import Generic, TypeVar

from hardviews.data.counters import Counters

T = TypeVar("T")


@dataclass(frozen=True)
class Sample:
    """One sample: its row in the index, its position in the epoch, and its encoded image.

    `index` belongs to the image in `data`, even if it is the substitute of a corrupt sample.
    """

    index: int
    position: int
    key: str
    data: bytes = field(repr=False)
    label: int


@dataclass(frozen=True)
class Share(Generic[T]):
    """One rank's share of one micro-batch.

    The micro-batch is at positions [start, stop) of the epoch, the share at [first, last); `samples[i]` belongs to
    position first + i. `counters` holds the cost of this share. Once every share up to this one is used, `consumed` is
    `stop`.
    """

    start: int
    stop: int
    first: int
    last: int
    samples: list[T] = field(repr=False)
    counters: Counters


class CorruptSample(Exception):
    """The bytes of a sample differ from the packed ones; the message is the reason."""

    def __init__(self, reason: str, key: str) -> None:
        super().__init__(reason)
        self.key = key
