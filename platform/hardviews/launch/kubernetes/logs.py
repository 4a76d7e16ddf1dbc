"""The log of one replica, line by line, through restarts of its container and its pod."""

import re
import time
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime
from typing import Any

from urllib3.exceptions import HTTPError

from hardviews.launch.kubernetes.cluster import ApiRefused, Cluster, Silent, patiently, reason

_PAUSE = 1.0  # seconds between two looks at a pod without new lines
_SLACK = 10  # seconds of log that are read twice, so that none is missed: clocks of nodes differ

Line = tuple[str, str]
"""Time of a line in a comparable form, and the line."""


def lines(
    cluster: Cluster,
    namespace: str,
    pod: str,
    follow: bool,
    over: Callable[[], bool],
    since: datetime | None = None,
) -> Iterator[str]:
    """Yield the lines of a pod's log, each with its line break.

    Args:
        cluster: the cluster.
        namespace: namespace of the pod.
        pod: name of the pod, also of a replacement.
        follow: wait for further lines until the job is over.
        over: returns whether the job is over.
        since: leave out earlier lines.
    """
    path = f"/api/v1/namespaces/{namespace}/pods/{pod}"
    last = _comparable(since.astimezone(UTC).isoformat()) if since else ""
    restarts, uid = 0, ""
    while True:
        ended = patiently(over)  # asked first: then the lines below are complete
        there = patiently(lambda: cluster.find(path))
        container = ((there or {}).get("status", {}).get("containerStatuses") or [{}])[0]
        if there is not None and container.get("containerID"):
            again = int(container.get("restartCount", 0))
            running = follow and bool(container.get("state", {}).get("running"))
            readings: list[dict[str, str]] = [{"follow": "true"} if running else {}]
            if there["metadata"]["uid"] == uid and again > restarts:
                readings.insert(0, {"previous": "true"})
            try:
                for query in readings:
                    for when, text in _read(cluster, path, last, **query):
                        if when > last:
                            last = when
                            yield text
                uid, restarts = there["metadata"]["uid"], again
            except (HTTPError, Silent) as error:
                if not follow:
                    raise Silent(f"The log of {pod} broke off ({reason(error)}). Ask for it again.") from error
                # The stream broke, or was silent for a while; the next look shows whether there is more.
        if not follow or ended:
            return
        time.sleep(_PAUSE)


def _read(cluster: Cluster, path: str, last: str, **query: str) -> Iterator[Line]:
    if last:
        behind = datetime.now(UTC) - datetime.fromisoformat(last[:19] + "+00:00")
        query["sinceSeconds"] = str(max(1, int(behind.total_seconds()) + _SLACK))
    try:
        with cluster.stream(f"{path}/log", timestamps="true", **query) as response:
            yield from _split(response)
    except ApiRefused as error:
        # The container has not started yet, or is gone: there is nothing to read.
        if error.status not in (400, 404):
            raise


def _split(response: Any) -> Iterator[Line]:
    rest = b""
    for piece in response.stream(amt=2**16):
        *whole, rest = (rest + piece).split(b"\n")
        yield from dated(whole)
    yield from dated([rest])


def dated(written: Iterable[bytes]) -> Iterator[Line]:
    """Split lines into time and text; a line without a time comes from the kubelet, not from the container."""
    for line in written:
        when, _, text = line.decode("utf-8", "replace").partition(" ")
        if time_of := _comparable(when):
            yield time_of, text + "\n"


def _comparable(when: str) -> str:
    """Return a UTC time with nine decimals, because servers leave out final zeros; empty if it is not a time."""
    match = re.match(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.(\d+))?", when)
    return f"{match[1]}.{(match[2] or '').ljust(9, '0')}" if match else ""
