"""Adversarial views: perturbed within a pixel bound so that the method's loss rises.

FGSM (Goodfellow et al. 2015, section 4) for one step, PGD (Madry et al. 2018, equation 1) for more; on self-supervised
losses: HEXA (Li et al. 2020), CLAE (Ho & Vasconcelos 2020). The attack is untargeted, takes the target encodings as
constants, and is followed by a training pass through the auxiliary BatchNorm (AdvProp, Xie et al. 2020). We found no
publication of HEXA's own attack settings; the defaults are 2/255 and one step. In the attack's passes the batch
statistics of the branch are the constant statistics of the initial views. So it climbs the loss of each sample, not
only their sum. A gradient through the statistics, as in the code of CLAE, leaves up to a third of the samples with a
lower loss than before (SimSiam); `statistics` chooses.

With `gradient="clean"` an attack has no passes of its own. It takes the sign of the pixel gradient of the clean term,
whose backward pass comes first.

Shape legend: B samples, P pairs.
"""

from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor

from hardviews.batch import Batch, Term, View
from hardviews.checked import above, added, at_least, require, within
from hardviews.collectives import sum_over_ranks
from hardviews.errors import UserError
from hardviews.full_precision import full_precision
from hardviews.methods.method import Method
from hardviews.models.branch import Branch
from hardviews.models.held import HeldStatistics, Kind
from hardviews.strategies.bounded import ascended, bounded, step_size_of
from hardviews.strategies.kinds import unknown_kinds
from hardviews.strategies.scorer import Scorer
from hardviews.strategies.strategy import Stage, Strategy
from hardviews.views.pixels import Crops
from hardviews.views.plan import Slot, of_kinds
from hardviews.views.random import Purpose, uniform_like


