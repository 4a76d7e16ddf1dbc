"""The contract of a method: what predicts what, and at what loss for every sample and pair.

Self-supervised pretraining predicts pseudo-labels: an *online* view predicts the *target* made from another
view, or taken from a table. A method says which slots it needs (`plan`), which online slot predicts which
target slot (`pairs`), how views are encoded (`encode`), and what a prediction costs (`pair_loss`). Strategies
choose and harden views by these alone.

Only `update` (after the optimizer's step) and `begin_epoch` may change state; `allocate` makes room for it.

Shape legend: B samples of this rank's share, P pairs.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from hardviews.batch import Batch, Clock, Mix, Samples
from hardviews.views.plan import Pair, Plan, Slot

if TYPE_CHECKING:
    from hardviews.strategies.strategy import Strategy


@dataclass(frozen=True, eq=False)
class Encoded:
    """Encodings by slot: what the online side predicts with, and what the target side offers as
    pseudo-labels.
    """

    online: Mapping[Slot, Any]
    target: Mapping[Slot, Any]

    def map(self, function: Callable[[Tensor], Tensor]) -> "Encoded":
        """Apply a function to every tensor."""
        return Encoded(
            {slot: map_tensors(function, e) for slot, e in self.online.items()},
            {slot: map_tensors(function, e) for slot, e in self.target.items()},
        )

    def detached(self) -> "Encoded":
        """Return the same values without their graph."""
        return self.map(lambda tensor: tensor.detach())


def concatenate(parts: Sequence[Encoded]) -> Encoded:
    """Join the encodings of micro-batches row by row."""
    if len(parts) == 1:
        return parts[0]

    def join(sides: Sequence[Mapping[Slot, Any]]) -> dict[Slot, Any]:
        return {slot: map_tensors(lambda *t: torch.cat(t), *[side[slot] for side in sides]) for slot in sides[0]}

    return Encoded(join([part.online for part in parts]), join([part.target for part in parts]))


def map_tensors(function: Callable[..., Tensor], *trees: Any) -> Any:
    """Apply a function to the tensors at the same place of equally built tuples (of tuples) of tensors."""
    first = trees[0]
    if isinstance(first, Tensor):
        return function(*trees)
    mapped = [map_tensors(function, *leaves) for leaves in zip(*trees, strict=True)]
    return type(first)(*mapped) if hasattr(first, "_fields") else tuple(mapped)


@dataclass(frozen=True)
class MethodConfig(ABC):
    """What a recipe says of a method; lies beside the method it builds."""

    @abstractmethod
    def build(self, backbone: nn.Module, features: int) -> "Method":
        """Build the method over a backbone of that many features."""


class Method(nn.Module, ABC):
    """A self-supervised method over a backbone."""

    #: The network that is trained.
    backbone: nn.Module

    #: Whether a sample's target encoding depends on that sample alone (no BatchNorm, nothing batch-wide), so that a
    #: selection may pass on the target encodings that it scored with.
    rowwise_targets = False

    #: Whether `update` is to read the online encodings of the first candidates, not those of the selected views: for
    #: state that random views must fill, such as DeepCluster's bank.
    unselected_state = False

    #: Whether `encode` normalises views of one size as one batch where `batch.together` asks for it (`each`).
    joins_views = False

    #: Whether an image is told from the others of its micro-batch: alone it has nothing to be told from.
    contrasts_batch = False

    #: The side in pixels of the squares that no box of a mixed view cuts: a patch, where patches have targets.
    mix_grid = 1

    @property
    def exported(self) -> nn.Module:
        """The network that is exported: the backbone, or its moving average where that is what was published."""
        return self.backbone

    def allocate(self, samples: int) -> None:
        """Make room for what is kept for every sample of the data set; called once before weights are loaded.

        Raises:
            UserError: the data set is too small.
        """

    def check_group(self, size: int) -> None:
        """Refuse groups of so many samples (`training.group`); called once, before anything is trained.

        Raises:
            UserError: with the reason and what to do.
        """

    def check_epoch(self, samples: int) -> None:
        """Refuse epochs of so many samples, those that fill whole batches; called once, before anything is trained.

        Raises:
            UserError: with the reason and what to do.
        """

    @abstractmethod
    def plan(self) -> Plan:
        """Return the slots that a step needs."""

    @abstractmethod
    def pairs(self) -> tuple[Pair, ...]:
        """Return which online slot predicts which target slot, with weights that sum to the loss."""

    def mask(self, slot: Slot, number: int, clock: Clock, position: Tensor) -> Tensor | None:
        """Return which patches of a candidate are masked (B, patches); None where the method masks nothing.

        A mask belongs to its view and travels with it: draw it from (seed, epoch, position, view number)
        alone (`hardviews.views.random`, `Purpose.MASK`).
        """
        return None

    @abstractmethod
    def encode(self, batch: Batch, online: Sequence[Slot], target: Sequence[Slot]) -> Encoded:
        """Encode the online views of some slots and the target views of others, without side effect.

        The online side reads `batch.online(slot)`, the target side `batch.views[slot]`. A forward that serves
        both sides is made once. Encodings are tensors or (named) tuples of tensors; what needs other ranks'
        rows is gathered here.
        """

    def pair_loss(self, batch: Batch, online: Any, target: Any, pair: Pair) -> Tensor:
        """Return the loss (B,) of predicting one target from one online encoding; pure and differentiable."""
        raise TypeError(f"{type(self).__name__} defines neither pair_loss nor pair_losses.")

    def pair_losses(
        self, batch: Batch, online: Mapping[Slot, Any], target: Mapping[Slot, Any], pairs: Sequence[Pair]
    ) -> Tensor:
        """Return the losses (P, B) of pairs; overridden where one matrix product does them all."""
        return torch.stack([self.pair_loss(batch, online[p.online], target[p.target], p) for p in pairs])

    def permute_target(self, target: Any, partner: Tensor) -> Any:
        """Return the target whose row i is the pseudo-label of row partner[i]."""
        return map_tensors(lambda tensor: tensor.index_select(0, partner.to(tensor.device)), target)

    def mixed_loss(
        self, batch: Batch, online: Mapping[Slot, Any], target: Mapping[Slot, Any], pair: Pair, mix: Mix
    ) -> Tensor:
        """Return the loss (B,) of a mixed online view: the interpolation of the losses to both targets.

        Overridden where the labels share one softmax over a joint candidate set, or live on a grid.
        """
        partner = {**target, pair.target: self.permute_target(target[pair.target], mix.partner)}
        own, other = (self.pair_losses(batch, online, t, [pair])[0] for t in (target, partner))
        weight_B = mix.weight.to(own)
        return weight_B * own + (1 - weight_B) * other

    def mixed_floor(self, target: Mapping[Slot, Any], pair: Pair, mix: Mix) -> Tensor | None:
        """Return the least (B,) that `mixed_loss` can be, the entropy of the mixed label; None where that is not told.

        The loss of a mixed view is comparable to that of a clean one above its floor alone.
        """
        return None

    def valid(self, batch: Batch) -> Tensor | None:
        """Return which samples (B,) have a pseudo-label; None where all have."""
        return None

    def scores(
        self, batch: Batch, online: Mapping[Slot, Any], target: Mapping[Slot, Any], pair: Pair
    ) -> tuple[Tensor, Tensor] | None:
        """Return logits (B, L) over the pseudo-labels that a pair tells apart, and each sample's own label (B,).

        What a view is taken for, and how near it lies to the decision boundary, is read off these; None where the
        pair tells no labels apart.
        """
        return None

    def refuses(self, strategy: "Strategy") -> str | None:
        """Return why the method cannot train under a strategy, and what to do; None where it can.

        Asked once, when method and strategy come together, of every strategy that a composition is made of.
        """
        return None

    def frozen(self, clock: Clock) -> Sequence[nn.Module]:
        """Return the modules whose weights this step leaves as they are, weight decay included."""
        return ()

    def fixed_learning_rate(self) -> Sequence[nn.Module]:
        """Return the modules whose learning rate does not follow the schedule."""
        return ()

    def update(self, encoded: Encoded, clock: Clock, samples: Samples) -> None:
        """Change state (momentum encoder, queue, centre, bank) after the optimizer's step.

        `encoded` holds detached encodings of the selected clean views and `samples` says whose they are, both joined
        over micro-batches: in an order that depends on how many ranks and micro-batches there are.
        """

    def begin_epoch(self, clock: Clock, batches: Callable[[], Iterator[Batch]]) -> None:
        """Prepare an epoch (a first memory bank, clusters); not repeated on a resume inside the epoch.

        `batches()` iterates over this rank's shares of the coming epoch, apart from the training's own pass. A resume
        at the very beginning of an epoch may call this again: it must then come to the same.
        """
