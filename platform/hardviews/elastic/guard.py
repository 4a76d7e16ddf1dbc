"""Ends a training process that cannot train on: its agent is dead, or its peers are lost."""

import os
import signal
import threading
import time
from collections.abc import Callable
from multiprocessing.connection import Connection

BEAT = b"."
"""The agent is alive."""

BROKEN = b"x"
"""The round is broken: a peer is lost, or has failed."""

DELAY = 1.0
"""Seconds between that word and the end: most processes notice themselves and end in an orderly way."""

SILENCE = 8.0
"""Seconds without a word from the agent until it counts as frozen; less than the coordinator gives it."""

INTERVAL = 1.0
"""Seconds between two words to the agent that this process lives."""


def end_now() -> None:
    """Ends this process, whatever it is stuck in."""
    os.kill(os.getpid(), signal.SIGKILL)


class Guard(threading.Thread):
    """Reads what the agent says, and kills this process when it cannot train on.

    The agent holds the other end of the channel: when it dies, by whatever cause, the channel ends. A process that
    leaves in an orderly way (`spare`) is left alone while its agent lives: it saves, and the agent limits the time.
    Every second it says, by `beat`, that this process lives.
    """

    def __init__(self, channel: Connection, beat: Callable[[], None] | None = None) -> None:
        """Watch a channel; `start` begins."""
        super().__init__(daemon=True, name="guard")
        self._channel = channel
        self._beat = beat
        self._spared = False

    def spare(self) -> None:
        """Do not kill this process for a broken round from now on."""
        self._spared = True

    def run(self) -> None:
        """Watch until the process ends."""
        heard, doomed, beaten = time.monotonic(), None, 0.0
        while True:
            now = time.monotonic()
            if self._beat is not None and now - beaten >= INTERVAL:
                beaten = now
                self._beat()
            try:
                while self._channel.poll(0):
                    word = self._channel.recv_bytes()
                    heard = now
                    if word == BROKEN and doomed is None:
                        doomed = now + DELAY
            except (EOFError, OSError):
                end_now()
            if now - heard > SILENCE:
                # This thread may have been the one that stood still, with a machine that slept.
                if not self._channel.poll(1.0):
                    end_now()
                continue
            if doomed is not None and now > doomed and not self._spared:
                end_now()
            self._channel.poll(0.2)
