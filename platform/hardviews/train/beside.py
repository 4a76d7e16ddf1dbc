"""Work in a thread beside the steps of training: one piece at a time, and rarely."""

import threading
import time
from collections.abc import Callable

_BETWEEN = 30.0  # seconds between the beginnings of two pieces


class Beside:
    """A thread for drawing: a piece that comes too early, or while another one is under way, is left out."""

    def __init__(self) -> None:
        """Start nothing yet: a short run needs no picture before its end."""
        self._thread: threading.Thread | None = None
        self._began = time.monotonic()

    @property
    def free(self) -> bool:
        """Whether a piece would be accepted now."""
        busy = self._thread is not None and self._thread.is_alive()
        return not busy and time.monotonic() - self._began >= _BETWEEN

    def run(self, act: Callable[[], object]) -> None:
        """Call a function in the thread; it handles its own errors."""
        self._began = time.monotonic()
        # A daemon: the end of a life does not wait for a picture.
        self._thread = threading.Thread(target=act, name="pictures", daemon=True)
        self._thread.start()

    def wait(self, seconds: float) -> None:
        """Wait for the piece that is under way."""
        if self._thread is not None:
            self._thread.join(seconds)
