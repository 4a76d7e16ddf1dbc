"""The objective: terms become per-sample losses, and one number to minimise.

HVS reads the matrix of pair losses to choose; training reduces the very same matrix. This module is what DDP
wraps.

Shape legend: B samples of this rank's share, P pairs, Q pairs of candidates, A assignments.
"""

from collections import ChainMap
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn

from hardviews.batch import Batch, Term, View
from hardviews.collectives import sum_over_ranks, world_size
from hardviews.early_backward import EarlyBackward, early_backward
from hardviews.encoded import Encoded, tensors_of
from hardviews.encodings import Encodings
from hardviews.full_precision import full_precision
from hardviews.measures import above_floor, hard_measures
from hardviews.methods.method import Method
from hardviews.models.batchnorm import add_adversarial_branch, branch_batchnorm, holding, normalising
from hardviews.models.held import HeldStatistics
from hardviews.models.noise import is_noisy, without_noise
from hardviews.strategies.audit import audit
from hardviews.strategies.scout import Scout
from hardviews.strategies.strategy import Strategy
from hardviews.views.pair_features import global_pairs, pair_features
from hardviews.views.pixels import Crops
from hardviews.views.plan import Pair, Slot, candidate_pairs, of_views


@dataclass
class Losses:
    """What a step's forward pass yields.

    `total` is this rank's share, scaled so that the mean over ranks of its gradients is the gradient of the
    whole batch. `terms` are the terms with their per-sample losses (B,), detached. `encoded` is what the
    method's update reads. `measures` says more of the hard views, by name of the metric (`hardviews.measures`).
    `valid` tells by the term's name which samples (B,) have a label, where some may have none: their loss is 0.
    `labelled` tells the same of the clean views. `lesson` is what `Objective.learn` takes in, if the strategy learns.
    """

    total: Tensor
    terms: list[tuple[Term, Tensor]]
    encoded: Encoded
    batch: Batch
    measures: Mapping[str, Tensor] = field(default_factory=dict)
    valid: Mapping[str, Tensor] = field(default_factory=dict)
    labelled: Tensor | None = None
    lesson: Tensor | None = None

    @property
    def selecting(self) -> Batch:
        """Return the batch of the first term whose views were chosen; where none were, that which the update reads."""
        return next((term.batch for term, _ in self.terms if term.batch.selection is not None), self.batch)


