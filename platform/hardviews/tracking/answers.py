"""Messages for answers that are not MLflow's usual ones: from a server in trouble, a proxy, another program."""

import re

from hardviews.failures import Needs, Remedy, links
from hardviews.tracking.scrub import brief

PASSING = {408, 425, 429}
"""Statuses below 500 that pass by themselves."""

NOT_MLFLOWS = (
    "it answers with a page that is not MLflow's, perhaps the login of a proxy: give the address of MLflow itself"
)
_BEHIND = {502: "bad gateway", 503: "unavailable", 504: "no answer from behind the gateway"}
# The second form is urllib3's, after all attempts; the third one is for files, which are sent by plain HTTP.
_STATUS = re.compile(
    r"failed with error code (\d{3})\b|too many (\d{3}) error responses|^(\d{3}) (?:Client|Server) Error"
)
_PAGE = re.compile(r"<!doctype|<html|<head|<body|<h1", re.IGNORECASE)
_BODY = re.compile(r"Response (?:body: '|text: )(.*?)'?$", re.DOTALL)
# Answers of proxies and servers with TLS to plain HTTP.
_TLS_ONLY = re.compile(r"HTTPS (?:port|server)|TLS-enabled server", re.IGNORECASE)


class NotMlflow(Exception):
    """An answer in JSON that MLflow would not give."""


def status_of(error: BaseException) -> int | None:
    """Return the HTTP status of an answer, None if there was none."""
    for link in links(error):
        response = getattr(link, "response", None)
        for status in (getattr(response, "status_code", None), getattr(link, "status_code", None)):
            if isinstance(status, int):
                return status
        match = _STATUS.search(str(link))
        if match:
            return int(match[1] or match[2] or match[3])
        status = getattr(link, "code", None)  # attribute of Google's client
        if isinstance(status, int) and type(link).__module__.startswith("google."):
            return int(status)
    return None


def is_page(text: str) -> bool:
    """Return whether an answer holds a page for people, like a proxy's."""
    return _PAGE.search(text) is not None


def of_status(status: int, error: BaseException, text: str, artifacts: str) -> Remedy:
    """Return the remedy for a status without the name of an MLflow error.

    Args:
        status: status of HTTP, not 200.
        error: exception of MLflow's client.
        text: texts of the error and its causes.
        artifacts: address of the artifacts, if they were written.
    """
    if status == 429:
        return Remedy(Needs.TIME, "it gets too many requests (error 429): start fewer jobs, or have its limit raised")
    if status in _BEHIND:
        return Remedy(
            Needs.TIME,
            f"it answers with error {status} ({_BEHIND[status]}): a proxy does not reach MLflow, or MLflow is "
            "starting. This passes once MLflow is up",
        )
    if status in PASSING or (status >= 500 and status not in (501, 505)):
        return Remedy(Needs.TIME, f"it answers with error {status}: look at the server's log")
    return Remedy(Needs.SOFTWARE if status in (501, 505) else Needs.USER, _refusal(status, error, text, artifacts))


def _refusal(status: int, error: BaseException, text: str, artifacts: str) -> str:
    if status < 300:
        return f"it answers with status {status}, which is not MLflow's: correct the address"
    if status < 400:
        return f"it redirects to another address (status {status}): give the address of MLflow itself"
    if _TLS_ONLY.search(text):
        return "it speaks TLS alone: write https:// in its address"
    if status == 407:
        return "the proxy wants a login: set HTTPS_PROXY with a user, or NO_PROXY"
    if status == 413:
        return (
            "it refuses requests of this size (error 413): raise the limit of the proxy before it, which nginx calls "
            "client_max_body_size"
        )
    if status == 404 and not artifacts:
        return (
            "there is no MLflow at this address (error 404): correct host, port and path. If MLflow lies under a path, "
            "write http://HOST:PORT/PATH"
        )
    if status == 405 and not artifacts:
        return (
            "it does not take requests of MLflow's kind (error 405). If it redirects, as from http:// to https://, "
            "give the address after the redirection"
        )
    if status in (404, 405, 501, 505):
        return f"it lacks a function that is needed (error {status}): use another MLflow"
    body = _BODY.search(str(error))
    words = "" if body is None or is_page(body[1]) or not body[1].strip() else f" ({brief(ValueError(body[1]))})"
    return f"it refuses a request with error {status}{words}: look at the log of the server and of a proxy before it"
