"""The course of the GPU benchmark: one case after the other, each in a process of its own, until a deadline."""

import logging
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace

import torch

from on_gpu.apart import Broken, apart
from on_gpu.case import Case, Row
from on_gpu.scale import Scale

_RESERVE = 3.0  # seconds for the table


@dataclass(frozen=True)
class Result:
    """A row, and the part of the benchmark that it belongs to."""

    part: str
    row: Row


Run = Callable[[Callable[[], Iterable[Row]], float], Iterator[Row]]


def course(cases: Iterable[Case], scale: Scale, deadline: float, run: Run = apart) -> Iterator[Result]:
    """Yield every result as soon as it is known; a case that does not fit before the deadline is left out.

    deadline: as `time.monotonic()` counts. run: runs a case for so many seconds at most.
    """
    for case in cases:
        left = deadline - _RESERVE - time.monotonic()
        if case.gpu and scale.device.type != "cuda":
            yield Result(case.part, Row(case.what, "needs a GPU"))
        elif left < case.least:
            yield Result(case.part, Row(case.what, "left out", text="no time"))
        else:
            # A toy's time says nothing: a CPU may be busy with other work.
            yield from _results(case, scale, left if scale.toy else min(left, case.most), run)


def _results(case: Case, scale: Scale, seconds: float, run: Run) -> Iterator[Result]:
    own = replace(scale, until=time.monotonic() + seconds)

    def work() -> Iterator[Row]:
        if own.toy:
            torch.set_num_threads(1)  # networks this small are slower with more, much so beside other work
            logging.getLogger("hardviews").setLevel(logging.ERROR)  # of views this small
        yield from case.run(own)

    try:
        for row in run(work, seconds):
            yield Result(case.part, row)
    except Broken as error:
        yield Result(case.part, Row(case.what, "failed", text=str(error), numbers={"traceback": error.details}))
