"""The clean loss of a step, if a strategy asks for its pixel gradient before the step's backward pass.

Shape legend: B samples of this rank's share.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from hardviews.batch import Batch, Term, View
from hardviews.encoded import Encoded, tensors_of
from hardviews.models.batchnorm import normalising
from hardviews.objective.early_backward import EarlyBackward, early_backward
from hardviews.objective.encodings import Encodings
from hardviews.objective.known_loss import KnownLoss
from hardviews.objective.step import Step
from hardviews.views.plan import Pair, Slot


class CleanLoss:
    """Clean losses of a step whose backward pass is made early, and only once.

    `loss` returns the clean loss of a batch from its encodings.
    """

    def __init__(self, step: Step, pairs: Sequence[Pair], loss: Callable[[Batch, Encoded], KnownLoss]) -> None:
        self._step = step
        self._pairs = pairs
        self._loss = loss
        self._made: dict[tuple[View | Slot, ...], tuple[KnownLoss, EarlyBackward]] = {}

    def __bool__(self) -> bool:
        """Return whether any backward pass is made."""
        return bool(self._made)

    def of(self, term: Term) -> tuple[KnownLoss, EarlyBackward] | None:
        """Return a term's loss and its backward pass, if that is made already."""
        whole = term.assignments is None and term.kinds is None
        plain = whole and not (term.batch.hard or term.batch.mixes or term.hard_only)
        return self._made.get(self._key(term.batch)) if plain else None

    def gradient(
        self, batch: Batch, slots: Sequence[Slot], pairs: Sequence[Pair]
    ) -> tuple[dict[Slot, Tensor], dict[Slot, Tensor]]:
        """Return pixels (B, 3, H, W) of some slots' clean views, and the gradient of the sum of the clean losses.

        The gradient passes through the statistics of the batch, like the clean term's own. `pairs` are the pairs that
        the hard term will add. If they pass no gradient to the clean views, the clean term's whole backward pass is
        made now, and the step does not make it again. Otherwise a separate backward pass is made, of the pixels alone.
        """
        batch = replace(batch, hard={}, mixes={})
        step, key = self._step, self._key(batch)
        leaves = [step.leaf(batch.views[slot]) for slot in slots]
        # They were encoded before the gradient was requested: encode them once more, without side effects.
        late = any(step.misses_leaf(batch.views[slot]) for slot in slots)
        if key in self._made:
            made = self._made[key][1]
        else:
            with torch.enable_grad():
                if late:
                    with normalising(step.method, "main", update=False):
                        encoded = step.encode(Encodings(), batch, self._pairs)
                else:
                    encoded = step.clean(batch, self._pairs)
                loss = self._loss(batch, encoded)
                # A regulariser has a backward pass through the clean encodings too, and no attack climbs it.
                again = late or reads(encoded, pairs, slots) or step.method.regularised
                parameters = [] if again else [p for p in step.method.parameters() if p.requires_grad]
                # Summed, not averaged: a mean over a large batch can underflow to a gradient of sign 0.
                made = early_backward(loss.summed(), parameters, leaves)
            if not again:
                self._made[key] = loss.detached(), made
        pixels = {slot: leaf.detach() for slot, leaf in zip(slots, leaves, strict=True)}
        return pixels, dict(zip(slots, made.inputs, strict=True))

    def _key(self, batch: Batch) -> tuple[View | Slot, ...]:
        """Return the views that the clean loss of a batch is made from."""
        return tuple(batch.views.get(slot, slot) for pair in self._pairs for slot in (pair.online, pair.target))


def reads(encoded: Encoded, pairs: Sequence[Pair], hard: Sequence[Slot]) -> bool:
    """Return whether losses of some pairs pass a gradient to clean encodings, if the views of some slots are hard."""
    targets = {pair.target for pair in pairs}
    taught = any(tensor.requires_grad for slot in targets for tensor in tensors_of(encoded.target[slot]))
    return taught or any(pair.online not in hard for pair in pairs)
