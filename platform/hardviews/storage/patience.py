"""Repeated attempts while a failure may pass, with messages about the wait."""

import logging
import os
import random
import threading
import time
from collections.abc import Callable, Mapping
from typing import TypeVar

from hardviews.checked import at_least, number
from hardviews.storage.failures import Unreachable, advice, in_words, is_unknown_host, verdict

T = TypeVar("T")

STARTING = 60.0  # seconds that a command waits for a store that does not answer
TRAINING = 600.0  # seconds that a running training waits for a store, enough for a restart of it
VARIABLE = "HARDVIEWS_PATIENCE"  # environment variable: seconds in place of STARTING
FIRST_PAUSE = 0.2  # seconds; doubles with every try, and the pause is drawn uniformly below it ("full jitter")
UNKNOWN_HOST = 15.0  # seconds that a starting command waits for an unknown host name
LONGEST_PAUSE = 5.0  # seconds; a store that is back should be used soon
FIRST_WORD = 10.0  # seconds of failures until the log reports the wait
NEXT_WORD = 30.0  # seconds between such lines, over all threads of a process

logger = logging.getLogger(__name__)

_told = {"at": -NEXT_WORD}


def usual(variables: Mapping[str, str] = os.environ) -> float:
    """Return the seconds that a starting command waits for a store: HARDVIEWS_PATIENCE, or a minute.

    Raises:
        UserError: the environment variable is not a number of seconds.
    """
    given = variables.get(VARIABLE, "").strip()
    return number(VARIABLE, given, at_least(0).note("for example 60"), "seconds") if given else STARTING


class Patience:
    """The time of waiting for passing failures; counts calls and repeated calls."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.requests = 0
        self.retries = 0
        self._lock = threading.Lock()
        self._over = threading.Event()
        # Not the global generator: a fetch must not change the random numbers of training.
        self._jitter = random.Random()

    def end(self) -> None:
        """Stop waiting: present waits fail at once."""
        self._over.set()

    def call(self, function: Callable[[], T], url: str, name: str) -> T:
        """Call a function, and again after a pause if the failure may pass.

        Raises:
            FileNotFoundError: the file is missing.
            UserError: the failure cannot pass, or did not pass in time.
        """
        began, tries = time.monotonic(), 0
        while True:
            with self._lock:
                self.requests += 1
            try:
                result = function()
            except Exception as error:
                tries += 1
                refusal = verdict(error, url, name, tries)
                if refusal is not None:
                    raise refusal from error
                if isinstance(error, FileNotFoundError | FileExistsError | IsADirectoryError | NotADirectoryError):
                    raise
                # A mistake in our own code: clients never raise these for a broken connection.
                if isinstance(error, TypeError | NameError):
                    raise
                pause = self._jitter.uniform(0.0, min(LONGEST_PAUSE, FIRST_PAUSE * 2 ** min(tries, 10)))
                waited = time.monotonic() - began
                words = in_words(error, url)
                # A running training waits longer: the name of a service may disappear during its restart.
                unknown = is_unknown_host(error) and self.seconds <= STARTING
                most = min(self.seconds, UNKNOWN_HOST) if unknown else self.seconds
                if waited + pause > most or self._over.is_set():
                    raise Unreachable(
                        f"{name} could not be reached for {waited:.0f} s ({tries} tries): {words.rstrip('.')}. "
                        f"{advice(error, url)}"
                    ) from error
                with self._lock:
                    self.retries += 1
                _tell(url, words, waited, self.seconds)
                self._over.wait(pause)
            else:
                if tries and time.monotonic() - began > FIRST_WORD:
                    logger.warning("%s answers again, after %.0f s", url, time.monotonic() - began)
                return result


def _tell(url: str, words: str, waited: float, patience: float) -> None:
    now = time.monotonic()
    if waited > FIRST_WORD and now - _told["at"] >= NEXT_WORD:
        _told["at"] = now
        logger.warning("waiting for %s since %.0f s, at most %.0f s: %s", url, waited, patience, words)
