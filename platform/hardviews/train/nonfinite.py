"""Stops a run with a loss that is not finite before it spoils the weights, and records the samples.

Shape legend: B samples of this rank's share, C columns of a view's parameters.
"""

import json
import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from hardviews.batch import Samples
from hardviews.clock import Clock
from hardviews.data.reader import Reader
from hardviews.errors import UserError
from hardviews.objective.losses import Losses
from hardviews.runs.nonfinite import record_name
from hardviews.storage.store import open_store
from hardviews.views.params import Column
from hardviews.views.plan import Slot

logger = logging.getLogger(__name__)

_ADVICE = (
    "Earlier checkpoints are intact. Lower --optimizer.learning-rate or lengthen --schedule.warmup, and start again: "
    "with --accept-changes the run goes on from its last checkpoint, with another --output it begins anew."
)


class Diverged(UserError):
    """A number of the training is not finite; `what` is the sentence with its name and step."""

    def __init__(self, what: str, advice: str) -> None:
        super().__init__(f"{what.rstrip('.')}{advice}")
        self.what = what


@dataclass(frozen=True)
class Trace:
    """The record of a term of a micro-batch: losses (B,), sample indices, and parameters (B, C) of its views.

    It holds no pixels, because a step keeps the records of all its micro-batches.
    """

    term: str
    losses: Tensor
    samples: Samples
    rows: Mapping[Slot, Tensor]


def traces(losses: Losses) -> list[Trace]:
    """Return the records of a micro-batch; a regulariser that is not finite counts for all its samples."""
    batchwide = losses.regulariser
    return [
        Trace(
            term.name,
            losses_B if batchwide is None else losses_B + batchwide,
            term.batch.samples,
            {slot: view.rows for slot, view in term.batch.views.items() if view.rows is not None},
        )
        for term, losses_B in losses.terms
    ]


def dump(output: str, left: Sequence[Trace], clock: Clock, reader: Reader, rank: int) -> str | None:
    """Write the samples with a non-finite loss and their views; return the path, None if this rank had none."""
    found = [
        _describe(trace, i, reader) for trace in left for i in (~trace.losses.isfinite()).nonzero().squeeze(1).tolist()
    ]
    if not found:
        return None
    store, file = open_store(output), record_name(clock.step, rank)
    content = {"step": clock.step, "epoch": clock.epoch, "samples": found}
    try:
        store.write(file, json.dumps(content, indent=1).encode())
    except (OSError, UserError) as error:
        # The error of the loss is more important for the user.
        logger.warning("which samples had a loss that is not finite could not be written: %s", error)
        return None
    return store.name(file)


def refuse(step: int, path: str | None, output: str) -> None:
    """Stop on a loss that is not finite, with the advice that usually helps.

    Raises:
        Diverged: always.
    """
    where = f"Samples and view parameters are in {path}." if path else f"The record is in {output}/nonfinite-step-*."
    raise Diverged(f"The loss is not finite at step {step}.", f", which was not taken. {where} {_ADVICE}")


def refuse_weights(step: int, name: str) -> None:
    """Stop instead of saving a weight that is not finite.

    Raises:
        Diverged: always.
    """
    raise Diverged(f"The weight {name} is not finite after {step} steps.", f", so they were not saved. {_ADVICE}")


def _describe(trace: Trace, i: int, reader: Reader) -> dict[str, Any]:
    index, loss = int(trace.samples.index[i]), trace.losses[i].item()
    return {
        "term": trace.term,
        "key": reader.read([index])[0].key,
        "index": index,
        "position": int(trace.samples.position[i]),
        "loss": "nan" if math.isnan(loss) else str(loss),
        "views": {
            f"{slot.pool} {slot.number}": {column.name.lower(): float(rows_BC[i, column]) for column in Column}
            for slot, rows_BC in trace.rows.items()
        },
    }