@dataclass(frozen=True)
class Adversarial(Strategy):
    """Attacks the online views of global slots.

    Attributes:
        epsilon: bound on every pixel and channel, in units of [0, 1].
        steps: number of steps; 1 is FGSM, more is PGD.
        step_size: size of a step; by default epsilon for one step, else max(epsilon / steps, 1 / 255).
        start: start of the attack; by default the view itself for one step, else uniform in the bound.
        branch: BatchNorm branch whose statistics normalise attacked views.
        every: attack only in every n-th step; in other steps the term has weight 0.
        statistics: statistics that normalise the views in the attack's passes. They are the constant statistics of the
            initial views, the statistics of each pass's own batch with gradient, or the running statistics of the
            branch.
        measure: in every n-th attack count the samples whose loss was raised, with one or two more passes without
            gradient; 0 for never.
        pairs: `all` attacks and trains on the method's whole loss, in which local views stay clean; `hard` uses the
            loss of the attacked views alone, with the weight of the whole.
        gradient: `own` climbs the loss of the attacked views by passes of the attack's own. `clean` takes one step
            along the pixel gradient of the clean term. With a clean term on the same views the attack then costs nearly
            nothing. Every `measure`-th attack measures its strength against the full attack.
        kinds: parts of a sum of methods ("0"), or kinds of pairs ("0/class"), whose views are attacked and whose loss
            is climbed and added; all by default.
    """

    stages = frozenset({Stage.ATTACK})

    epsilon: float = 2 / 255
    steps: int = 1
    step_size: float | None = None
    start: Literal["view", "uniform"] | None = None
    branch: Branch = "adversarial"
    every: int = 1
    statistics: Kind = "held"
    measure: int = 20
    pairs: Literal["all", "hard"] = "all"
    gradient: Literal["own", "clean"] = added("own")
    kinds: tuple[str, ...] | None = added(None)

    def __post_init__(self) -> None:
        """Refuse attacks without effect."""
        require(
            self,
            epsilon=within(0, 1).note(f"pixels lie in [0, 1]: write 4/255 as {4 / 255:.4f}"),
            steps=at_least(1),
            step_size=above(0, at_most=1)
            .note(f"pixels lie in [0, 1]: write 1/255 as {1 / 255:.4f}")
            .or_none("for max(epsilon / steps, 1/255)"),
            every=at_least(1),
            measure=at_least(0).note("0 for never"),
        )
        if self.gradient == "clean" and (self.steps > 1 or self._starts_at != "view"):
            raise UserError(
                "Adversarial with the gradient of the clean term takes one step from the clean view, but steps is "
                f"{self.steps} and start is {self._starts_at}. Set steps to 1 and start to view, or gradient to own."
            )
        if self.gradient == "clean" and self.kinds is not None:
            raise UserError(
                f"Adversarial with the gradient of the clean term climbs the loss of all kinds, but kinds is "
                f"{list(self.kinds)}. Leave kinds out, or set gradient to own."
            )

    @property
    def adversarial_branch(self) -> bool:
        """Return whether attacked views have statistics of their own."""
        return self.branch == "adversarial"

    @property
    def hardened_kinds(self) -> frozenset[tuple[str, ...] | None]:
        """Return the kinds whose views are attacked."""
        return frozenset({self.kinds})

    def refuses(self, method: Method) -> str | None:
        """Refuse a method without pairs of these kinds."""
        return unknown_kinds(self.kinds, method)

    @property
    def reads_clean_gradient(self) -> bool:
        """Return whether the attack takes the gradient of the clean term."""
        return self.gradient == "clean"

    def __call__(self, batch: Batch, objective: Scorer) -> list[Term]:
        """Return the batch with attacked online views as the only term."""
        if batch.clock.step % self.every:
            return [Term(batch, weight=0.0)]
        pairs = of_kinds(objective.pairs, self.kinds)
        if not pairs:
            return [Term(batch, weight=0.0)]  # the parts of these kinds have not begun
        if self.epsilon == 0 and self.branch == "main" and self.pairs == "all":
            # Nothing is perturbed: the clean views, bit for bit.
            return [Term(batch, name="adversarial", kinds=self.kinds)]
        slots = [slot for slot in dict.fromkeys(pair.online for pair in pairs) if batch.views[slot].target]
        held = {slot: HeldStatistics(self.statistics) for slot in slots}
        measured = bool(self.measure) and self.epsilon > 0 and (batch.clock.step // self.every + 1) % self.measure == 0
        if self.gradient == "clean" and self.epsilon > 0:
            return [self._along_clean(batch, held, objective, measured)]
        clean = {slot: full_precision(batch.online(slot).pixels().detach()) for slot in slots}
        pixels = {slot: self._start(clean[slot], batch, slot, objective.plan.view_number(slot)) for slot in slots}
        before_B = None
        for number in range(self.steps if self.epsilon > 0 else 0):
            pixels, losses_B = self._ascend(pixels, clean, batch, held, objective)
            if number == 0 and self._starts_at == "view":
                before_B = losses_B
        attacked = self._attacked(batch, pixels, held)
        raised_B = None
        if measured:
            with torch.no_grad():
                if before_B is None:
                    before_B = self._losses(self._attacked(batch, clean, held), objective)
                raised_B = self._losses(attacked, objective) > before_B
        return [replace(self._term(attacked), raised=raised_B)]

    def _along_clean(self, batch: Batch, held: dict[Slot, HeldStatistics], objective: Scorer, measured: bool) -> Term:
        """Return the term of one step along the gradient of the clean loss."""
        slots = list(held)
        unchanged = {slot: batch.views[slot] for slot in slots}
        pairs = objective.pairs_of(self._term(replace(batch, hard=unchanged)))
        clean, grads = objective.clean_gradient(batch, slots, pairs)
        moved = {slot: self._step(clean[slot], grads[slot], clean[slot], batch.views[slot]) for slot in slots}
        term = self._term(self._attacked(batch, moved, held))
        if not measured:
            return term
        full, before_B = self._ascend({s: p.clone() for s, p in clean.items()}, clean, batch, held, objective)
        with torch.no_grad():
            gain_B = self._losses(term.batch, objective) - before_B
            full_B = self._losses(self._attacked(batch, full, held), objective) - before_B
            strength_B = gain_B / _mean_over_ranks(full_B, objective.valid(batch, pairs))
        return replace(term, raised=gain_B > 0, strength=strength_B)

    def _ascend(
        self,
        pixels: dict[Slot, Tensor],
        clean: dict[Slot, Tensor],
        batch: Batch,
        held: dict[Slot, HeldStatistics],
        objective: Scorer,
    ) -> tuple[dict[Slot, Tensor], Tensor]:
        """Take one signed step up the loss and project it into the bound and the valid range.

        Return the pixels, and the losses (B,) before the step.
        """
        with torch.enable_grad():
            leaves = {slot: tensor.requires_grad_() for slot, tensor in pixels.items()}
            losses_B = self._losses(self._attacked(batch, leaves, held), objective)
            valid_B = objective.valid(batch, of_kinds(objective.pairs, self.kinds))
            # Summed, not averaged: a mean over a large batch can underflow to a gradient of sign 0.
            loss = losses_B.sum() if valid_B is None else torch.where(valid_B, losses_B, 0.0).sum()
            grads = torch.autograd.grad(loss, list(leaves.values()))
        moved = {}
        for (slot, leaf), grad in zip(leaves.items(), grads, strict=True):
            moved[slot] = self._step(leaf.detach(), grad, clean[slot], batch.views[slot])
        return moved, losses_B.detach()

    def _step(self, pixels: Tensor, grad: Tensor, clean: Tensor, view: View) -> Tensor:
        """Return pixels after one signed step, projected into the bound and the valid range."""
        size = step_size_of(self.epsilon, self.steps, self.step_size)
        return ascended(pixels, grad, clean, size, self.epsilon, view.normalisation)

    def _losses(self, attacked: Batch, objective: Scorer) -> Tensor:
        """Return the losses (B,) that the term adds, which are the losses that the attack climbs."""
        pairs = objective.pairs_of(self._term(attacked))
        losses_PB, _ = objective.pairwise(attacked, attack=True, pairs=pairs)
        return objective.reduce(losses_PB, pairs=pairs)

    def _term(self, attacked: Batch) -> Term:
        return Term(attacked, name="adversarial", hard_only=self.pairs == "hard", kinds=self.kinds)

    @property
    def _starts_at(self) -> Literal["view", "uniform"]:
        return self.start or ("view" if self.steps == 1 else "uniform")

    def _start(self, clean: Tensor, batch: Batch, slot: Slot, stream: int) -> Tensor:
        if self._starts_at == "view" or self.epsilon == 0:
            return clean.clone()
        clock = batch.clock
        noise = uniform_like(clean, clock.seed, Purpose.ATTACK, clock.epoch, batch.position, stream) * 2 - 1
        normalisation = batch.views[slot].normalisation
        return bounded(clean + normalisation.radius(self.epsilon, clean) * noise, clean, self.epsilon, normalisation)

    def _attacked(self, batch: Batch, pixels: dict[Slot, Tensor], held: dict[Slot, HeldStatistics]) -> Batch:
        hard = {}
        for slot, tensor in pixels.items():
            view = batch.views[slot]
            hard[slot] = View(
                slot,
                Crops(tensor, view.normalisation),
                view.normalisation,
                branch=self.branch,
                mask=view.mask,
                statistics=held[slot],
            )
        return replace(batch, hard={**batch.hard, **hard})


def _mean_over_ranks(values_B: Tensor, valid_B: Tensor | None) -> Tensor:
    """Return the mean over the samples of all ranks that have a label; NaN if it is not positive."""
    valid_B = torch.ones_like(values_B, dtype=torch.bool) if valid_B is None else valid_B
    total, count = sum_over_ranks(torch.stack([torch.where(valid_B, values_B, 0.0).sum(), valid_B.sum()]))
    return torch.where(total > 0, total / count, torch.nan)
