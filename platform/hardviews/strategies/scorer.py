"""The interface between a strategy and the objective: all that a strategy may use."""

from collections.abc import Sequence
from typing import Any, Protocol

import torch
from torch import Tensor

from hardviews.batch import Batch, Term, View
from hardviews.strategies.look import AS_TRAINED, Look
from hardviews.strategies.scout import Scout
from hardviews.views.plan import Pair, Plan, Slot


class Scorer(Protocol):
    """Losses of views under the method that is trained.

    Shape legend: A assignments, B samples, P pairs, Q pairs of candidates, S slots.
    """

    @property
    def plan(self) -> Plan:
        """The pools of a step, with all candidates that are drawn."""

    @property
    def own_plan(self) -> Plan:
        """The method's own pools, without candidates."""

    @property
    def pairs(self) -> tuple[Pair, ...]:
        """The pairs whose losses the method adds."""

    @property
    def mix_grid(self) -> int:
        """Side in pixels of the squares that no box of a mixed view may cut."""

    @property
    def device(self) -> torch.device:
        """The device of the network."""

    @property
    def noisy(self) -> bool:
        """Whether stochastic depth or dropout of the networks draw numbers."""

    @property
    def scout(self) -> Scout | None:
        """The knowledge of the strategy from the losses of the run, if it learns."""

    def score(
        self, batch: Batch, table: Tensor, look: Look = AS_TRAINED, pairs: Sequence[Pair] | None = None
    ) -> Tensor:
        """Return the hardness (A, B) of assignments (A, S), without gradient and without side effects."""

    def score_pairs(self, batch: Batch, pairs: Sequence[Pair], look: Look = AS_TRAINED) -> Tensor:
        """Return the losses (Q, B) of pairs of candidates, made in the same way as in `score`."""

    def picked(self, view: View, others: Sequence[View], choice_B: Tensor) -> None:
        """Note that row i of a view is row i of others[choice[i]]: their targets need not be made again."""

    def pairwise(
        self, batch: Batch, *, attack: bool = False, pairs: Sequence[Pair] | None = None
    ) -> tuple[Tensor, Any]:
        """Return the losses (P, B) of pairs on a batch with hard views, and the encodings."""

    def clean_gradient(
        self, batch: Batch, slots: Sequence[Slot], pairs: Sequence[Pair]
    ) -> tuple[dict[Slot, Tensor], dict[Slot, Tensor]]:
        """Return pixels of clean views (B, 3, H, W) and the gradient of the clean loss; `pairs` are the hard term's."""

    def pairs_of(self, term: Term) -> tuple[Pair, ...]:
        """Return the pairs whose losses a term adds."""

    def reduce(self, losses: Tensor, within: Tensor | None = None, pairs: Sequence[Pair] | None = None) -> Tensor:
        """Reduce losses (P, B) of pairs to a loss per sample (B,), or per assignment and sample (A, B)."""

    def valid(self, batch: Batch, pairs: Sequence[Pair] | None = None) -> Tensor | None:
        """Return a mask (B,) of the samples that have a label of any pair, or of any of these; None if all have."""
