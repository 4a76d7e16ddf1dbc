"""Joint training: the sum of several methods over one backbone, each with a head of its own.

A label together with a pseudo-label is joint supervised and self-supervised training. Slots and kinds of pairs are
named by the number of their part: "0/view", "1/class". Strategies see one plan, one set of pairs and one matrix of
losses, so they choose and harden views by the weighted sum, or by the parts that they name (`kinds`).

Parts with the same distribution of a view share the view: the backbone makes its features once, and each head reads
them.

Shape legend: B samples of this rank's share, P pairs.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from math import lcm
from typing import Any

import torch
from torch import Tensor, nn

from hardviews.batch import Batch, Mix, Samples
from hardviews.clock import Clock
from hardviews.encoded import Encoded
from hardviews.errors import UserError
from hardviews.methods.growing import Growing
from hardviews.methods.joint_plan import joined, split
from hardviews.methods.method import Method, MethodConfig
from hardviews.methods.shared_features import Request, encode_all
from hardviews.models.momentum import MomentumEncoder
from hardviews.views.plan import Pair, Plan, Slot

_BACKBONE = "backbone."


@dataclass(frozen=True)
class Part(Growing):
    """A method of the sum and the weight of its loss, which may begin late and grow.

    Attributes:
        weight: weight of the loss, once it has grown; 0 leaves the part out.
        method: the method.
        ramp: the share of the run, from its start on, over which the weight grows linearly from 0.
        begin: first epoch, counted from 0, in which the part is trained; before, it is not computed.
    """

    weight: float
    method: MethodConfig
    ramp: float = 0.0
    begin: int = 0

    def __post_init__(self) -> None:
        """Refuse invalid weights."""
        self.check("method.parts")


@dataclass(frozen=True)
class JointConfig(MethodConfig):
    """The methods that are added.

    Attributes:
        parts: methods with their weights.
        share: whether parts with the same distribution of a view use the same view, whose features are made once;
            otherwise each part draws views of its own, and the cost is the sum.
    """

    parts: tuple[Part, ...]
    share: bool = True

    def __post_init__(self) -> None:
        """Refuse sums without anything to train on."""
        used = [part for part in self.parts if part.weight > 0]
        if not used:
            raise UserError(
                f"method.parts of Joint have the weights {[part.weight for part in self.parts]}; one must be positive."
            )
        if all(part.scheduled for part in used):
            raise UserError(
                "Every part of this Joint begins late or grows from 0, so its first step has nothing to train on: "
                "leave ramp and begin of one part at 0."
            )

    def build(self, backbone: nn.Module, features: int) -> "Joint":
        """Build all parts over a backbone of that many features."""
        return Joint(self, backbone, features)


class Joint(Method):
    """The weighted sum of the losses of several methods.

    The encoding of a slot is a tuple with an entry for each part: its encoding, or () if the part does not use the
    slot. Parts of weight 0 are built, but not used.
    """

    shares_features = False  # inside another sum: its parts hold the backbone themselves

    def __init__(self, config: JointConfig, backbone: nn.Module, features: int) -> None:
        """Build the parts in order, so that the first one begins with the same weights as alone."""
        super().__init__()
        self.config = config
        self.backbone = backbone
        self.parts = nn.ModuleList(part.method.build(backbone, features) for part in config.parts)
        self.used = {n: self._part(n) for n, part in enumerate(config.parts) if part.weight > 0}
        used = self.used.values()
        masking = [n for n, part in self.used.items() if type(part).mask is not Method.mask]
        self._plan, self.names = joined({n: part.plan() for n, part in self.used.items()}, config.share, masking)
        self.leaves_out = any(part.scheduled or part.weight == 0 for part in config.parts)
        self.labelled = any(part.labelled for part in used)
        self.rowwise_targets = all(part.rowwise_targets for part in used)
        self.unselected_state = any(part.unselected_state for part in used)
        self.needs_others = any(part.needs_others for part in used)
        self.blends = all(part.blends for part in used)
        self.mix_grid = lcm(*(part.mix_grid for part in used))
        # A checkpoint holds the backbone once.
        self.register_state_dict_post_hook(_once)  # type: ignore[no-untyped-call]
        self.register_load_state_dict_pre_hook(_to_all)  # type: ignore[no-untyped-call]

    def _part(self, number: int) -> Method:
        part = self.parts[number]
        assert isinstance(part, Method)
        return part

    # ---- Views, networks, loss

    def plan(self) -> Plan:
        """Return the pools of all parts."""
        return self._plan

    def pairs(self) -> tuple[Pair, ...]:
        """Return the pairs of all parts, with their weights once these have grown."""
        return self._pairs({n: self.config.parts[n].weight for n in self.used})

    def pairs_at(self, clock: Clock) -> tuple[Pair, ...]:
        """Return the pairs of the parts that are trained in a step."""
        return self._pairs(self._weights(clock))

    def _pairs(self, weights: Mapping[int, float]) -> tuple[Pair, ...]:
        named = self.names
        return tuple(named[n].pair(pair, weight) for n, weight in weights.items() for pair in self.used[n].pairs())

    def _weights(self, clock: Clock) -> dict[int, float]:
        """Return the weights of the parts that are trained in a step."""
        weights = {n: self.config.parts[n].at(clock) for n in self.used}
        return {n: weight for n, weight in weights.items() if weight > 0}

    @property
    def summands(self) -> tuple[tuple[Method, tuple[Pair, ...]], ...]:
        """The parts, each with its pairs."""
        return tuple((part, self._pairs({n: self.config.parts[n].weight})) for n, part in self.used.items())

    @property
    def teacher(self) -> Callable[[Tensor], Any] | None:
        """None: each part asks its own teacher."""
        return None

    @property
    def joins_views(self) -> bool:
        """Whether all parts can normalise views as one batch; heads get features, whose sizes are all equal."""
        sizes = {pool.augmentation.size for pool in self._plan.pools}
        return len(sizes) == 1 and all(part.joins_views for part in self.used.values())

    def encode(self, batch: Batch, online: Sequence[Slot], target: Sequence[Slot]) -> Encoded:
        """Return every part's encodings of the slots that it uses."""
        numbers = list(self._weights(batch.clock))
        requests = [
            Request(self.used[n], self._batch(n, batch), *self._looks(n, batch, online, target)) for n in numbers
        ]
        made = dict(zip(numbers, encode_all(requests), strict=True))

        def all_of(slot: Slot, target: bool) -> tuple[Any, ...]:
            entries: list[Any] = []
            for n in range(len(self.parts)):
                own = self.names[n].own(slot) if n in made else None
                entries.append(() if own is None else (made[n].target if target else made[n].online).get(own, ()))
            return tuple(entries)

        return Encoded({slot: all_of(slot, False) for slot in online}, {slot: all_of(slot, True) for slot in target})

    def _looks(self, n: int, batch: Batch, *sides: Sequence[Slot]) -> list[list[Slot]]:
        """Return the online and target slots that a part uses, by their own names.

        If a pool draws more candidates than it has slots, any candidate may fill any slot.
        """
        choosing = {pool.name for pool in self._plan.pools if Slot(pool.name, pool.slots) in batch.views}
        pairs, found = self.used[n].pairs(), []
        for side, slots in zip(("online", "target"), sides, strict=True):
            filled = {getattr(pair, side) for pair in pairs}
            pools = {slot.pool for slot in filled}
            named = [(slot.pool in choosing, own) for slot in slots if (own := self.names[n].own(slot)) is not None]
            found.append([own for chosen, own in named if own in filled or (chosen and own.pool in pools)])
        return found

    def _batch(self, n: int, batch: Batch) -> Batch:
        """Return the batch for a part: its own slots, and labels if it trains on them."""
        own = self.names[n].own_side
        labels = batch.labels if self.used[n].labelled else None
        return replace(
            batch,
            views=own(batch.views),
            hard=own(batch.hard),
            mixes=own(batch.mixes),
            selection=None,
            labels=labels,
        )

    def _side(self, n: int, side: Mapping[Slot, Any]) -> dict[Slot, Any]:
        """Return a part's own encodings of one side, without slots that it does not use."""
        entries = self.names[n].own_side({slot: parts[n] for slot, parts in side.items()})
        return {slot: entry for slot, entry in entries.items() if not _is_empty(entry)}

    def pair_losses(
        self, batch: Batch, online: Mapping[Slot, Any], target: Mapping[Slot, Any], pairs: Sequence[Pair]
    ) -> Tensor:
        """Return the losses (P, B) of the parts for their pairs, without their weights."""
        losses: dict[Pair, Tensor] = {}
        for n in dict.fromkeys(split(pair.kind)[0] for pair in pairs):
            of_part = [pair for pair in pairs if split(pair.kind)[0] == n]
            own = [self.names[n].own_pair(pair) for pair in of_part]
            found_PB = self.used[n].pair_losses(
                self._batch(n, batch), self._side(n, online), self._side(n, target), own
            )
            losses.update(zip(of_part, found_PB, strict=True))
        return torch.stack([losses[pair] for pair in pairs])

    @property
    def regularised(self) -> bool:
        """Whether any part has a loss without a value for each sample."""
        return any(part.regularised for part in self.used.values())

    def regulariser(
        self, batch: Batch, online: Mapping[Slot, Any], target: Mapping[Slot, Any], pairs: Sequence[Pair]
    ) -> Tensor | None:
        """Return the weighted sum of the regularisers of the parts whose pairs are given; None if none has one."""
        found = []
        for n, weight in self._weights(batch.clock).items():
            own = [self.names[n].own_pair(pair) for pair in pairs if split(pair.kind)[0] == n]
            if own and self.used[n].regularised:
                sides = self._side(n, online), self._side(n, target)
                part = self.used[n].regulariser(self._batch(n, batch), *sides, own)
                found += [] if part is None else [weight * part]
        return torch.stack(found).sum() if found else None

    # ---- Labels

    @property
    def classifier(self) -> nn.Module | None:
        """The classifier of the first part that has one."""
        part = self._classifying
        return None if part is None else part.classifier

    @property
    def classes(self) -> int:
        """Number of classes of the classifier; 0 without a classifier."""
        part = self._classifying
        return 0 if part is None else part.classes

    def beginnings(self) -> Iterator[tuple[str, int]]:
        """Yield the parts with the epochs in which they begin."""
        yield from ((type(part).__name__, self.config.parts[n].begin) for n, part in self.used.items())

    def labelled_methods(self, setting: str = "method") -> Iterator[tuple[str, Method]]:
        """Yield the parts that train on labels."""
        for n, part in self.used.items():
            yield from part.labelled_methods(f"{setting}.parts.{n}.method")

    @property
    def _classifying(self) -> Method | None:
        return next((part for part in self.used.values() if part.classifier is not None), None)

    def valid(self, batch: Batch, kind: str = "class") -> Tensor | None:
        """Return a mask (B,) of the samples with a pseudo-label for pairs of a part's kind; None if all have one."""
        n, own = split(kind)
        return self.used[n].valid(self._batch(n, batch), own)

    # ---- State

    def allocate(self, samples: int) -> None:
        """Make room for one entry per sample in every part."""
        for part in self.used.values():
            part.allocate(samples)

    def update(self, encoded: Encoded, clock: Clock, samples: Samples) -> None:
        """Change the state of the parts that are trained, each by its own encodings."""
        for n in self._weights(clock):
            own = Encoded(self._side(n, encoded.online), self._side(n, encoded.target))
            self.used[n].update(own, clock, samples)

    def begin_epoch(self, clock: Clock, batches: Callable[[], Iterator[Batch]]) -> None:
        """Prepare the epoch of every part that has begun.

        The momentum encoders of a part that begins now copy the trained weights, because the weights of the first step
        are too old.
        """
        for n, part in self.used.items():
            begin = self.config.parts[n].begin
            if begin and clock.epoch == begin:
                for encoder in (module for module in part.modules() if isinstance(module, MomentumEncoder)):
                    encoder.copy({name: part.get_submodule(name) for name, _ in encoder.named_children()})
            if clock.epoch >= begin:
                part.begin_epoch(clock, partial(self._batches, n, batches))

    def _batches(self, n: int, batches: Callable[[], Iterator[Batch]]) -> Iterator[Batch]:
        return (self._batch(n, batch) for batch in batches())

    def mask(self, slot: Slot, number: int, clock: Clock, position: Tensor) -> Tensor | None:
        """Return the mask (B, patches) of a candidate by the part that masks it; None if no part does."""
        for n, part in self.used.items():
            own = self.names[n].own(slot)
            mask = None if own is None else part.mask(own, number, clock, position)
            if mask is not None:
                return mask
        return None

    def frozen(self, clock: Clock) -> Sequence[nn.Module]:
        """Return the modules that any part freezes."""
        return [module for part in self.used.values() for module in part.frozen(clock)]

    def fixed_learning_rate(self) -> Sequence[nn.Module]:
        """Return the modules whose learning rate any part exempts from the schedule."""
        return [module for part in self.used.values() for module in part.fixed_learning_rate()]

    @property
    def exported(self) -> nn.Module:
        """The network below the classifier if there is one, else the first part's network."""
        return self._exporting.exported

    @property
    def exported_head(self) -> nn.Module | None:
        """The projector of the first part that has one behind the exported network."""
        parts = self.used.values()
        heads = (part.exported_head for part in parts if part.exported is self.exported)
        return next((head for head in heads if head is not None), None)

    @property
    def _exporting(self) -> Method:
        return self._classifying or next(iter(self.used.values()))

    # ---- Mixed views and measures

    def permute_target(self, target: Any, partner: Tensor) -> Any:
        """Return the targets of all parts, whose row i is the pseudo-label of row partner[i]."""
        return tuple(
            entry if _is_empty(entry) else self.used[n].permute_target(entry, partner) for n, entry in enumerate(target)
        )

    def mixed_loss(
        self, batch: Batch, online: Mapping[Slot, Any], target: Mapping[Slot, Any], pair: Pair, mix: Mix
    ) -> Tensor:
        """Return the loss (B,) that the part has for a mixed online view."""
        n = split(pair.kind)[0]
        sides = self._side(n, online), self._side(n, target)
        return self.used[n].mixed_loss(self._batch(n, batch), *sides, self.names[n].own_pair(pair), mix)

    def mixed_floor(self, target: Mapping[Slot, Any], pair: Pair, mix: Mix) -> Tensor | None:
        """Return the lower bound (B,) of the part's loss of a mixed view; None if unknown."""
        n = split(pair.kind)[0]
        return self.used[n].mixed_floor(self._side(n, target), self.names[n].own_pair(pair), mix)

    def scores(
        self, batch: Batch, online: Mapping[Slot, Any], target: Mapping[Slot, Any], pair: Pair
    ) -> tuple[Tensor, Tensor] | None:
        """Return the part's logits (B, L) over its pseudo-labels, and each sample's own (B,)."""
        n = split(pair.kind)[0]
        sides = self._side(n, online), self._side(n, target)
        return self.used[n].scores(self._batch(n, batch), *sides, self.names[n].own_pair(pair))

    def measures(self, batch: Batch, encoded: Encoded) -> Mapping[str, Tensor]:
        """Return the metrics of all parts that are trained, named by their part."""
        found = {}
        for n in self._weights(batch.clock):
            own = Encoded(self._side(n, encoded.online), self._side(n, encoded.target))
            measured = self.used[n].measures(self._batch(n, batch), own)
            found.update({f"{n}/{name}": values_B for name, values_B in measured.items()})
        return found

    # ---- Limits

    def check_group(self, size: int) -> None:
        """Refuse groups that a part refuses."""
        for part in self.used.values():
            part.check_group(size)

    def check_epoch(self, samples: int) -> None:
        """Refuse epochs that a part refuses."""
        for part in self.used.values():
            part.check_epoch(samples)


def _is_empty(entry: Any) -> bool:
    return isinstance(entry, tuple) and not entry


def _once(module: nn.Module, state: dict[str, Any], prefix: str, *_: Any) -> None:
    """Take the parts' names of the backbone's weights out of a state dict."""
    assert isinstance(module, Joint)
    for n in range(len(module.parts)):
        for name in [name for name in state if name.startswith(f"{prefix}parts.{n}.{_BACKBONE}")]:
            del state[name]


def _to_all(module: nn.Module, state: dict[str, Any], prefix: str, *_: Any) -> None:
    """Put the parts' names of the backbone's weights into a state dict that is to be loaded."""
    assert isinstance(module, Joint)
    start = f"{prefix}{_BACKBONE}"
    for name, tensor in list(state.items()):
        if name.startswith(start):
            for n in range(len(module.parts)):
                state[f"{prefix}parts.{n}.{name[len(prefix) :]}"] = tensor
