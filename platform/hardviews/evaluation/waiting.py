"""Wait for the encoder of a run that is still being trained."""

import logging
import time

from hardviews.errors import UserError
from hardviews.models.encoder import DESCRIPTION, WEIGHTS
from hardviews.runs.checkpoint import Checkpoints
from hardviews.runs.life import Life, read_lives
from hardviews.storage.failures import Denied, Unreachable
from hardviews.storage.patience import TRAINING
from hardviews.storage.store import Store, open_store

logger = logging.getLogger(__name__)

POLL = 5.0  # seconds between looks
EVERY = 60.0  # seconds between words


def wait_for_encoder(run: str, seconds: float, checkpoint: bool = False) -> None:
    """Return once the encoder of a run is exported, at once if it is or if `seconds` is 0.

    run: as `models.encoder.load` takes it. checkpoint: a checkpoint of the run is enough. What is waited for, and how
    far the run came, is logged every minute. A failure from before the wait began is not taken for the end: the run may
    be about to be started again.

    Raises:
        UserError: the run failed meanwhile, or the time is up.
    """
    began, said = time.monotonic(), -EVERY
    first: Life | None = None
    looked = False
    while seconds and not (_has_checkpoint(run) if checkpoint else _exported(run)):
        life = _last_life(run)
        if not looked:
            first, looked = life, True
        if life is not None and life.end == "failed" and life != first:
            raise UserError(
                f"The run at {run} failed at step {life.reached}, so there is no encoder to evaluate. Its own log says "
                "why; start it again, it goes on from its last checkpoint."
            )
        waited = time.monotonic() - began
        if waited >= seconds:
            raise UserError(
                f"The run at {run} exported no encoder within {seconds:g} s: {_state(life)}. Wait longer with --wait, "
                "or evaluate once it is finished."
            )
        if waited - said >= EVERY:
            said = waited
            logger.warning(
                "waiting for the encoder of %s since %.0f s, at most %.0f s: %s", run, waited, seconds, _state(life)
            )
        time.sleep(min(POLL, seconds - waited))


def _has_checkpoint(run: str) -> bool:
    """Whether a checkpoint is committed: its manifest is written last."""
    checkpoints = Checkpoints(run, patience=TRAINING)
    return any(checkpoints.manifest(name) is not None for name in checkpoints.names())


def _exported(run: str) -> bool:
    """Whether the export is complete: its description is written last."""
    folder, _, file = run.rpartition("/")
    if file.endswith(".safetensors"):
        return _there(open_store(folder or ".", TRAINING), file)
    store = open_store(run, TRAINING)
    return any(_there(store, file) for file in (f"encoder/{DESCRIPTION}", DESCRIPTION, WEIGHTS))


def _there(store: Store, file: str) -> bool:
    """Whether a file can be read. To whoever may not list, S3 denies what is not there."""
    try:
        return store.size(file) is not None
    except Denied:
        return False


def _last_life(run: str) -> Life | None:
    try:
        lives = read_lives(run)
    except Unreachable as error:
        logger.warning("%s", error)
        return None
    return lives[-1] if lives else None


def _state(life: Life | None) -> str:
    if life is None:
        return "no training has begun there"
    ended = {None: "training", "finished": "finished, the export is under way"}.get(life.end, f"{life.end}")
    return f"its life {life.number} is {ended}, at step {life.reached} or later"
