"""Where the coordinator of a job is; apart from the rest, which imports torch."""

from __future__ import annotations

from collections.abc import Mapping

RENDEZVOUS_VARIABLE = "HARDVIEWS_RENDEZVOUS"
"""Environment variable: `host:port` of the coordinator."""


def address(variables: Mapping[str, str]) -> tuple[str, int] | None:
    """Reads the coordinator's host and port from environment variables; None where there is none."""
    host, _, port = variables.get(RENDEZVOUS_VARIABLE, "").rpartition(":")
    return (host, int(port)) if host else None
