"""The logs of a job on Slurm: files in its folder, one a replica."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path

_LOOK = 0.5  # seconds between two looks at a file
_ASK = 3.0  # seconds between two questions to Slurm


def log_file(folder: Path, job: str, role: str, replica: int) -> Path:
    """Return the file with what a replica writes."""
    return folder / f"slurm-{job}-{role}-{replica}.log"


def lines(file: Path, follow: bool, ended: Callable[[], bool]) -> Iterator[str]:
    """Yield the lines of a log.

    Args:
        file: it need not be there yet if it is followed.
        follow: whether to wait for more until the job is over.
        ended: whether the job is over.
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
