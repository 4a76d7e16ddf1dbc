"""Ends a training process that cannot train any more: its agent is dead, or its peers are lost."""

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
"""Seconds between that message and the end: most processes notice by themselves and end in an orderly way."""

SILENCE = 8.0
"""Seconds of silence after which the agent counts as frozen; less than the coordinator's limit."""

INTERVAL = 1.0
"""Seconds between two messages to the agent that this process lives."""


def end_now() -> None:
    """End this process in any state."""
    os.kill(os.getpid(), signal.SIGKILL)


class Guard(threading.Thread):
    """Reads the agent's messages, and kills this process when it cannot train any more.

    The agent holds the other end of the channel: when it dies for any reason, the channel ends. A process that leaves
    in an orderly way (`spare`) is left alone while its agent lives: it saves, and the agent limits the time. Every
    second the guard calls `beat` to report that this process lives.
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
                # This thread may have been stopped itself, if the machine slept.
                if not self._channel.poll(1.0):
                    end_now()
                continue
            if doomed is not None and now > doomed and not self._spared:
                end_now()
            self._channel.poll(0.2)
