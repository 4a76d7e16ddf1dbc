"""A training process ends when its agent is gone, and when a peer is, unless it is leaving in good order."""

import multiprocessing
import time
from multiprocessing.connection import Connection

import pytest

from hardviews.elastic import guard
from hardviews.elastic.guard import BEAT, BROKEN, Guard


def _train(channel: Connection, spared: bool, silence: float) -> None:
    guard.SILENCE = silence
    watch = Guard(channel)
    if spared:
        watch.spare()
    watch.start()
    channel.send_bytes(b"ready")
    time.sleep(60)


class Watched:
    """A process with a guard, seen from its agent."""

    def __init__(self, spared: bool = False, silence: float = 8.0) -> None:
        self.channel, theirs = multiprocessing.Pipe()
        self.process = multiprocessing.get_context("spawn").Process(target=_train, args=(theirs, spared, silence))
        self.process.start()
        theirs.close()
        assert self.channel.recv_bytes() == b"ready"

    def ended(self, within: float) -> bool:
        """Whether it ends in that time, while the agent says that it lives."""
        deadline = time.monotonic() + within
        while time.monotonic() < deadline and self.process.is_alive():
            if not self.channel.closed:
                self.channel.send_bytes(BEAT)
            self.process.join(0.1)
        return not self.process.is_alive()


@pytest.fixture
def watch():
    made: list[Watched] = []

    def make(**options) -> Watched:
        made.append(Watched(**options))
        return made[-1]

    yield make
    for one in made:
        one.process.kill()
        one.process.join()


def test_it_ends_with_its_agent(watch):
    one = watch()
    assert not one.ended(1)
    one.channel.close()
    assert one.ended(2)


def test_it_ends_when_the_round_is_broken(watch):
    one = watch()
    one.channel.send_bytes(BROKEN)
    assert one.ended(guard.DELAY + 2)


def test_one_that_leaves_is_left_alone_while_its_agent_lives(watch):
    one = watch(spared=True)
    one.channel.send_bytes(BROKEN)
    assert not one.ended(guard.DELAY + 1)
    one.channel.close()
    assert one.ended(2)


def test_it_ends_when_its_agent_stands_still(watch):
    one = watch(silence=1.0)
    one.process.join(5)
    assert not one.process.is_alive()
