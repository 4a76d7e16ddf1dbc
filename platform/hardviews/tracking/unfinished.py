"""The first line of the description of an unfinished run, and its form after a closing by others.

A training writes the line as long as it lives. A killed training cannot: the process that closes its run in the
tracking store writes its progress, by the existing reports.
"""

import re

from hardviews.tracking.notes import HEAD, section, with_section

# The line, and the addition of an earlier closing.
_LINE = re.compile(
    r"\*\*Unfinished\*\*: ([\d,]+) of ([\d,]+) samples seen \(\d+ %\)\.(?: Closed as [^\n]*? goes on with it\.)?"
)


def unfinished(samples: int, total: int) -> str:
    """Return the line of a training that has not seen all samples."""
    return f"**Unfinished**: {samples:,} of {total:,} samples seen ({100 * samples / max(1, total):.0f} %)."


def closed(note: str, samples: int, status: str, evidence: str) -> str:
    """Return a description whose line has the progress of a run that others close; a note without the line stays.

    `samples` were seen by the run's last report in the tracking. `status` is FINISHED, FAILED or KILLED. `evidence` is
    in words.
    """

    def line(found: re.Match[str]) -> str:
        before, total = (int(number.replace(",", "")) for number in found.groups())
        if status == "FINISHED":
            return f"**Finished**: {total:,} samples seen."
        reached = min(max(before, samples), total)
        return f"{unfinished(reached, total)} Closed as {status}: {evidence}. Its own command goes on with it."

    head = section(note, HEAD)
    new = _LINE.sub(line, head, count=1)
    return note if new == head else with_section(note, HEAD, new)
