"""Errors that a user can act on."""

import difflib
from collections.abc import Iterable


class UserError(Exception):
    """A mistake of the user: the message names the mistake, its place, and the remedy.

    The command line prints the message as one paragraph, without a traceback, and exits with code 2.
    """


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return ` Did you mean NAME?` with the most similar known name, or nothing if none is similar."""
    close = difflib.get_close_matches(name, list(known), n=1)
    return f" Did you mean {close[0]}?" if close else ""
