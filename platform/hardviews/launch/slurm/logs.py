"""The logs of a job on Slurm: one file for each replica, in the job's folder."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path

_LOOK = 0.5  # seconds between two reads of a file
_ASK = 3.0  # seconds between two requests to Slurm


def log_file(folder: Path, job: str, role: str, replica: int) -> Path:
    """Return the file with the output of a replica."""
    return folder / f"slurm-{job}-{role}-{replica}.log"


def lines(file: Path, follow: bool, ended: Callable[[], bool]) -> Iterator[str]:
    """Yield the lines of a log.

    Args:
        file: log file, which may be missing at first if `follow` is true.
        follow: whether to wait for further lines until the job is over.
        ended: function that returns whether the job is over.
    """
    rest, place, asked, over = "", 0, float("-inf"), not follow
    while True:
        if file.exists():
            with file.open("rb") as log:
                log.seek(place)
                data = log.read()
            place += len(data)
            *whole, rest = (rest + data.decode(errors="replace")).split("\n")
            yield from (f"{line}\n" for line in whole)
        if over:
            if rest:
                yield f"{rest}\n"
            return
        time.sleep(_LOOK)
        if time.monotonic() - asked > _ASK:
            asked = time.monotonic()
            over = ended()
