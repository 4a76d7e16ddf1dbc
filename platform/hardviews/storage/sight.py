"""Checks of places from a machine that may not see them, for reasons that would end a job that uses them."""

from collections.abc import Callable, Iterator
from typing import TypeVar

from hardviews.errors import UserError
from hardviews.storage.failures import Refused, Unreachable
from hardviews.storage.url import protocol_of

T = TypeVar("T")

PATIENCE = 3.0  # seconds to wait for a store


class Remark(str):
    """A sentence among reasons that does not refuse the job: the job can begin, and does as the sentence says."""


class Unseen(Exception):
    """A place cannot be seen from here; the message is the reason."""


def remote(url: str) -> bool:
    """Return whether an address names an object store: other places are on the machine that runs the job."""
    return protocol_of(url) == "s3"


def seen(look: Callable[[], T]) -> T:
    """Return the result of a look at a store.

    Raises:
        UserError: the look raises it, for a reason that holds on every machine.
        Unseen: the store does not answer or refuses us. Processes elsewhere, with other credentials, may see it.
    """
    try:
        return look()
    except (Unreachable, Refused) as error:
        raise Unseen(str(error)) from error


def reasons(look: Callable[[], object]) -> Iterator[str]:
    """Yield the message of the user's mistake in a look, if any.

    Raises:
        Unseen: as in `seen`.
    """
    try:
        seen(look)
    except UserError as error:
        yield str(error)
