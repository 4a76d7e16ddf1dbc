"""When a process counts as standing still; no clock, no process."""

import pytest

from hardviews.elastic.watchdog import Limits, Watch
from hardviews.elastic.worker import Phase
from hardviews.errors import UserError

LIMITS = Limits()


class Process:
    """A process that beats once a second, as its agent hears it."""

    def __init__(self, limits: Limits = LIMITS) -> None:
        self.now, self.count, self.used = 100.0, 0, 0.0
        self.phase = Phase.START
        self.watch = Watch(limits, self.now)

    def run(self, seconds: float, beats: bool = True, works: bool = True, stopped: tuple[int, ...] = ()) -> None:
        for _ in range(round(seconds)):
            self.now += 1.0
            self.watch.look(self.now)
            self.used += works
            self.watch.measure(self.used, list(stopped), self.now)
            if beats:
                self.watch.hear(self.phase, self.count, self.now)

    def step(self, seconds: float, times: int = 1) -> None:
        for _ in range(times):
            self.run(seconds)
            self.phase = Phase.STEP
            self.count += 1
            self.watch.step(self.count, self.now)
            self.watch.hear(self.phase, self.count, self.now)


def test_a_process_that_says_nothing_and_does_nothing_is_frozen_after_the_limit():
    process = Process()
    process.step(1, times=5)
    process.run(LIMITS.silent - 1, beats=False, works=False)
    assert not process.watch.frozen(process.now)
    process.run(1, beats=False, works=False)
    assert process.watch.frozen(process.now)
    assert process.watch.standing(process.now) == "no step for 30 s (usual: 1.0 s)"


def test_a_process_that_works_in_silence_is_not_frozen_but_overdue_in_the_end():
    process = Process()
    process.step(1, times=5)
    process.run(LIMITS.step + 1, beats=False)
    assert not process.watch.frozen(process.now)
    assert process.watch.overdue(process.now)


def test_a_process_that_beats_without_a_step_is_overdue_after_the_floor():
    process = Process()
    process.step(1, times=5)
    process.run(LIMITS.step - 1)
    assert not process.watch.overdue(process.now)
    process.run(1)
    assert process.watch.overdue(process.now)
    assert not process.watch.frozen(process.now)
    process.step(1)
    assert not process.watch.overdue(process.now)


def test_slow_steps_have_a_multiple_of_their_usual_time():
    process = Process()
    process.step(10, times=5)
    process.run(LIMITS.times * 10 - 1)
    assert not process.watch.overdue(process.now)
    process.run(1)
    assert process.watch.overdue(process.now)


def test_steps_without_a_report_count_for_the_usual_time():
    process = Process()
    process.step(1, times=4)
    process.run(8)
    process.watch.step(process.count + 8, process.now)
    assert process.watch.usual == 1.0


@pytest.mark.parametrize("phase", [phase for phase in Phase if phase != Phase.STEP])
def test_every_phase_has_its_own_limit(phase):
    process = Process()
    process.step(1, times=5)
    process.phase = phase
    process.run(1)
    process.run(LIMITS.of(phase) - 1)
    assert not process.watch.overdue(process.now)
    process.run(1)
    assert process.watch.overdue(process.now)


def test_the_first_steps_of_a_round_have_the_time_of_its_start():
    process = Process()
    process.run(LIMITS.start - 1)
    assert not process.watch.overdue(process.now)
    process.step(1)
    process.run(LIMITS.start - 1)
    assert not process.watch.overdue(process.now)


def test_progress_within_a_phase_begins_its_time_again():
    process = Process()
    process.phase = Phase.EPOCH
    for _ in range(3):
        process.run(LIMITS.epoch - 1)
        process.count += 1
    assert not process.watch.overdue(process.now)


def test_a_stopped_process_of_its_own_counts_while_it_makes_no_progress():
    process = Process()
    process.step(1, times=5)
    for _ in range(60):
        process.run(1, stopped=(7,))
        process.step(1)
        process.run(0)
    assert process.watch.stopped(process.now) is None
    process.run(LIMITS.silent, stopped=(7,))
    assert process.watch.stopped(process.now) is None  # it ran meanwhile
    process.run(1, stopped=(7,))
    assert process.watch.stopped(process.now) == 7


def test_an_agent_that_stood_still_itself_blames_nobody():
    process = Process()
    process.step(1, times=5)
    process.now += 999
    process.run(1, beats=False, works=False)
    process.run(LIMITS.silent - 1, beats=False, works=False)
    assert not process.watch.frozen(process.now)
    assert not process.watch.overdue(process.now)
    process.run(1, beats=False, works=False)
    assert process.watch.frozen(process.now)


def test_the_limits_are_settings():
    assert Limits.read({}) == LIMITS
    assert Limits.read({"HARDVIEWS_WATCHDOG": "silent=5, step=7.5"}) == Limits(silent=5, step=7.5)
    assert Limits.read({"HARDVIEWS_PATIENCE": "3600"}).data == 3660
    assert Limits.read({"HARDVIEWS_PATIENCE": "3600", "HARDVIEWS_WATCHDOG": "data=10"}).data == 10


def test_the_watchdog_can_be_switched_off():
    process = Process(Limits.read({"HARDVIEWS_WATCHDOG": "off"}))
    process.step(1, times=5)
    process.run(10_000, beats=False, works=False, stopped=(7,))
    assert not process.watch.frozen(process.now)
    assert not process.watch.overdue(process.now)
    assert process.watch.stopped(process.now) is None


@pytest.mark.parametrize("text", ["on", "silent", "silent=soon", "silent=-1", "silent=inf", "silent=nan", "steps=3"])
def test_limits_that_cannot_be_read_are_refused(text):
    with pytest.raises(UserError, match=r"^HARDVIEWS_WATCHDOG is .* for example silent=60"):
        Limits.read({"HARDVIEWS_WATCHDOG": text})
