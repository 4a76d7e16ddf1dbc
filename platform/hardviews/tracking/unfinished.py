"""The first line of the description of a run that has not seen all its samples, and how others close it.

A training writes the line as long as it lives. A training that is killed outright cannot: whoever closes its run in the
tracking store writes how far it came, by the reports that are there.
"""

import re

from hardviews.tracking.notes import HEAD, section, with_section

# The line, and what an earlier closing has added.
_LINE = re.compile(
    r"\*\*Unfinished\*\*: ([\d,]+) of ([\d,]+) samples seen \(\d+ %\)\.(?: Closed as [^\n]*? goes on with it\.)?"
)


def unfinished(samples: int, total: int) -> str:
    """Return the line of a training that has not seen all samples."""
    return f"**Unfinished**: {samples:,} of {total:,} samples seen ({100 * samples / max(1, total):.0f} %)."


def closed(note: str, samples: int, status: str, evidence: str) -> str:
    """Return a description whose line says how far a run came that others close; a note without the line stays.

    samples: seen by the run's last report in the tracking. status: FINISHED, FAILED or KILLED. evidence: in words.
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
