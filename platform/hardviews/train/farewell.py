"""The last save of a life, with a wait until it is done and a message about the step to go on from."""

import os

from hardviews.checked import at_least, number
from hardviews.elastic.worker import EVICTED, GRACE_VARIABLE
from hardviews.errors import UserError
from hardviews.runs.life import LifeNotes, NoLife
from hardviews.runs.saver import Saver, State
from hardviews.train.trainer import Trainer

_PATIENCE = (
    240.0  # seconds that the last save of a finished training waits for the store; less than the wait at a barrier
)
_MARGIN = 5.0  # seconds of the grace period that remain after the save


def grace() -> float:
    """Return the number of seconds that a process has if it is asked to leave.

    Raises:
        UserError: HARDVIEWS_GRACE is not a number of seconds.
    """
    return number(GRACE_VARIABLE, os.environ.get(GRACE_VARIABLE) or "30", at_least(0), "seconds")


def save_last(saver: Saver, state: State, trainer: Trainer, life: LifeNotes | NoLife, finished: bool) -> None:
    """Save and wait for it: a life ends here, and the next one begins at its step. Every rank calls this.

    Raises:
        UserError: a finished training could not be saved.
        Displaced: another job trains the run now.
        SystemExit: with EVICTED, another life of this job has begun.
    """
    wait = _PATIENCE if finished else max(1.0, grace() - _MARGIN)
    saved = life.displaced is None and saver.finish(state, wait)
    # All leave together: a process that started again before the save is done would begin from the previous save.
    trainer.synchronise()
    if life.displaced is not None:
        raise life.displaced
    if saver.superseded:
        raise SystemExit(EVICTED)
    if saved and finished:
        return
    step, world = state.progress.step, trainer.world
    if saved:
        world.say(f"asked to leave: saved at step {step}; the same command goes on from there")
        return
    reason = saver.reason or f"{saver.checkpoints.store.url} did not take it for {wait:.0f} s."
    if finished:
        raise UserError(
            f"The training is complete, but its last checkpoint could not be saved: {reason} Then start again: "
            f"the run goes on from step {saver.saved_step or 0}."
        )
    world.say(
        f"asked to leave at step {step}, but a checkpoint could not be saved: {reason} The same command "
        f"goes on from step {saver.saved_step or 0}"
    )
