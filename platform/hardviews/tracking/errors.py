"""What a tracking server's answers mean, in words."""

from __future__ import annotations

from urllib.parse import urlsplit

from hardviews.errors import UserError
from hardviews.tracking.scrub import scrub

# Answers that sending the same record again will not change. Anything else may be a server that is away.
_FINAL = {
    "INVALID_PARAMETER_VALUE",
    "BAD_REQUEST",
    "RESOURCE_DOES_NOT_EXIST",
    "RESOURCE_ALREADY_EXISTS",
    "INVALID_STATE",
    "MALFORMED_REQUEST",
}
_DENIED = {"PERMISSION_DENIED", "UNAUTHENTICATED", "CUSTOMER_UNAUTHORIZED"}
# What a server says that was not told by which names it is reached.
_WRONG_HOST = "Invalid Host header"


class MissingRun(UserError):
    """The tracking store does not know the run."""


def code(error: BaseException) -> str:
    """Return MLflow's name of an error that a server answered; empty where none answered.

    Files travel by plain HTTP: there the status tells.
    """
    response = getattr(error, "response", None)
    status = getattr(response, "status_code", None)
    if status is not None:
        if status in (401, 403):
            return "PERMISSION_DENIED"
        return "BAD_REQUEST" if 400 <= status < 500 and status not in (408, 425, 429) else ""
    return str(getattr(error, "error_code", ""))


def is_final(error: BaseException) -> bool:
    """Whether the same request would be refused for ever."""
    return code(error) in _FINAL


def is_denied(error: BaseException) -> bool:
    """Whether the server is there and will not talk to us."""
    return code(error) in _DENIED


def explain(uri: str, error: BaseException) -> str:
    """Return one line that says what is wrong with a server, and what to do where we know."""
    text = scrub(str(error))
    if _WRONG_HOST in text:
        host = urlsplit(uri).netloc.rpartition("@")[2]
        return f"it does not answer to the name {host}: start it with `mlflow server --allowed-hosts {host}`"
    if is_denied(error):
        return (
            "it refuses our credentials: set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or "
            "MLFLOW_TRACKING_TOKEN, to valid ones"
        )
    if "NameResolutionError" in text or "Name or service not known" in text:
        return f"no machine has the name {urlsplit(uri).hostname}"
    if "Connection refused" in text:
        return "connection refused"
    if "timed out" in text or "timeout" in text:
        return "no answer in time"
    return (text.splitlines() or [type(error).__name__])[0][:300]


def unusable(uri: str, error: BaseException) -> UserError:
    """Return the mistake to raise where a store cannot be used."""
    return UserError(
        f"The tracking store {scrub(uri)} cannot be used ({explain(uri, error)}). Start it, correct "
        "MLFLOW_TRACKING_URI, or unset it to keep the record in SQLite in the project's folder."
    )
