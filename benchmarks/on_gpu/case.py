"""A case of the GPU benchmark, and the rows that it yields."""

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from on_gpu.scale import Scale

Status = Literal["ok", "differs", "failed", "left out", "needs a GPU"]


@dataclass(frozen=True)
class Row:
    """A result.

    Attributes:
        what: description of the measurement.
        status: `ok` and `differs` compare with a tolerance that `text` states.
        ms: median time of a step, milliseconds.
        ratio: that time as a multiple of the plain step's.
        images: per second.
        gib: peak of the memory that tensors take on the device.
        share: of the card's peak in bfloat16.
        text: the rest, in words.
        numbers: for the JSON alone.
    """

    what: str
    status: Status = "ok"
    ms: float | None = None
    ratio: float | None = None
    images: float | None = None
    gib: float | None = None
    share: float | None = None
    text: str = ""
    numbers: dict[str, Any] = field(default_factory=dict)

    @property
    def bad(self) -> bool:
        """Whether the benchmark ends with exit code 1 for it."""
        return self.status in ("differs", "failed")

    def plain(self) -> dict[str, Any]:
        """Return the row as JSON has it, without missing measurements."""
        return {key: value for key, value in asdict(self).items() if value not in (None, "", {})}


@dataclass(frozen=True)
class Case:
    """Something to measure.

    Attributes:
        part: of the benchmark that it belongs to.
        what: description in a few words.
        run: measures it; yields each row as soon as it is known.
        least: seconds without which it does not begin.
        most: seconds after which it is stopped.
        gpu: whether it means nothing without a GPU.
    """

    part: str
    what: str
    run: Callable[[Scale], Iterator[Row]]
    least: float
    most: float
    gpu: bool = False
