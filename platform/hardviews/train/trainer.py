"""Optimizer steps, apart from the source of their data and the reports about them.

Losses and gradients are taken over the whole global batch, for any number of ranks and micro-batches.
"""

import logging
from collections.abc import Iterable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from hardviews.batch import Samples
from hardviews.clock import Clock
from hardviews.collectives import sum_over_ranks
from hardviews.encoded import Encoded, concatenate
from hardviews.errors import UserError
from hardviews.models.activation_checkpointing import checkpoint_activations
from hardviews.models.average import WeightAverage
from hardviews.models.frozen_stages import freeze_stages, refuse_copies
from hardviews.objective.losses import Losses
from hardviews.objective.objective import Objective
from hardviews.runs.ledger import digest
from hardviews.train.compilation import check_compiler, compile_networks
from hardviews.train.composition import advice, check
from hardviews.train.loader import RawBatch, to_batch
from hardviews.train.nonfinite import Trace, traces
from hardviews.train.recipe import Recipe
from hardviews.views.random import Purpose, words
from hardviews.world import World

logger = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class StepReport:
    """The result of a step, equal on all ranks except for `losses` and `traces`.

    `losses` are of this rank's share of its last micro-batch. `taken` is false if the loss was not finite: then nothing
    was changed. `stop` is true if some rank was asked to leave, `due` if it is time for a checkpoint. `corrupt` counts
    samples that the ranks newly found corrupt, `substituted` samples that others replaced. `digest` is the ledger's
    digest of the global batch. `traces` belong to this rank's share of all micro-batches.
    """

    loss: float
    rate: float
    taken: bool
    stop: bool
    due: bool
    corrupt: int
    substituted: int
    digest: int
    losses: Losses
    traces: list[Trace]


def build_objective(recipe: Recipe) -> Objective:
    """Build a recipe's network, method and strategy.

    Raises:
        UserError: they do not fit each other, or the sizes of groups and batches; or more stages are to be frozen than
        there are.
    """
    method = recipe.method.build(recipe.backbone.build(), recipe.backbone.num_features)
    check(method, recipe.strategy, recipe.training)
    objective = Objective(method, recipe.strategy)
    if recipe.training.frozen_stages >= 0:
        refuse_copies(method)
        objective.still = freeze_stages(method.backbone, recipe.training.frozen_stages)
        objective.train(objective.training)
    if recipe.training.activation_checkpointing:
        checkpoint_activations(method.backbone)
    return objective


def without_numbers(recipe: Recipe) -> Objective | None:
    """Build a recipe's objective and optimizer on the meta device: it takes no memory and draws nothing.

    Return None for a network that cannot be built there.

    Raises:
        UserError: as `build_objective` does, or the optimizer.
    """
    try:
        with torch.device("meta"):
            objective = build_objective(recipe)
            recipe.optimizer.build(objective.method, recipe.training.batch)
            return objective
    except UserError:
        raise
    except Exception:  # any error of a network: it is checked when it is really built
        return None


