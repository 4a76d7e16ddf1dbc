"""Looks at places from a machine that need not see them: the reasons for which a job that uses them would end."""

from collections.abc import Callable, Iterator
from typing import TypeVar

from hardviews.errors import UserError
from hardviews.storage.failures import Refused, Unreachable
from hardviews.storage.url import protocol_of

T = TypeVar("T")

PATIENCE = 3.0  # seconds that a store is waited for


class Remark(str):
    """A sentence among reasons that is none: the job can begin, and does what the sentence says."""


class Unseen(Exception):
    """A place cannot be seen from here; the message says why."""


def remote(url: str) -> bool:
    """Return whether an address names an object store: other places are those of the machine that runs the job."""
    return protocol_of(url) == "s3"


def seen(look: Callable[[], T]) -> T:
    """Return what a look at a store returns.

    Raises:
        UserError: as the look, for a reason that holds on every machine.
        Unseen: the store does not answer or refuses us. Processes elsewhere, with other credentials, may see it.
    """
    try:
        return look()
    except (Unreachable, Refused) as error:
        raise Unseen(str(error)) from error


def reasons(look: Callable[[], object]) -> Iterator[str]:
    """Yield the message of the user's mistake that a look shows, if any.

    Raises:
        Unseen: as `seen`.
    """
    try:
        seen(look)
    except UserError as error:
        yield str(error)
