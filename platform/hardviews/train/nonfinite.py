"""A loss that is no number stops the run before it spoils the weights, and leaves a record of where."""

import json
import math
from typing import Any

import torch

from hardviews.batch import Batch
from hardviews.data.reader import Reader
from hardviews.errors import UserError
from hardviews.objective import Losses
from hardviews.storage.store import Store
from hardviews.views.params import Column

_ADVICE = (
    "What was saved before is intact. Lower --optimizer.learning-rate or lengthen --schedule.warmup, and start again: "
    "with --accept-changes the run goes on from its last checkpoint, with another --output it begins anew."
)


def dump(output: str, losses: Losses, reader: Reader, rank: int) -> str | None:
    """Write which samples had a non-finite loss, under which views, and return where; None if this rank had none."""
    found = []
    for term, losses_B in losses.terms:
        for i in (~losses_B.isfinite()).nonzero().squeeze(1).tolist():
            found.append(_describe(term.name, i, losses_B[i].item(), term.batch, reader))
    if not found:
        return None
    clock = losses.batch.clock
    store, file = Store(output), f"nonfinite-step-{clock.step:08d}-rank-{rank}.json"
    told = {"step": clock.step, "epoch": clock.epoch, "samples": found}
    store.write(file, json.dumps(told, indent=1).encode())
    return store.name(file)


def refuse(step: int, path: str | None, output: str) -> None:
    """Stop on a loss that is not finite, with the advice that usually helps.

    Raises:
        UserError: always.
    """
    where = f"Samples and view parameters are in {path}." if path else f"The record is in {output}/nonfinite-step-*."
    raise UserError(f"The loss is not finite at step {step}, which was not taken. {where} {_ADVICE}")


def refuse_weights(step: int, name: str) -> None:
    """Stop instead of saving a weight that is not finite.

    Raises:
        UserError: always.
    """
    raise UserError(f"The weight {name} is not finite after {step} steps, so they were not saved. {_ADVICE}")


def _describe(term: str, i: int, loss: float, batch: Batch, reader: Reader) -> dict[str, Any]:
    index = int(batch.index[i])
    views = {
        f"{slot.pool} {slot.number}": {column.name.lower(): float(view.rows[i, column]) for column in Column}
        for slot, view in batch.views.items()
        if view.rows is not None and torch.is_tensor(view.rows)
    }
    key = reader.read([index])[0].key
    text = "nan" if math.isnan(loss) else str(loss)
    return {"term": term, "key": key, "index": index, "position": int(batch.position[i]), "loss": text, "views": views}
