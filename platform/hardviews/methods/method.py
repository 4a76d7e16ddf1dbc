"""The contract of a method: the pairs of prediction and target, and their loss for every sample.

Self-supervised pretraining predicts pseudo-labels: an *online* view predicts the *target* made from another view, or
taken from a table. A method defines its slots (`plan`), the pairs of online and target slot (`pairs`), its networks
(`embed`, `predict`, `label`, `teacher`), and the loss of a prediction (`pair_loss`). Strategies choose and harden views
by these alone.

Only `update` (after the optimizer's step) and `begin_epoch` may change state; `allocate` makes room for it.

Shape legend: B samples of this rank's share, P pairs.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

from hardviews.batch import Batch, Mix, Samples, View
from hardviews.clock import Clock
from hardviews.encoded import Encoded, map_tensors
from hardviews.methods.each import each
from hardviews.models.batchnorm import has_batchnorm
from hardviews.views.plan import Pair, Plan, Slot


@dataclass(frozen=True)
class MethodConfig(ABC):
    """A recipe's settings of a method, in the same file as the method that it builds."""

    @abstractmethod
    def build(self, backbone: nn.Module, features: int) -> "Method":
        """Build the method over a backbone of that many features."""


class Method(nn.Module, ABC):
    """A self-supervised method over a backbone.

    A method of two views needs the first block alone. The other blocks have defaults that do nothing.
    """

    # ---- Must: views, networks, loss

    #: The network that is trained.
    backbone: nn.Module

    @abstractmethod
    def plan(self) -> Plan:
        """Return the slots that a step needs."""

    @abstractmethod
    def pairs(self) -> tuple[Pair, ...]:
        """Return the pairs of online slot and target slot, with the weights of their losses."""

    def pairs_at(self, clock: Clock) -> tuple[Pair, ...]:
        """Return the pairs whose losses a step adds, with their weights at this place of the run."""
        return self.pairs()

    def embed(self, pixels: Tensor) -> Any:
        """Return the trained network's embedding of a view (B, 3, H, W); pseudo-labels come from it too by default."""
        raise NotImplementedError(f"{type(self).__name__} defines neither embed nor encode.")

    def predict(self, embedding: Any) -> Any:
        """Return the online side's prediction, by default the embedding itself."""
        return embedding

    def label(self, embedding: Any) -> Any:
        """Return the pseudo-label, by default the embedding itself; rows of other ranks are gathered here."""
        return embedding

    @property
    def teacher(self) -> Callable[[Tensor], Any] | None:
        """The network that embeds views for pseudo-labels, without gradient; None if the trained one does."""
        return None

    def pair_loss(self, batch: Batch, online: Any, target: Any, pair: Pair) -> Tensor:
        """Return the loss (B,) of predicting one target from one online encoding; pure and differentiable."""
        raise NotImplementedError(f"{type(self).__name__} defines neither pair_loss nor pair_losses.")

    def pair_losses(
        self, batch: Batch, online: Mapping[Slot, Any], target: Mapping[Slot, Any], pairs: Sequence[Pair]
    ) -> Tensor:
        """Return the losses (P, B) of pairs; overridden if one matrix product yields all of them."""
        return torch.stack([self.pair_loss(batch, online[p.online], target[p.target], p) for p in pairs])

    def regulariser(
        self, batch: Batch, online: Mapping[Slot, Any], target: Mapping[Slot, Any], pairs: Sequence[Pair]
    ) -> Tensor | None:
        """Return the part of the loss without a value for each sample, a scalar of clean encodings, or None.

        The number is over the rows of all ranks, gathered with their gradient, and equal on all ranks. The objective
        adds it to the loss of every term, times the term's weight. Hardness, attacks and mixtures do not contain it.
        `pairs` are the pairs of the term: all, or the pairs of some parts of a sum of methods.
        """
        return None

    @property
    def regularised(self) -> bool:
        """Whether the loss has a part without a value for each sample."""
        return type(self).regulariser is not Method.regulariser

    def encode(self, batch: Batch, online: Sequence[Slot], target: Sequence[Slot]) -> Encoded:
        """Encode the online views of some slots and the target views of others, without side effect.

        A view that serves both sides is embedded once. Views of one size are one batch for a network without batch
        normalisation. A method overrides this if a view's encoding needs more than its pixels, such as a mask or groups
        of samples, or if targets come from a table. Encodings are tensors or (named) tuples of tensors.
        """
        join = batch.together or self.by_row
        by_view = self if batch.by_view else None
        seen = {slot: batch.online(slot) for slot in online}
        shown = {slot: batch.views[slot] for slot in target}
        teacher = self.teacher
        own = dict.fromkeys(seen.values() if teacher else (*seen.values(), *shown.values()))
        embedded = each(self.embed, ((view, view.pixels()) for view in own), join, by_view)
        predictions = ((slot, embedded[view]) for slot, view in seen.items())
        predicted = each(self.predict, predictions, batch.together, by_view)
        if teacher is not None:
            with torch.no_grad():
                taught = dict.fromkeys(shown.values())
                embedded = each(teacher, ((view, view.pixels()) for view in taught), join, by_view)
        return Encoded(predicted, {slot: self.label(embedded[view]) for slot, view in shown.items()})

    @cached_property
    def by_row(self) -> bool:
        """Whether nothing normalises over a batch, so that a view's encoding does not depend on other views."""
        return not has_batchnorm(self)

    # ---- Sums: needs of `Joint` for the methods that it adds

    @property
    def summands(self) -> tuple[tuple["Method", tuple[Pair, ...]], ...]:
        """The methods that this one adds, each with its pairs; the method itself if it is not a sum."""
        return ((self, self.pairs()),)

    # Whether a step may leave trained weights without a gradient, if a part has not begun or has weight 0.
    leaves_out = False

    # Whether `encode` passes unchanged pixels of trained views to the backbone, and to nothing else. Then another
    # method
    #: over the same backbone may make the features of a view that both use. Masked views are not shared.
    shares_features = True

    #: Whether `features` normalises views in a way of its own, which holds for all methods that share a view.
    own_normalisation = False

    def features(self, batch: Batch, views: Sequence[View]) -> dict[View, Tensor]:
        """Return the backbone's features of some views of a batch, normalised as in `encode`."""
        inputs = ((view, view.pixels()) for view in views)
        return each(self.backbone, inputs, batch.together or self.by_row, self if batch.by_view else None)

    def beginnings(self) -> Iterator[tuple[str, int]]:
        """Yield the methods of a sum, by the name of their class, with the epochs in which they begin."""
        yield from ()

    def labelled_methods(self, setting: str = "method") -> Iterator[tuple[str, "Method"]]:
        """Yield the methods that train on labels, each with the place of its settings on the command line."""
        if self.labelled:
            yield setting, self

    # ---- Labels

    # Whether batches must hold the images' labels (`Batch.labels`). Other methods never see labels.
    labelled = False

    @property
    def classifier(self) -> nn.Module | None:
        """The classifier over the exported network's features, which is exported too; None if there is none."""
        return None

    @property
    def classes(self) -> int:
        """Number of classes of the classifier; 0 without a classifier."""
        return 0

    # ---- State: everything that changes besides the weights

    # Whether a sample's target encoding depends on that sample alone, so without BatchNorm or similar. Then a selection
    #: may pass on the target encodings that it scored with.
    rowwise_targets = False

    #: Whether `update` reads the online encodings of the first candidates, not of the selected views: for state that
    #: random views must fill, such as DeepCluster's bank.
    unselected_state = False

    def allocate(self, samples: int) -> None:
        """Make room for one entry per sample of the data set; called once before weights are loaded.

        Raises:
            UserError: the data set is too small.
        """

    def update(self, encoded: Encoded, clock: Clock, samples: Samples) -> None:
        """Change state (momentum encoder, queue, centre, bank) after the optimizer's step.

        `encoded` holds detached encodings of the selected clean views of `samples`. Both are joined over micro-batches,
        in an order that depends on the number of ranks and micro-batches.
        """

    def begin_epoch(self, clock: Clock, batches: Callable[[], Iterator[Batch]]) -> None:
        """Prepare an epoch, for example a memory bank or clusters; not repeated on a resume inside the epoch.

        `batches()` iterates over this rank's shares of the coming epoch, apart from the training's own pass. A resume
        at the very beginning of an epoch may call this again: the result must then be the same.
        """

    def mask(self, slot: Slot, number: int, clock: Clock, position: Tensor) -> Tensor | None:
        """Return the mask (B, patches) of a candidate's patches; None if the method does not mask.

        A mask belongs to its view: draw it from (seed, epoch, position, view number) alone (`hardviews.views.random`,
        `Purpose.MASK`).
        """
        return None

    def valid(self, batch: Batch, kind: str = "class") -> Tensor | None:
        """Return a mask (B,) of the samples that have a pseudo-label for pairs of a kind; None if all have."""
        return None

    def frozen(self, clock: Clock) -> Sequence[nn.Module]:
        """Return the modules whose weights do not change in this step, not even by weight decay."""
        return ()

    def fixed_learning_rate(self) -> Sequence[nn.Module]:
        """Return the modules whose learning rate does not follow the schedule."""
        return ()

    @property
    def exported(self) -> nn.Module:
        """The network that is exported: the backbone, or its moving average if that was published."""
        return self.backbone

    @property
    def exported_head(self) -> nn.Module | None:
        """The projector between the exported network and the loss; None if there is no projector."""
        return None

    # ---- Mixed views and measures

    # Side in pixels of squares that no box of a mixed view cuts: a patch, if patches have targets.
    mix_grid = 1

    #: Whether an image may be blended with another: not if parts of a view have pseudo-labels of their own.
    blends = True

    def permute_target(self, target: Any, partner: Tensor) -> Any:
        """Return the target whose row i is the pseudo-label of row partner[i]."""
        return map_tensors(lambda tensor: tensor.index_select(0, partner.to(tensor.device, non_blocking=True)), target)

    def mixed_loss(
        self, batch: Batch, online: Mapping[Slot, Any], target: Mapping[Slot, Any], pair: Pair, mix: Mix
    ) -> Tensor:
        """Return the loss (B,) of a mixed online view: the interpolation of the losses to both images' targets.

        Overridden if the labels share one softmax over a joint candidate set, or live on a grid.
        """
        partner = {slot: self.permute_target(made, mix.partner) for slot, made in target.items()}
        own, other = (self.pair_losses(batch, online, t, [pair])[0] for t in (target, partner))
        weight_B = mix.weight.to(own, non_blocking=True)
        return weight_B * own + (1 - weight_B) * other

    def mixed_floor(self, target: Mapping[Slot, Any], pair: Pair, mix: Mix) -> Tensor | None:
        """Return the lower bound (B,) of `mixed_loss`, the entropy of the mixed label; None if unknown.

        The loss of a mixed view is comparable to a clean view's loss only above this floor.
        """
        return None

    def scores(
        self, batch: Batch, online: Mapping[Slot, Any], target: Mapping[Slot, Any], pair: Pair
    ) -> tuple[Tensor, Tensor] | None:
        """Return logits (B, L) over the pseudo-labels of a pair, and each sample's own label (B,).

        They give the predicted label of a view and its distance to the decision boundary. Return None if the pair has
        no set of labels.
        """
        return None

    def measures(self, batch: Batch, encoded: Encoded) -> Mapping[str, Tensor]:
        """Return, by metric, a value (B,) of each sample's trained clean views; NaN if there is none."""
        return {}

    # ---- Limits: settings that cannot train

    # Whether an image is compared with the other images of its micro-batch, so that one image alone cannot be trained.
    needs_others = False

    @property
    def joins_views(self) -> bool:
        """Whether `encode` normalises views of one size as one batch on request (`batch.together`)."""
        return type(self).encode is Method.encode

    def check_group(self, size: int) -> None:
        """Refuse groups of `size` samples (`training.group`); called once, before anything is trained.

        Raises:
            UserError: the size is refused; the message has the reason and the remedy.
        """

    def check_epoch(self, samples: int) -> None:
        """Refuse epochs of `samples` samples, in whole batches; called once, before anything is trained.

        Raises:
            UserError: the number is refused; the message has the reason and the remedy.
        """
