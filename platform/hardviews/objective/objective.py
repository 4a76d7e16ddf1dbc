"""The objective: terms become per-sample losses, and one number to minimise.

HVS reads the matrix of pair losses to choose; training reduces the same matrix. DDP wraps this module.

Shape legend: B samples of this rank's share, P pairs, Q pairs of candidates, A assignments.
"""

from collections import ChainMap
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from hardviews.batch import Batch, Term, View
from hardviews.encoded import Encoded
from hardviews.methods.method import Method
from hardviews.models.batchnorm import add_adversarial_branch, branch_batchnorm
from hardviews.models.noise import is_noisy
from hardviews.objective.clean_loss import CleanLoss, reads
from hardviews.objective.known_loss import KnownLoss, anyone, groups
from hardviews.objective.losses import Losses
from hardviews.objective.measures import above_floor, hard_measures
from hardviews.objective.regulariser import regularisers, weighted_sum
from hardviews.objective.scoring import score_pairs
from hardviews.objective.step import Step, traceless
from hardviews.strategies.audit import audit
from hardviews.strategies.look import AS_TRAINED, Look
from hardviews.strategies.scout import Scout
from hardviews.strategies.strategy import Strategy
from hardviews.views.pair_features import global_pairs, pair_features
from hardviews.views.plan import Pair, Slot, candidate_pairs, of_kinds, of_views


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
        self.still: list[nn.Module] = []  # modules that stay in evaluation mode
        self.own_plan = method.plan()
        self.plan = strategy.plan(self.own_plan)
        self.pairs = method.pairs()
        # The memory of the current step.
        self._step: Step | None = None
        self._early: CleanLoss | None = None

    def train(self, mode: bool = True) -> "Objective":
        """Set the mode of all modules but those whose weights are frozen."""
        super().train(mode)
        for module in self.still:
            module.eval()
        return self

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
        """Compute the step's loss on this rank's share of a global micro-batch of `global_count` samples."""
        self.pairs = self.method.pairs_at(batch.clock)
        with self.sharing() as (step, early):
            terms = _weighty(self.strategy(batch, self) or [Term(batch)])
            if early and not any(self._reads_clean(term, early) for term in terms):
                step.trained.detach()  # no term uses the clean views' graph again: this frees its memory
            clean = self._assigned(terms[0])
            # Losses whose backward pass is made already come last: their nodes must be the youngest.
            ordered = sorted(terms, key=lambda term: early.of(term) is not None)
            made = {term: self._term(term, global_count) for term in ordered}
            evaluated = [(term, made[term][0], made[term][1].per_sample()) for term in terms]
            batchwide = regularisers(self.method, terms, self._assigned)
            measures = hard_measures(self, self.method, terms, self._clean, step.noted.online)
            found = [
                (f"{part}/loss/{term.name}", part_B)
                for term in terms
                for part, part_B in made[term][1].by_part().items()
            ]
            for term, _, losses_B in evaluated:
                above_B = above_floor(self, self.method, term, losses_B, self._clean)
                if above_B is not None:
                    found.append((f"loss/{term.name}_above_floor", above_B))
            for name, values_B in found:
                # Several parts of a sum may harden views in the same way, and have one name.
                measures[name] = torch.cat([measures[name], values_B]) if name in measures else values_B
            made_before = ChainMap(step.noted.online, step.trained.online)
            online = {**clean.online, **self._unselected(batch, terms[0].batch, made_before)}
        measures |= {**audit(self, terms), **self.method.measures(terms[0].batch, clean)}
        total = torch.stack([term.weight * loss for term, loss, _ in evaluated]).sum()
        if batchwide:
            total = total + weighted_sum(terms, batchwide, global_count)
        return Losses(
            total,
            [(term, losses_B.detach()) for term, _, losses_B in evaluated],
            Encoded(online, clean.target).detached(),
            terms[0].batch,
            measures,
            {term.name: valid_B for term, _, _ in evaluated if (valid_B := self.valid(term.batch)) is not None},
            self.valid(batch),
            self._lesson([(term, losses_B) for term, _, losses_B in evaluated]),
            batchwide[0].detach() if batchwide else None,
        )

    def _lesson(self, terms: Sequence[tuple[Term, Tensor]]) -> Tensor | None:
        """Return the lesson for the strategy from the losses of the views in this pass."""
        if self.scout is None:
            return None
        # It is taken from clean views, whose loss is the method's own; from chosen ones if there are any.
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
        """Return the online encodings of the first candidates if the method's state reads them, else nothing.

        Most of them exist already, from scoring, or from training on views without a rival.
        """
        selection = chosen.selection
        if not self.method.unselected_state or selection is None or selection.random:
            return {}
        slots = dict.fromkeys(pair.online for pair in self.pairs)
        found = {slot: made[drawn.views[slot]] for slot in slots if drawn.views[slot] in made}
        missing = [slot for slot in slots if slot not in found]
        if missing:
            with traceless(self.method):
                found.update(self.method.encode(drawn, missing, []).online)
        return found

    def _term(self, term: Term, global_count: int) -> tuple[Tensor, KnownLoss]:
        early = None if self._early is None else self._early.of(term)
        if early is not None:
            return early[0].mean(global_count, early[1].loss()), early[0]
        if term.assignments is None:
            pairs = self.pairs_of(term)
            loss = self._known(term.batch, self.pairwise(term.batch, pairs=pairs)[0], pairs)
        else:
            loss = self._averaged(term)
        return loss.mean(global_count), loss

    def clean_gradient(
        self, batch: Batch, slots: Sequence[Slot], pairs: Sequence[Pair]
    ) -> tuple[dict[Slot, Tensor], dict[Slot, Tensor]]:
        """Return pixels (B, 3, H, W) of some slots' clean views, and the gradient of the sum of the clean losses.

        `pairs` are the pairs that the hard term will add; see `CleanLoss.gradient`.
        """
        if self._early is not None:
            return self._early.gradient(batch, slots, pairs)
        with self.sharing() as (_, early):
            return early.gradient(batch, slots, pairs)

    def _known(self, batch: Batch, losses_PB: Tensor, pairs: Sequence[Pair]) -> KnownLoss:
        """Reduce losses (P, B) of pairs on a batch to losses of samples with a label."""
        return KnownLoss.of(
            groups(self.method, batch, pairs),
            lambda group: self.reduce(group.of(losses_PB), pairs=group.pairs),
        )

    def _clean_loss(self, batch: Batch, encoded: Encoded) -> KnownLoss:
        """Return the clean loss."""
        return self._known(batch, self._pair_losses(batch, encoded, self.pairs), self.pairs)

    def _reads_clean(self, term: Term, early: CleanLoss) -> bool:
        """Return whether the coming backward pass of a term passes through encodings of clean views."""
        if early.of(term) is not None:
            return False
        return term.assignments is not None or reads(
            self._clean(term.batch), self.pairs_of(term), list(term.batch.hard)
        )

    def _averaged(self, term: Term) -> KnownLoss:
        """Return the loss of a term of several assignments: every pair of candidates costs one loss."""
        pairs, within_AP = self._candidate_pairs(term)
        encoded = self._clean(term.batch, pairs)
        losses_QB = self.method.pair_losses(term.batch, encoded.online, encoded.target, pairs)
        return KnownLoss.of(
            groups(self.method, term.batch, self.pairs),
            lambda group: self.reduce(losses_QB, within_AP[:, group.rows], group.pairs).mean(0),
        )

    def _assigned(self, term: Term, number: int = 0) -> Encoded:
        """Return a term's clean encodings, of one assignment if it has several; `update` reads the first one's."""
        if term.assignments is None:
            return self._clean(term.batch)
        encoded = self._clean(term.batch, self._candidate_pairs(term)[0])
        # A limit may leave out the first candidates, which are then not encoded.
        numbers = term.assignments[number].tolist()
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
        """Return the pairs whose losses a term adds: all of its kinds, or only pairs with hard views."""
        pairs = of_kinds(self.pairs, term.kinds)
        return of_views(pairs, term.batch.hard) if term.hard_only else pairs

    def pairwise(
        self, batch: Batch, *, attack: bool = False, pairs: Sequence[Pair] | None = None
    ) -> tuple[Tensor, Encoded]:
        """Return the losses (P, B) of the method's pairs (or of some of them) on a batch, and its encodings.

        Clean views are encoded once for all terms. In an attack only the hard views' pixels get a gradient; see
        `Step.hard`.
        """
        encoded = self._clean(batch)
        if attack:
            encoded = encoded.detached()
        encoded = replace(encoded, online={**encoded.online, **self._now.hard(batch, attack=attack)})
        return self._pair_losses(batch, encoded, self.pairs if pairs is None else pairs), encoded

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
        """Reduce losses (P, B) of the method's pairs, or of the given pairs, to a loss per sample (B,).

        `within` (A, P) holds for each assignment the rows of its pairs in the losses (Q, B); then return (A, B).
        """
        # One (A, B) matrix at a time: all pairs at once would need P of them.
        within_PA = None if within is None else within.T.to(losses.device, non_blocking=True)
        total: Tensor | None = None
        for p, pair in enumerate(self.pairs if pairs is None else pairs):
            weighted = pair.weight * (losses[p] if within_PA is None else losses[within_PA[p]])
            total = weighted if total is None else total + weighted
        assert total is not None
        return total

    def score(
        self, batch: Batch, table: Tensor, look: Look = AS_TRAINED, pairs: Sequence[Pair] | None = None
    ) -> Tensor:
        """Return the hardness (A, B) of assignments (rows of the table).

        It is made without gradient, in training mode, and without side effects: running statistics do not move unless
        `look` asks for it, and the random streams of training do not advance. Every candidate is encoded once; every
        pair of candidates costs one loss. With `pairs` the hardness is the sum over these alone.
        """
        pairs = self.pairs if pairs is None else pairs
        found, within_AP = candidate_pairs(self.plan.slots, pairs, table)
        return self.reduce(self.score_pairs(batch, found, look), within_AP, pairs)

    def score_pairs(self, batch: Batch, pairs: Sequence[Pair], look: Look = AS_TRAINED) -> Tensor:
        """Return the losses (Q, B) of pairs of candidates, made in the same way as in `score`."""
        return score_pairs(self._now, self.plan, self.pairs, batch, pairs, look)

    def picked(self, view: View, others: Sequence[View], choice_B: Tensor) -> None:
        """Note that row i of a view is row i of others[choice[i]]: scored targets that are valid by row are reused."""
        self._now.picked(view, others, choice_B)

    def valid(self, batch: Batch, pairs: Sequence[Pair] | None = None) -> Tensor | None:
        """Return a mask (B,) of the samples with a label of any pair, or of any of these; None if all have one.

        A mixed view needs the labels of both images.
        """
        return anyone(self.method, batch, self.pairs if pairs is None else pairs)

    @contextmanager
    def sharing(self) -> Iterator[tuple[Step, CleanLoss]]:
        """Encode clean views once during the block, for all terms and all attack steps."""
        self._step = Step(self.method)
        self._early = CleanLoss(self._step, self.pairs, self._clean_loss)
        try:
            yield self._step, self._early
        finally:
            self._step = self._early = None

    @property
    def _now(self) -> Step:
        """The current step, else a new one that is not kept."""
        return self._step or Step(self.method, training=False)

    def _clean(self, batch: Batch, pairs: Sequence[Pair] | None = None) -> Encoded:
        """Return the encodings of the clean views of some pairs (by default the method's)."""
        return self._now.clean(batch, self.pairs if pairs is None else pairs)


def _weighty(terms: Sequence[Term]) -> list[Term]:
    """Leave out terms of weight zero; if all have it, as in an attack in every k-th step, keep the first."""
    return [term for term in terms if term.weight] or [replace(terms[0], weight=1.0)]