class Trainer:
    """The trained weights, and their change by a step."""

    def __init__(self, recipe: Recipe, world: World) -> None:
        """Build network, method, strategy and optimizer; equal on all ranks by the seed.

        Raises:
            UserError: as `build_objective` does, or the recipe is to be compiled and there is no compiler.
        """
        self.recipe, self.world = recipe, world
        if recipe.training.compile:
            check_compiler(world.device)
        torch.manual_seed(recipe.training.seed)
        self.objective = build_objective(recipe).train()
        method = self.objective.method
        for remark in advice(method, recipe.strategy) if world.rank == 0 else ():
            logger.warning("%s", remark)
        # Convolutions are fastest in channels_last, on CPU and on GPU.
        self.objective.to(world.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        recipe.precision.cast(self.objective, method.backbone)
        ema = recipe.training.ema
        self.average = WeightAverage(self._trained, ema) if ema else None
        if recipe.training.compile:
            compile_networks(method, recipe.strategy.reads_clean_gradient)
        self.optimizer = recipe.optimizer.build(method, recipe.training.batch)
        self.peak = recipe.optimizer.peak(recipe.training.batch)
        self._module: Objective | DistributedDataParallel = self.objective
        if world.size > 1:
            self._module = DistributedDataParallel(
                self.objective,
                device_ids=[world.device] if world.device.type == "cuda" else None,
                # Buffers stay equal on all ranks by construction; the adversarial branch may be left out of a step, and
                # a part of a sum of methods.
                forward_sync_buffers=False,
                find_unused_parameters=recipe.strategy.adversarial_branch
                or method.leaves_out
                or bool(recipe.strategy.hardened_kinds - {None}),
            )

    @property
    def exported(self) -> Mapping[str, nn.Module]:
        """Return the networks to be exported: `network`, and `classifier` if the method has one."""
        return self._trained if self.average is None else dict(self.average.named_children())

    def begin_average(self) -> None:
        """Begin the moving average with the weights as they are, if there is one."""
        if self.average is not None:
            self.average.begin(self._trained)

    @property
    def _trained(self) -> dict[str, nn.Module]:
        method = self.objective.method
        head = {} if method.classifier is None else {"classifier": method.classifier}
        return {"network": method.exported, **head}

    def step(self, raws: Iterable[RawBatch], clock: Clock, stop: bool, due: bool = False) -> StepReport:
        """Train on one global batch, given as this rank's shares of its micro-batches."""
        training = self.recipe.training
        rate = self.recipe.schedule.apply(self.optimizer, self.peak, clock, training.epochs)
        self.optimizer.zero_grad(set_to_none=True)
        total = torch.zeros((), dtype=torch.float64, device=self.world.device)
        parts: list[Encoded] = []
        samples: list[Samples] = []
        left: list[Trace] = []
        lessons: list[Tensor | None] = []
        corrupt, substituted, trained_on = 0, 0, 0
        for micro, raw in enumerate(raws):
            last = micro == training.accumulate - 1
            batch = to_batch(raw, self.objective, clock, training.group, self.world.device)
            # Seed of dropout and stochastic depth: a function of step and rank, so that a resumed run repeats them.
            self._seed(clock, micro)
            hold = (
                nullcontext()
                if last or not isinstance(self._module, DistributedDataParallel)
                else self._module.no_sync()
            )
            with hold:
                with self.recipe.precision.autocast(self.world.device):
                    losses: Losses = self._module(batch, training.batch)
                losses.total.backward()
            total += losses.total.detach()
            parts.append(losses.encoded)
            samples.append(losses.batch.samples)
            left += traces(losses)
            lessons.append(losses.lesson)
            corrupt += len(raw.bad)
            substituted += raw.counters.substituted
            trained_on += digest(clock.epoch, raw.position.numpy(), raw.named.numpy())
        # One small all-reduce a step sums the loss, the counts, and the requests to stop. In double precision sums of
        # digests stay exact: below 2^53 for batches of up to 2^21 samples.
        counts = torch.tensor([stop, due, corrupt, substituted, trained_on], dtype=torch.float64, device=total.device)
        shared = sum_over_ranks(torch.cat([(total / self.world.size).reshape(1), counts]))
        loss, asked, wanted, corrupt, substituted, trained_on = shared.tolist()
        taken = loss == loss and abs(loss) != float("inf")
        if taken:
            for module in self.objective.method.frozen(clock):
                for parameter in module.parameters():
                    parameter.grad = None
            self.recipe.optimizer.limit(self.objective.method)
            self.optimizer.step()
            encoded = concatenate(parts)
            self.objective.method.update(encoded, clock, Samples.join(samples))
            self.objective.learn(lessons)
            if self.average is not None:
                self.average.follow(self._trained)
        return StepReport(
            loss, rate, taken, asked > 0, wanted > 0, int(corrupt), int(substituted), int(trained_on), losses, left
        )

    def _seed(self, clock: Clock, micro: int) -> None:
        place = torch.tensor([clock.step])
        stream = micro << 20 | self.world.rank
        torch.manual_seed(int(words(clock.seed, Purpose.STEP, clock.epoch, place, stream, 1)))

    def backward_seconds(self) -> float:
        """Return the recent duration of this rank's own part of a backward pass; 0 if unknown.

        DistributedDataParallel measures every hundredth step, without the wait for other ranks.
        """
        if not isinstance(self._module, DistributedDataParallel):
            return 0.0
        taken = self._module._get_ddp_logging_data().get("backward_compute_time", 0)
        return float(taken) / 1e9

    def synchronise(self) -> None:
        """Wait for all ranks."""
        if self.world.size > 1:
            dist.barrier()
