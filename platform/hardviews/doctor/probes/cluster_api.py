"""The cluster's API: the client's configuration, and whether the server answers."""

from collections.abc import Iterable

from hardviews.doctor.finding import Finding
from hardviews.doctor.probe import KUBERNETES, Probe
from hardviews.doctor.settings import Doctor


def look(settings: Doctor) -> Iterable[Finding]:
    """Request the version."""
    from hardviews.doctor.reached import reach

    return reach(settings).findings


PROBE = Probe("API", KUBERNETES, look, together=KUBERNETES)
