"""Clock of this machine against the clock of a server, by the date in an answer's headers."""

import time
from email.utils import parsedate_to_datetime

from hardviews.doctor.finding import Finding, missing, ok, skipped, warning

_SIGNATURES = 900.0  # seconds after which S3 refuses a signature
_ROUGH = 30.0  # seconds: times of several machines no longer fit together in figures and logs


def compare(date: str | None, now: float | None = None) -> Finding:
    """Compare this machine's clock with the time in a header `Date`, which has whole seconds."""
    try:
        theirs = parsedate_to_datetime(date or "").timestamp()
    except (TypeError, ValueError):
        return skipped("clock", "the server's answer has no date")
    ahead = (time.time() if now is None else now) - theirs
    text = f"{abs(ahead):.0f} s {'ahead of' if ahead > 0 else 'behind'} the server's"
    remedy = "Set the clock: timedatectl set-ntp true, on the machine itself if this is a container."
    if abs(ahead) >= _SIGNATURES:
        return missing("clock", f"{text}: S3 refuses requests", remedy)
    if abs(ahead) >= _ROUGH:
        return warning("clock", text, remedy)
    return ok("clock", "as the server's" if abs(ahead) < 2 else text)
