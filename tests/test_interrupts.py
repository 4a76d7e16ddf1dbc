"""Ctrl-C and SIGTERM: the first ends in order, a further one is noted, one more gives up."""

import signal
import time
from collections.abc import Iterator

import pytest

from hardviews.interrupts import GivenUp, answered_by, ending, hurry_until, leaving_on_sigterm, listening

INT, TERM = signal.SIGINT, signal.SIGTERM


@pytest.fixture(autouse=True)
def handlers_stay() -> Iterator[None]:
    before = [signal.getsignal(number) for number in (INT, TERM)]
    yield
    assert [signal.getsignal(number) for number in (INT, TERM)] == before
    assert hurry_until() == float("inf"), "a request outlives the block that heard of it"


def test_an_end_is_not_cut_and_says_once_how_to_give_up(capfd: pytest.CaptureFixture[str]) -> None:
    done = []
    with pytest.raises(KeyboardInterrupt) as caught, listening():
        try:
            signal.raise_signal(INT)
        finally:
            with ending(7):
                assert hurry_until() == float("inf")
                signal.raise_signal(INT)
                assert hurry_until() < time.monotonic() + 6
                done.append(True)
    assert done and caught.type is KeyboardInterrupt
    assert capfd.readouterr().err.count("ending in order, which takes at most 7 s; press Ctrl-C again to give up") == 1


def test_a_third_gives_up_and_no_later_end_begins() -> None:
    done = []
    with pytest.raises(GivenUp), listening():
        try:
            signal.raise_signal(INT)
        finally:
            try:
                with ending(7):
                    signal.raise_signal(INT)
                    signal.raise_signal(INT)
                    done.append("cut")
            finally:
                with ending(7):
                    done.append("begun")
    assert not done


def test_between_the_first_and_the_end_nothing_is_lost() -> None:
    done = []
    with pytest.raises(KeyboardInterrupt) as caught, listening():
        try:
            signal.raise_signal(INT)
        finally:
            signal.raise_signal(INT)  # the code that unwinds is not cut either
            with ending(7):
                done.append(True)
    assert done and caught.type is KeyboardInterrupt


def test_the_first_within_an_end_is_raised_after_it_and_the_second_gives_up() -> None:
    done = []
    with pytest.raises(KeyboardInterrupt) as caught, listening(), ending(7):
        signal.raise_signal(INT)
        done.append(True)
    assert done and caught.type is KeyboardInterrupt
    with pytest.raises(GivenUp), listening(), ending(7):
        signal.raise_signal(INT)
        signal.raise_signal(INT)
    with listening(), pytest.raises(KeyboardInterrupt):  # nothing of that is left
        signal.raise_signal(INT)


def test_the_first_is_answered_the_second_interrupts_and_the_third_gives_up() -> None:
    done: list[str] = []
    with pytest.raises(GivenUp), listening():
        try:
            with answered_by(lambda: done.append("answered")):
                signal.raise_signal(INT)
                assert done == ["answered"]
                signal.raise_signal(INT)
                done.append("not cut")
        except KeyboardInterrupt:
            with ending(7):
                signal.raise_signal(INT)
                done.append("not given up")
    assert done == ["answered"]


def test_outside_of_its_block_nothing_is_answered() -> None:
    with pytest.raises(KeyboardInterrupt), listening():
        with answered_by(lambda: None):
            pass
        signal.raise_signal(INT)


def test_sigterm_ends_once_and_never_gives_up() -> None:
    done = []
    with pytest.raises(SystemExit) as caught, listening(), leaving_on_sigterm():
        try:
            signal.raise_signal(TERM)
        finally:
            signal.raise_signal(TERM)
            with ending(7):
                for _ in range(3):
                    signal.raise_signal(TERM)
                done.append(True)
    assert done and caught.value.code == 128 + TERM
    with pytest.raises(SystemExit), leaving_on_sigterm(), ending(7):
        signal.raise_signal(TERM)
        assert hurry_until() < time.monotonic() + 6
        done.append(True)
    assert len(done) == 2


def test_a_process_that_ignores_ctrl_c_still_does() -> None:
    before = signal.signal(INT, signal.SIG_IGN)
    try:
        with listening(), ending(7):
            for _ in range(3):
                signal.raise_signal(INT)
    finally:
        signal.signal(INT, before)