class Objective(nn.Module):
    """A method under a strategy."""

    def __init__(self, method: Method, strategy: Strategy) -> None:
        """Prepare the method's BatchNorm for branches and ask the strategy for candidates."""
        super().__init__()
        branch_batchnorm(method)
        self.method: Method = method
        if strategy.adversarial_branch:
            add_adversarial_branch(method)
        self.strategy = strategy
        self.scout: Scout | None = strategy.scout()
        self.own_plan = method.plan()
        self.plan = strategy.plan(self.own_plan)
        self.pairs = method.pairs()
        # The memory of a step: clean views with their graph; scored candidates and hard views without.
        self._trained: Encodings | None = None
        self._noted: Encodings | None = None
        # Pixels of clean views whose gradient is read; clean losses (B,) whose backward pass is made already.
        self._leaves: dict[View, Tensor] = {}
        self._early: dict[tuple[View | Slot, ...], tuple[Tensor, EarlyBackward]] = {}

    @property
    def device(self) -> torch.device:
        """Return the device of the network."""
        return next(self.parameters()).device

    @property
    def noisy(self) -> bool:
        """Return whether stochastic depth or dropout of the networks draw numbers."""
        return is_noisy(self.method)

    @property
    def mix_grid(self) -> int:
        """Return the side in pixels of the squares that no box of a mixed view may cut."""
        return self.method.mix_grid

    def forward(self, batch: Batch, global_count: int) -> Losses:
        """Compute the step's loss on this rank's share of a global (micro-)batch of `global_count`
        samples.
        """
        with self.sharing() as (trained, noted):
            terms = _weighty(self.strategy(batch, self) or [Term(batch)])
            if self._early and not any(self._reads_clean(term) for term in terms):
                trained.detach()  # no term passes through the clean views' graph again: its memory is free
            clean = self._for_update(terms[0])
            # Losses whose backward pass is made already come last: their nodes are to be the youngest.
            made = {term: self._term(term, global_count) for term in sorted(terms, key=self._is_early)}
            evaluated = [(term, *made[term]) for term in terms]
            measures = hard_measures(self, self.method, terms, self._clean, noted.online)
            for term, _, losses_B in evaluated:
                above_B = above_floor(self, self.method, term, losses_B, self._clean)
                if above_B is not None:
                    # Several parts of a sum may mix alike, and bear one name.
                    name = f"loss/{term.name}_above_floor"
                    measures[name] = torch.cat([measures[name], above_B]) if name in measures else above_B
            online = {**clean.online, **self._unselected(batch, terms[0].batch, ChainMap(noted.online, trained.online))}
        measures |= {**audit(self, terms), **self.method.measures(terms[0].batch, clean)}
        total = torch.stack([term.weight * loss for term, loss, _ in evaluated]).sum()
        return Losses(
            total,
            [(term, losses_B.detach()) for term, _, losses_B in evaluated],
            Encoded(online, clean.target).detached(),
            terms[0].batch,
            measures,
            {term.name: valid_B for term, _, _ in evaluated if (valid_B := self.valid(term.batch)) is not None},
            self.method.valid(batch),
            self._lesson([(term, losses_B) for term, _, losses_B in evaluated]),
        )

    def _lesson(self, terms: Sequence[tuple[Term, Tensor]]) -> Tensor | None:
        """Return what the losses of the views that this pass trains on teach the strategy."""
        if self.scout is None:
            return None
        # Of clean views, whose loss is the method's own; of chosen ones if there are any.
        clean = [(term, losses_B) for term, losses_B in terms if not term.batch.hard and term.assignments is None]
        term, losses_B = min(clean or terms, key=lambda known: known[0].batch.selection is None)
        identity = torch.tensor([[slot.number for slot in self.own_plan.slots]])
        pairs = global_pairs(self.own_plan, self.pairs)
        features_ABF = pair_features(term.batch.views, self.own_plan.slots, pairs, identity)
        assert features_ABF is not None  # the strategy read them, or refused
        return self.scout.lesson(features_ABF[0], losses_B, self.valid(term.batch))

    def learn(self, lessons: Sequence[Tensor | None]) -> None:
        """Let the strategy learn from the passes (`Losses.lesson`) of a step that was taken; every rank calls this."""
        if self.scout is not None:
            self.scout.learn([lesson for lesson in lessons if lesson is not None])

    def _unselected(self, drawn: Batch, chosen: Batch, made: Mapping[View, Any]) -> Mapping[Slot, Any]:
        """Return the online encodings of the first candidates if the method's state reads those, else nothing.

        Most are made already: to score them, or to train on views that had no rival.
        """
        selection = chosen.selection
        if not self.method.unselected_state or selection is None or selection.random:
            return {}
        slots = dict.fromkeys(pair.online for pair in self.pairs)
        found = {slot: made[drawn.views[slot]] for slot in slots if drawn.views[slot] in made}
        missing = [slot for slot in slots if slot not in found]
        if missing:
            with self._traceless():
                found.update(self.method.encode(drawn, missing, []).online)
        return found

    def _term(self, term: Term, global_count: int) -> tuple[Tensor, Tensor]:
        early = None
        if self._is_early(term):
            losses_B, early = self._early[self._clean_key(term.batch)]
        elif term.assignments is None:
            pairs = self.pairs_of(term)
            losses_B = self.reduce(self.pairwise(term.batch, pairs=pairs)[0], pairs=pairs)
        else:
            losses_B = self._averaged(term)
        valid_B = self.valid(term.batch)
        if valid_B is not None:
            losses_B = torch.where(valid_B, losses_B, 0.0)
        summed = losses_B.sum() if early is None else early.loss()
        if valid_B is None:
            return summed * (world_size() / global_count), losses_B
        counts = sum_over_ranks(torch.stack([valid_B.sum(), torch.ones_like(valid_B).sum()])).to(losses_B.dtype)
        mean = summed * (world_size() / counts[0].clamp(min=1))
        return mean * (counts[1] / global_count), losses_B

    def clean_gradient(
        self, batch: Batch, slots: Sequence[Slot], pairs: Sequence[Pair]
    ) -> tuple[dict[Slot, Tensor], dict[Slot, Tensor]]:
        """Return pixels (B, 3, H, W) of some slots' clean views, and the gradient of the sum of the clean losses.

        It passes through the statistics of the batch, as the clean term's own. `pairs` are those that the hard term
        will add. If these read nothing of the clean views that takes a gradient, the clean term's whole backward pass
        is made now, and `forward` does not make it again. Else another backward pass, of the pixels alone, is made.
        """
        if self._trained is None:
            with self.sharing():
                return self.clean_gradient(batch, slots, pairs)
        batch = replace(batch, hard={}, mixes={})
        memory, key = self._trained, self._clean_key(batch)
        if any(batch.views[slot] in memory.online and batch.views[slot] not in self._leaves for slot in slots):
            # Encoded before anybody asked for a gradient: encode them once more, and leave no trace.
            memory = Encodings()
        for slot in slots:
            view = batch.views[slot]
            if view not in self._leaves:
                self._leaves[view] = full_precision(view.pixels().detach()).requires_grad_()
        leaves = [self._leaves[batch.views[slot]] for slot in slots]
        if key not in self._early:
            with torch.enable_grad():
                if memory is self._trained:
                    encoded = self._clean(batch)
                else:
                    with normalising(self.method, "main", update=False):
                        encoded = self._encoded(memory, batch, self.pairs)
                losses_B = self.reduce(self._pair_losses(batch, encoded, self.pairs))
                valid_B = self.valid(batch)
                # Summed, not averaged: a mean over a large batch can underflow to a gradient of sign 0.
                loss = losses_B.sum() if valid_B is None else torch.where(valid_B, losses_B, 0.0).sum()
                again = _reads(encoded, pairs, slots) or memory is not self._trained
                parameters = [] if again else [p for p in self.method.parameters() if p.requires_grad]
                made = early_backward(loss, parameters, leaves)
            if not again:
                self._early[key] = losses_B.detach(), made
        else:
            made = self._early[key][1]
        pixels = {slot: leaf.detach() for slot, leaf in zip(slots, leaves, strict=True)}
        return pixels, dict(zip(slots, made.inputs, strict=True))

    def _clean_key(self, batch: Batch) -> tuple[View | Slot, ...]:
        """Return what the clean loss of a batch is made from."""
        return tuple(batch.views.get(slot, slot) for pair in self.pairs for slot in (pair.online, pair.target))

    def _is_early(self, term: Term) -> bool:
        """Return whether a term's backward pass is made already."""
        plain = not (term.batch.hard or term.batch.mixes or term.hard_only) and term.assignments is None
        return plain and self._clean_key(term.batch) in self._early

    def _reads_clean(self, term: Term) -> bool:
        """Return whether the backward pass of a term, yet to be made, passes through encodings of clean views."""
        if self._is_early(term):
            return False
        return term.assignments is not None or _reads(
            self._clean(term.batch), self.pairs_of(term), list(term.batch.hard)
        )

    def _averaged(self, term: Term) -> Tensor:
        """Return the loss (B,) of a term of several assignments: every pair of candidates costs one loss."""
        pairs, within_AP = self._candidate_pairs(term)
        encoded = self._clean(term.batch, pairs)
        losses_QB = self.method.pair_losses(term.batch, encoded.online, encoded.target, pairs)
        return self.reduce(losses_QB, within_AP).mean(0)

    def _for_update(self, term: Term) -> Encoded:
        """Return the clean encodings that `update` reads: of the first assignment, if a term has several."""
        if term.assignments is None:
            return self._clean(term.batch)
        encoded = self._clean(term.batch, self._candidate_pairs(term)[0])
        # A limit may leave out the first candidates: these are then not encoded.
        numbers = term.assignments[0].tolist()
        taken = {slot: Slot(slot.pool, k) for slot, k in zip(self.plan.slots, numbers, strict=True)}
        online, target = (dict.fromkeys(getattr(pair, side) for pair in self.pairs) for side in ("online", "target"))
        return Encoded(
            {slot: encoded.online[taken.get(slot, slot)] for slot in online},
            {slot: encoded.target[taken.get(slot, slot)] for slot in target},
        )

    def _candidate_pairs(self, term: Term) -> tuple[list[Pair], Tensor]:
        assert term.assignments is not None
        return candidate_pairs(self.plan.slots, self.pairs, term.assignments)

    def pairs_of(self, term: Term) -> tuple[Pair, ...]:
        """Return the pairs whose losses a term adds: all of the method's, or those of its hard views alone."""
        return of_views(self.pairs, term.batch.hard) if term.hard_only else self.pairs

    def pairwise(
        self, batch: Batch, *, attack: bool = False, pairs: Sequence[Pair] | None = None
    ) -> tuple[Tensor, Encoded]:
        """Return the losses (P, B) of the method's pairs (or of some of them) on a batch, and its encodings.

        Clean views are encoded once, however many terms look at them. In an attack nothing but the hard
        views' pixels takes a gradient, no running statistics move, stochastic layers are off, and BatchNorm's
        statistics are held constant: those that a view brings along, else its own.
        """
        encoded = self._clean(batch)
        if attack:
            encoded = encoded.detached()
        for slots, view in self._alike(batch.hard):
            update = view.branch == "adversarial" and not attack
            with (
                normalising(self.method, view.branch, update),
                without_noise(self.method) if attack else nullcontext(),
                holding(self.method, view.statistics or HeldStatistics()) if attack else nullcontext(),
            ):
                hard = self.method.encode(batch, slots, [])
            if self._noted is not None and not attack:
                detached = hard.detached().online
                self._noted.online.update((batch.hard[slot], detached[slot]) for slot in slots)
            encoded = replace(encoded, online={**encoded.online, **hard.online})
        return self._pair_losses(batch, encoded, self.pairs if pairs is None else pairs), encoded

    def _alike(self, hard: Mapping[Slot, View]) -> list[tuple[list[Slot], View]]:
        """Return which hard views may be encoded in one call, each list with one of its views."""
        if self.method.by_row and hard:
            return [(list(hard), next(iter(hard.values())))]  # no BatchNorm: they have no branch and no statistics
        return [([slot], view) for slot, view in hard.items()]

    def _pair_losses(self, batch: Batch, encoded: Encoded, pairs: Sequence[Pair]) -> Tensor:
        if not batch.mixes:
            return self.method.pair_losses(batch, encoded.online, encoded.target, pairs)
        clean = [pair for pair in pairs if pair.online not in batch.mixes]
        losses: dict[Pair, Tensor] = {}
        if clean:
            losses.update(
                zip(clean, self.method.pair_losses(batch, encoded.online, encoded.target, clean), strict=True)
            )
        for pair in pairs:
            if pair.online in batch.mixes:
                mix = batch.mixes[pair.online]
                losses[pair] = self.method.mixed_loss(batch, encoded.online, encoded.target, pair, mix)
        return torch.stack([losses[pair] for pair in pairs])

    def reduce(self, losses: Tensor, within: Tensor | None = None, pairs: Sequence[Pair] | None = None) -> Tensor:
        """Reduce losses (P, B) of the method's pairs, or of those given, to a loss per sample (B,).

        With `within` (A, P), rows of the losses (Q, B) that stand for the pairs under each assignment,
        returns (A, B).
        """
        # One (A, B) matrix at a time: all pairs at once would take P of them.
        within_PA = None if within is None else within.T.to(losses.device, non_blocking=True)
        total: Tensor | None = None
        for p, pair in enumerate(self.pairs if pairs is None else pairs):
            weighted = pair.weight * (losses[p] if within_PA is None else losses[within_PA[p]])
            total = weighted if total is None else total + weighted
        assert total is not None
        return total

    def score(
        self,
        batch: Batch,
        table: Tensor,
        size: int | None = None,
        *,
        together: bool = False,
        move_statistics: bool = False,
        plain: Collection[Slot] = (),
        kept: Collection[Slot] = (),
        pairs: Sequence[Pair] | None = None,
    ) -> Tensor:
        """Return the hardness (A, B) of assignments (rows of the table).

        Made without gradient, in training mode, and without a trace: no running statistics move (unless told so) and
        the random streams of training stand as they stood. Every candidate is encoded once; every pair of candidates
        costs one loss. `size` scores at a lower resolution, `together` normalises all candidates of one size as one
        batch; candidates in `plain` are scored as cropped and flipped alone. Views in `kept` slots are trained on
        whatever is chosen: inside a step they are encoded for training, as they are, and the score reads that. With
        `pairs` the hardness is the sum over these alone.
        """
        pairs = self.pairs if pairs is None else pairs
        found, within_AP = candidate_pairs(self.plan.slots, pairs, table)
        losses_QB = self.score_pairs(
            batch, found, size, together=together, move_statistics=move_statistics, plain=plain, kept=kept
        )
        return self.reduce(losses_QB, within_AP, pairs)

    def score_pairs(
        self,
        batch: Batch,
        pairs: Sequence[Pair],
        size: int | None = None,
        *,
        together: bool = False,
        move_statistics: bool = False,
        plain: Collection[Slot] = (),
        kept: Collection[Slot] = (),
    ) -> Tensor:
        """Return the losses (Q, B) of pairs of candidates, made as `score` says."""
        scored = self._for_scoring(batch, kept)
        if plain:
            batch = replace(batch, views={s: v.geometry() if s in plain else v for s, v in batch.views.items()})
        if size is not None:
            own = {pool.name: pool.augmentation.size for pool in self.plan.pools}
            smaller = {
                slot: view if slot in kept else view.at(min(size, own[slot.pool]), own[slot.pool])
                for slot, view in batch.views.items()
            }
            batch = replace(batch, views=smaller)
        with self._traceless(move_statistics):
            encoded = self._encoded(scored, replace(batch, together=together), pairs)
            losses_QB = self.method.pair_losses(batch, encoded.online, encoded.target, pairs)
        if self._noted is not None:
            self._noted.update(scored)
        return losses_QB

    def _for_scoring(self, batch: Batch, kept: Collection[Slot]) -> Encodings:
        """Return a memory with the encodings of kept slots, made for training; empty outside of a step.

        Targets that the trained network makes come along: apart, they would take another pass of the same views.
        """
        scored = Encodings()
        if self._trained is None:
            return scored
        online, target = (
            list(dict.fromkeys(getattr(pair, side) for pair in self.pairs if getattr(pair, side) in kept))
            for side in ("online", "target")
        )
        missing = [slot for slot in online if batch.views[slot] not in self._trained.online]
        if missing:
            with normalising(self.method, "main", update=True):
                made = self.method.encode(batch, missing, [slot for slot in target if slot in missing])
            self._trained.add(batch, made)
        scored.take(self._trained, batch, online, target)
        return scored

    def picked(self, view: View, others: Sequence[View], choice_B: Tensor) -> None:
        """Take note that row i of a view is row i of others[choice[i]]: scored targets that hold by row go along."""
        if self._noted is not None and self.method.rowwise_targets:
            self._noted.pick_target(view, others, choice_B)

    @contextmanager
    def _traceless(self, move_statistics: bool = False) -> Iterator[None]:
        cuda = [self.device] if self.device.type == "cuda" else []
        with torch.no_grad(), torch.random.fork_rng(cuda), normalising(self.method, "main", move_statistics):
            yield

    def valid(self, batch: Batch) -> Tensor | None:
        """Return which samples (B,) have complete labels, both of them where views are mixed."""
        known_B = valid_B = self.method.valid(batch)
        if valid_B is not None and known_B is not None:
            for mix in batch.mixes.values():
                valid_B = valid_B & known_B[mix.partner.to(known_B.device, non_blocking=True)]
        return valid_B

    @contextmanager
    def sharing(self) -> Iterator[tuple[Encodings, Encodings]]:
        """Inside, clean views are encoded once, and shared by all terms and all attack steps.

        Yields both memories: that of clean views, and that of scored candidates and hard views, without gradient.
        """
        self._trained, self._noted = Encodings(), Encodings()
        try:
            yield self._trained, self._noted
        finally:
            self._trained = self._noted = None
            self._leaves, self._early = {}, {}

    def _clean(self, batch: Batch, pairs: Sequence[Pair] | None = None) -> Encoded:
        """Return the encodings of the clean views of some pairs (by default the method's)."""
        pairs = self.pairs if pairs is None else pairs
        memory = Encodings() if self._trained is None else self._trained
        if self._noted is not None and self.method.rowwise_targets:
            memory.take_targets(self._noted, batch, pairs)
        if not any(memory.missing(batch, pairs)):
            return memory.of(batch, pairs)
        with normalising(self.method, "main", update=self._trained is not None):
            return self._encoded(memory, replace(batch, hard={}, mixes={}), pairs)

    def _encoded(self, memory: Encodings, batch: Batch, pairs: Sequence[Pair]) -> Encoded:
        online, target = memory.missing(batch, pairs)
        if online or target:
            seen = {slot: self._as_leaf(view) for slot, view in batch.views.items()} if self._leaves else batch.views
            memory.add(batch, self.method.encode(replace(batch, views=seen), online, target))
        return memory.of(batch, pairs)

    def _as_leaf(self, view: View) -> View:
        leaf = self._leaves.get(view)
        return view if leaf is None else replace(view, source=Crops(leaf, view.normalisation), size=None)


def _reads(encoded: Encoded, pairs: Sequence[Pair], hard: Sequence[Slot]) -> bool:
    """Return whether losses of some pairs pass a gradient to clean encodings, if the views of some slots are hard."""
    targets = {pair.target for pair in pairs}
    taught = any(tensor.requires_grad for slot in targets for tensor in tensors_of(encoded.target[slot]))
    return taught or any(pair.online not in hard for pair in pairs)


def _weighty(terms: Sequence[Term]) -> list[Term]:
    """Leave out terms of weight zero; where all have it (an attack every k-th step, alone), keep the first."""
    return [term for term in terms if term.weight] or [replace(terms[0], weight=1.0)]
