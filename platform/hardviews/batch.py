"""The data types of a step: View, Mix, Batch, Term.

Shape legend: B samples of this rank's share, C channels, H height, W width.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from hardviews.clock import Clock
from hardviews.errors import UserError
from hardviews.models.branch import Branch
from hardviews.models.held import HeldStatistics
from hardviews.views.augmentation import Normalisation
from hardviews.views.params import geometry
from hardviews.views.pixels import Pixels, pick_rows
from hardviews.views.plan import Slot


@dataclass(frozen=True, eq=False)
class View:
    """A batch of views of one slot; two views are the same only if they are the same object.

    `rows` are the rendering parameters of the views (B, Column), None for artificial pixels. `branch` names the
    BatchNorm statistics that normalise the view. `mask` (B, patches) belongs to its view (iBOT). `size` is another
    resolution than the view's own, None for its own. `statistics` are the BatchNorm statistics that an attack on the
    view holds constant.
    """

    slot: Slot
    source: Pixels
    normalisation: Normalisation
    rows: Tensor | None = None
    target: bool = True
    branch: Branch = "main"
    mask: Tensor | None = None
    size: int | None = None
    statistics: HeldStatistics | None = None

    def pixels(self, size: int | None = None) -> Tensor:
        """Return normalised pixels (B, 3, H, W), at the view's size by default."""
        return self.source.pixels(size or self.size)

    def at(self, size: int, own: int) -> "View":
        """Return the view at a size in pixels, itself if that is its own; its mask follows it to fewer patches."""
        if size == own:
            return self
        mask = None if self.mask is None else _resized(self.mask, own, size)
        return replace(self, size=size, mask=mask)

    def geometry(self) -> "View":
        """Return the view as cropped and flipped alone, without colours, blur and solarisation."""
        rows = None if self.rows is None else geometry(self.rows)
        return replace(self, source=self.source.geometry(), rows=rows)

    def pick(self, others: Sequence["View"], choice: Tensor) -> "View":
        """Return a view of this slot whose row i is row i of others[choice[i]], choice (B,) int64."""

        def gather(tensors: Sequence[Tensor | None]) -> Tensor | None:
            present = [t for t in tensors if t is not None]
            return pick_rows(present, choice) if len(present) == len(tensors) else None

        return replace(
            self,
            source=others[0].source.pick([other.source for other in others], choice),
            rows=gather([other.rows for other in others]),
            mask=gather([other.mask for other in others]),
        )


def _resized(mask: Tensor, own: int, size: int) -> Tensor:
    """Return a mask (B, patches) on the coarser grid of patches, equally large in pixels, of a smaller view.

    The nearest patch decides, so that on average the share of masked patches stays.
    """
    side = math.isqrt(mask.shape[1])
    smaller, rest = divmod(size * side, own)
    if side * side != mask.shape[1] or rest or smaller < 1:
        raise UserError(
            f"Views of {own} pixels with masks of {mask.shape[1]} patches cannot be shown at {size} pixels: their "
            "patches must form a square grid, and the size must be a multiple of a patch."
        )
    nearest = ((torch.arange(smaller, device=mask.device) + 0.5) * side / smaller).long()
    grid_BNN: Tensor = mask.unflatten(1, (side, side))
    return grid_BNN[:, nearest][:, :, nearest].flatten(1)


@dataclass(frozen=True, eq=False)
class Mix:
    """The mixture of a slot's online view: row i holds weight[i] of itself and the rest of row partner[i].

    partner (B,) int64, weight (B,) float, box (B, 4) int64 top, left, bottom, right of the pasted part; None
    for MixUp.
    """

    partner: Tensor
    weight: Tensor
    box: Tensor | None = None


def entropy(mix: Mix) -> Tensor:
    """Return the entropy (B,) in nats of each row's two shares, 0 for a row that is mixed with itself."""
    entropy_B = torch.special.entr(mix.weight) + torch.special.entr(1 - mix.weight)
    itself_B = mix.partner == torch.arange(len(mix.partner), device=mix.partner.device)
    return torch.where(itself_B, 0.0, entropy_B)


@dataclass(frozen=True, eq=False)
class Selection:
    """The candidates and the choice of a selection, for the record.

    table (A, S) candidates per slot, hardness (A, B) by the method's loss (None without a loss), choice (B,) rows of
    the table, views: every candidate. `shared` is false if samples chose from tables of their own, whose best rows the
    table lists. `random` is true if chance chose, so that the chosen views are like any others. `scores` (A, B) decided
    in place of hardness, if a strategy has others. `audited` asks for a comparison with exact scores
    (`strategies/audit.py`).
    """

    slots: tuple[Slot, ...]
    table: Tensor
    hardness: Tensor | None
    choice: Tensor
    views: Mapping[Slot, View]
    shared: bool = True
    random: bool = False
    scores: Tensor | None = None
    audited: bool = False


@dataclass(frozen=True, eq=False)
class Samples:
    """The samples of a batch: their rows of the data set, and their places in the epoch's order (B,), both int64.

    A row may occur twice, if a sample replaces a corrupt one; a place occurs once.
    """

    index: Tensor
    position: Tensor

    @classmethod
    def join(cls, parts: Sequence["Samples"]) -> "Samples":
        """Join the samples of micro-batches."""
        return cls(torch.cat([part.index for part in parts]), torch.cat([part.position for part in parts]))

    def __getitem__(self, rows: Tensor) -> "Samples":
        """Return some of them."""
        return Samples(self.index[rows], self.position[rows])


@dataclass(frozen=True, eq=False)
class Batch:
    """Clean views by slot, before a selection by candidate, and the hard views that replace some online views.

    `samples` are on the CPU; their positions come in whole groups of `group`. `together` asks the method to
    normalise views of one size as one batch; `by_view` asks it to forward them in one call, and to normalise each by
    itself. `labels` (B,) int64 are the images' classes, -1 for none: a method that
    is not `labelled` gets None.
    """

    views: Mapping[Slot, View]
    clock: Clock
    samples: Samples
    group: int
    hard: Mapping[Slot, View] = field(default_factory=dict)
    mixes: Mapping[Slot, Mix] = field(default_factory=dict)
    selection: Selection | None = None
    together: bool = False
    by_view: bool = False
    labels: Tensor | None = None

    def __len__(self) -> int:
        """Return the number of samples."""
        return len(self.index)

    @property
    def index(self) -> Tensor:
        """Return the samples' rows of the data set (B,)."""
        return self.samples.index

    @property
    def position(self) -> Tensor:
        """Return the samples' places in the epoch's order (B,)."""
        return self.samples.position

    def online(self, slot: Slot) -> View:
        """Return the view of the online side: the hard one if there is one."""
        return self.hard.get(slot, self.views[slot])


@dataclass(frozen=True, eq=False)
class Term:
    """One summand of the objective: the method's whole loss on this batch, times a weight.

    With `assignments` (A, S) of candidates to slots the loss is the mean over them, not the first one's loss. `raised`
    (B,) marks the samples whose loss an attack raised, if that was measured. `strength` (B,) is the loss raised by an
    attack along the clean gradient, over the mean loss raised by the full attack, if that was measured. With
    `hard_only` the loss is of the pairs of hard views, with `kinds` of pairs of some kinds (`Objective.pairs_of`).
    """

    batch: Batch
    weight: float = 1.0
    name: str = "clean"
    assignments: Tensor | None = None
    raised: Tensor | None = None
    strength: Tensor | None = None
    hard_only: bool = False
    kinds: tuple[str, ...] | None = None
