"""The samples that a run was trained on: ranges of positions with a digest each, committed with every checkpoint.

A digest proves which samples went through the training step; a counter could not. Every trained sample adds a 32-bit
mix of (epoch, position, index). The sum over a range depends neither on the order inside it nor on the processes.
It can be computed again from the order of the epoch. If another sample replaced a corrupt one, the index is still the
one in the order: the position was used. Replacements are counted separately.

Shape legend: B samples.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]

MODULUS = 2**64  # modulus of the digest of a range


@dataclass(frozen=True)
class Range:
    """Consecutive positions [start, stop) of an epoch that one life of the run trained on.

    Attributes:
        epoch: number of the epoch, from 0.
        start: first position.
        stop: position after the last one.
        digest: digest of its samples, modulo 2^64.
        life: number of the life of the run.
        world: processes that shared the work.
        first_step: first step that it took, counted from 1.
        last_step: last step that it took.
        substituted: positions among them at which another sample replaced a corrupt one.
    """

    life: int
    world: int
    epoch: int
    start: int
    stop: int
    first_step: int
    last_step: int
    digest: int
    substituted: int = 0


class Ledger:
    """The ranges of a run, in the order in which they were trained on."""

    def __init__(self, ranges: Sequence[Range] = ()) -> None:
        """Go on from the ranges of a checkpoint."""
        self._ranges = list(ranges)

    @property
    def ranges(self) -> tuple[Range, ...]:
        """The ranges so far."""
        return tuple(self._ranges)

    def add(self, new: Range) -> None:
        """Append a trained range, merged with the range before it if the same life trained both."""
        last = self._ranges[-1] if self._ranges else None
        if last is not None and (last.life, last.world, last.epoch, last.stop, last.last_step + 1) == (
            *(new.life, new.world, new.epoch),
            *(new.start, new.first_step),
        ):
            self._ranges[-1] = replace(
                last,
                stop=new.stop,
                last_step=new.last_step,
                digest=(last.digest + new.digest) % MODULUS,
                substituted=last.substituted + new.substituted,
            )
        else:
            self._ranges.append(replace(new, digest=new.digest % MODULUS))

    def to_json(self) -> list[dict[str, int]]:
        """Return the ranges as values for JSON."""
        return [asdict(entry) for entry in self._ranges]


def from_json(entries: Sequence[Mapping[str, Any]]) -> tuple[Range, ...]:
    """Return the ranges that `to_json` returned.

    Raises:
        TypeError, ValueError, AttributeError: the entries are not ranges.
    """
    return tuple(Range(**{key: int(value) for key, value in entry.items()}) for entry in entries)


def digest(epoch: int, position_B: Ints, index_B: Ints) -> int:
    """Return the sum over samples of a 32-bit mix of epoch, position and index, a number below B * 2^32.

    The mix is the finaliser of splitmix64 (Steele, Lea and Flood 2014) over the words, one after the other.
    """
    with np.errstate(over="ignore"):
        mixed_B = _mix(np.full(len(position_B), epoch, dtype=np.uint64))
        mixed_B = _mix(mixed_B ^ np.asarray(position_B).astype(np.uint64))
        mixed_B = _mix(mixed_B ^ np.asarray(index_B).astype(np.uint64))
    return int((mixed_B >> np.uint64(32)).sum(dtype=np.uint64))


def _mix(words: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    words = words + np.uint64(0x9E3779B97F4A7C15)
    words = (words ^ (words >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    words = (words ^ (words >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return words ^ (words >> np.uint64(31))
