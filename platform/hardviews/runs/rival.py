"""One job at a time trains a run: a check whether another job does, and the wait of a new job for its silence.

A life that trains writes its file every few seconds. Only changes of that file count, never the clocks of two machines.
"""

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from hardviews.elastic.identity import have_ended, job_name
from hardviews.errors import UserError
from hardviews.runs.life import Life, lives_in, newest_life
from hardviews.storage.store import Store

SILENCE = 30.0  # seconds without a change after which a life is over; six times its usual pause
LONGEST = 240.0  # seconds that a new job waits for another job that was asked to leave
_GAP = 10.0  # seconds after a life's end in which the same job may begin the next life
_LOOK = 1.0  # seconds between two looks

logger = logging.getLogger(__name__)


def living(output: str, patience: float | None = None, silence: float = SILENCE) -> Life | None:
    """Return the life that trains the run in an output now, else None.

    The look lasts until the life's file changes, at most `silence` seconds. It takes so long only if the file has no
    end.

    Raises:
        UserError: the output cannot be read.
    """
    watch = _Watch(lives_in(output, patience), silence)
    while True:
        life = watch.look()
        if life is None or watch.over:
            return None
        if watch.beats and life.end is None:
            return life
        time.sleep(min(_LOOK, silence / 10))


def await_turn(
    output: str,
    patience: float | None = None,
    asked: Callable[[], bool] | None = None,
    job: str = "",
    silence: float = SILENCE,
) -> int:
    """Return the number of the newest life, 0 if there is none, once no other job trains the run in an output.

    There is no wait if that life is over, or belongs to this job. A life that does not change for `silence` seconds is
    over. If it still changes after `silence` seconds, this function raises; but a life that was asked to leave gets
    LONGEST seconds. `asked` returns whether this process was asked to leave; then this function returns too. `job` is
    by default the job of this process.

    Raises:
        UserError: another job trains the run; or the output cannot be read.
    """
    watch = _Watch(lives_in(output, patience), silence)
    job = job or job_name()
    announced = False
    while asked is None or not asked():
        life = watch.look()
        if life is None or life.job == job or watch.over:
            if announced:
                logger.warning("the other job is over: this one goes on with the run in %s", output)
            return watch.number
        bound = max(LONGEST, silence) if life.leaving or life.end else silence
        if watch.beats and watch.age >= bound and watch.quiet < silence / 2:
            raise UserError(_refusal(output, life, watch.quiet))
        if not announced:
            announced = True
            logger.warning(
                "the run in %s may still be trained by %s. Waiting until it is silent for %.0f s",
                *(output, _described(life), silence),
            )
        time.sleep(min(_LOOK, silence / 10))
    return watch.number


@dataclass
class _Watch:
    """The observed changes of the newest life's file."""

    store: Store
    silence: float
    beats: int = 0  # number of changes
    over: bool = False
    _life: Life | None = None
    _seen: tuple[int, bytes | None] | None = None
    _began: float = field(default_factory=time.monotonic)
    _changed: float = field(default_factory=time.monotonic)

    @property
    def number(self) -> int:
        """Return the number of the newest life."""
        return self._seen[0] if self._seen else 0

    @property
    def quiet(self) -> float:
        """Return the seconds since the last change."""
        return time.monotonic() - self._changed

    @property
    def age(self) -> float:
        """Return the seconds since the first look."""
        return time.monotonic() - self._began

    def look(self) -> Life | None:
        """Return the newest life, None if there is none; set `over` if it does not train any more."""
        found = newest_life(self.store)
        if found != self._seen:
            if self._seen is not None:
                self._changed = time.monotonic()
                self.beats += 1
            self._seen, self._life = found, _parsed(found)
        life = self._life
        self.over = life is not None and self._is_over(life)
        return life

    def _is_over(self, life: Life) -> bool:
        if life.end in ("finished", "failed"):
            return True
        if life.end is not None:
            # A job's next life begins soon, unless the job ends with this one; an older end is final.
            fresh = self.beats or abs(time.time() - life.updated) < _GAP
            return not (fresh and _restarts(life)) or self.quiet >= min(_GAP, self.silence)
        return self.quiet >= self.silence or have_ended(life.processes)


def _restarts(life: Life) -> bool:
    """Return whether an agent may begin another life of the same job."""
    return bool(life.job) and not life.job.startswith("process-") and not have_ended(life.processes)


def _parsed(found: tuple[int, bytes | None]) -> Life | None:
    number, data = found
    if not number:
        return None
    try:
        return Life.parse(data or b"")
    except ValueError:
        return Life(number, 1, 0, time.time(), "an unknown host", 0, time.time())


def _described(life: Life) -> str:
    return f"job {life.job or 'of an older version'} (host {life.host}, life {life.number}, step {life.reached})"


def _refusal(output: str, life: Life, quiet: float) -> str:
    return (
        f"The run in {output} is being trained by {_described(life)}, heard of {quiet:.0f} s ago. Wait for that job, "
        "delete it, or give another --output."
    )
