"""A mark in a remote folder, by the process that packs into it: object stores have no locks."""

import uuid

from hardviews.errors import UserError
from hardviews.storage.store import Store

CLAIM_NAME = ".packing"


class Claim:
    """A claim to a remote folder, which belongs to the last process that claims it.

    The next process takes over the claim of a killed one, which looks like the claim of a living one. A process that
    lost its claim notices before it writes, and leaves everything to the other.
    """

    def __init__(self, store: Store) -> None:
        self.store = store
        self._token = uuid.uuid4().hex.encode()

    def take(self) -> None:
        """Claim the folder; raise UserError if it cannot be written."""
        self.store.write(CLAIM_NAME, self._token)

    def holds(self) -> bool:
        """Whether nobody else has claimed the folder since."""
        try:
            return self.store.read(CLAIM_NAME) == self._token
        except FileNotFoundError:
            return False

    def check(self) -> None:
        """Raise UserError if somebody else has claimed the folder since."""
        if not self.holds():
            raise UserError(
                f"Another process began to pack into {self.store.url!r} in the meantime; this one leaves the folder to "
                "it. Pack into a folder of its own."
            )

    def drop(self) -> None:
        """End the claim."""
        self.store.remove(CLAIM_NAME)
