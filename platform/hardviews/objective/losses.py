"""The result of a step's forward pass."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from torch import Tensor

from hardviews.batch import Batch, Term
from hardviews.encoded import Encoded


@dataclass
class Losses:
    """The losses of a step, and all other results of the forward pass.

    `total` is this rank's share, scaled so that the mean over ranks of its gradients is the gradient of the whole
    batch. `terms` are the terms with their per-sample losses (B,), detached. `encoded` are the encodings for the
    method's update. `measures` holds metrics of the hard views by name (`objective/measures.py`). `valid` holds by the
    term's name a mask (B,) of the samples with a label, if some may have none: their loss is 0. `labelled` is the same
    mask for the clean views. `lesson` is the input of `Objective.learn`, if the strategy learns. `regulariser` is the
    part of the first term's loss without a value for each sample, detached; None if there is none.
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
        """Return the batch of the first term whose views were chosen; without one, the batch for the update."""
        return next((term.batch for term, _ in self.terms if term.batch.selection is not None), self.batch)
