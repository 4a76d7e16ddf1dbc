"""The yield of a step's forward pass."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from torch import Tensor

from hardviews.batch import Batch, Term
from hardviews.encoded import Encoded


@dataclass
class Losses:
    """The losses of a step, and all that the forward pass has found out.

    `total` is this rank's share, scaled so that the mean over ranks of its gradients is the gradient of the
    whole batch. `terms` are the terms with their per-sample losses (B,), detached. `encoded` is what the
    method's update reads. `measures` says more of the hard views, by name of the metric (`objective/measures.py`).
    `valid` tells by the term's name which samples (B,) have a label, if some may have none: their loss is 0.
    `labelled` tells the same of the clean views. `lesson` is what `Objective.learn` takes in, if the strategy learns.
    `regulariser` is the part of the first term's loss that no sample has a value of, detached; None if there is none.
    """

    total: Tensor
    terms: list[tuple[Term, Tensor]]
    encoded: Encoded
    batch: Batch
    measures: Mapping[str, Tensor] = field(default_factory=dict)
    valid: Mapping[str, Tensor] = field(default_factory=dict)
    labelled: Tensor | None = None
    lesson: Tensor | None = None
    regulariser: Tensor | None = None

    @property
    def selecting(self) -> Batch:
        """Return the batch of the first term whose views were chosen; if none were, that which the update reads."""
        return next((term.batch for term, _ in self.terms if term.batch.selection is not None), self.batch)
