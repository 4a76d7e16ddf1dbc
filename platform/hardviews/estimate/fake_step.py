"""A training step of the real classes on fake tensors: it takes no memory, draws no number and needs no GPU.

Shape legend: B samples of one GPU's micro-batch.
"""

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode

from hardviews.batch import Batch, Samples, View
from hardviews.clock import Clock
from hardviews.errors import UserError
from hardviews.estimate.tally import Tally
from hardviews.models.momentum import MomentumEncoder
from hardviews.objective.objective import Objective
from hardviews.train.recipe import Recipe
from hardviews.train.trainer import build_objective
from hardviews.views.params import Column
from hardviews.views.pixels import Crops


@dataclass(frozen=True)
class StepCost:
    """Cost of a step.

    forward, backward: passes of a view through a network, per image; a view counts by its share of the largest view's
    area. flops: per image. parameters: number of trained parameters, and of a momentum encoder's parameters. memory:
    bytes on one GPU, with a micro-batch of its share.
    """

    forward: float
    backward: float
    flops: float
    trained: int
    momentum: int
    memory: int

    def __add__(self, other: "StepCost") -> "StepCost":
        sums = {name: getattr(self, name) + getattr(other, name) for name in ("forward", "backward", "flops")}
        return replace(self, **sums, memory=max(self.memory, other.memory))

    def __truediv__(self, steps: int) -> "StepCost":
        return replace(self, forward=self.forward / steps, backward=self.backward / steps, flops=self.flops / steps)


class FakeTrainer:
    """A recipe's objective and optimizer without numbers."""

    def __init__(self, recipe: Recipe, images: int) -> None:
        """Build them as the real trainer does.

        Raises:
            UserError: they do not fit each other, or the data set is too small for the method.
        """
        self.recipe = recipe
        with torch.device("meta"):
            self.objective = build_objective(recipe).train()
            self.objective.method.allocate(images)
        self.objective.to(memory_format=torch.channels_last)
        # Tables of the plan are real tensors, beside the fake ones.
        self._mode = FakeTensorMode(allow_non_fake_inputs=True)
        self._fakes: dict[int, tuple[Tensor, Tensor]] = {}
        for module in self.objective.modules():
            self._replace(module)
        self.optimizer = recipe.optimizer.build(self.objective.method, recipe.training.batch)
        self._passes = Passes(self.objective)

    def step(self, samples: int, number: int, copies: bool) -> StepCost:
        """Return the cost of a step on a micro-batch of so many samples, late in the run.

        `number`: number of the step, used by strategies that act only in some steps. `copies`: whether gradients have a
        second copy, from which they are added over processes.

        Raises:
            UserError: the network or the strategy looks at numbers.
        """
        objective, tally = self.objective, Tally(FakeTensor)
        batch, pixels = self._batch(samples, number)
        weights = list(objective.parameters())
        self.optimizer.zero_grad(set_to_none=True)
        self.optimizer.state.clear()
        self._passes.clear()
        tally.know(*(view.mask for view in batch.views.values() if view.mask is not None))
        tally.hold(*weights, *objective.buffers(), *pixels)
        try:
            with tally:
                with self._autocast():
                    losses = objective(batch, samples)
                losses.total.backward()
                del losses
                peak, before = tally.peak, tally.live
                self.optimizer.step()
                states = tally.live - before
        except UserError:
            raise
        except Exception as error:  # any error of any network
            line = (str(error).strip().splitlines() or [""])[0]
            raise UserError(
                f"The step of {self.recipe.name} cannot be estimated, since something in it looks at numbers "
                f"({type(error).__name__}: {line}). Train a few steps instead: hardviews pretrain {self.recipe.name}."
            ) from error
        gradients = sum(weight.numel() * weight.element_size() for weight in weights if weight.requires_grad)
        return StepCost(
            self._passes.forward / samples,
            self._passes.backward / samples,
            tally.flops / samples,
            sum(weight.numel() for weight in weights if weight.requires_grad),
            sum(weight.numel() for module in self._followers for weight in module.parameters()),
            peak + states + gradients * copies,
        )

    @property
    def _followers(self) -> list[MomentumEncoder]:
        return [module for module in self.objective.modules() if isinstance(module, MomentumEncoder)]

    def _batch(self, samples: int, number: int) -> tuple[Batch, list[Tensor]]:
        """Return a batch of the last epoch, and the pixels of its candidates."""
        training, plan, method = self.recipe.training, self.objective.plan, self.objective.method
        position = torch.arange(samples)
        total = training.epochs * (number + 1) * training.batch
        clock = Clock(training.seed, training.epochs - 1, number, total - 1, total)
        views, made = {}, []
        for slot in plan.candidates:
            pool = plan.pool(slot.pool)
            size, normalisation = pool.augmentation.size, pool.augmentation.normalisation
            pixels, plain = (self._pixels(samples, side) for side in (size, pool.geometry))
            assert pixels is not None
            rows = self._fake(torch.empty(samples, len(Column), device="meta"))
            mask = method.mask(slot, plan.view_number(slot), clock, position)
            views[slot] = View(slot, Crops(pixels, normalisation, plain), normalisation, rows, pool.target, mask=mask)
            made += [tensor for tensor in (pixels, plain) if tensor is not None]
        labels = None
        if method.labelled:
            labels = self._fake(torch.empty(samples, dtype=torch.int64, device="meta"))
        return Batch(views, clock, Samples(position, position), training.group, labels=labels), made

    def _pixels(self, samples: int, side: int | None) -> Tensor | None:
        if side is None:
            return None
        return self._fake(torch.empty(samples, 3, side, side, dtype=torch.uint8, device="meta"))

    def _replace(self, module: nn.Module) -> None:
        for name, weight in list(module._parameters.items()):
            if weight is not None:
                module._parameters[name] = nn.Parameter(self._fake(weight), weight.requires_grad)
        for name, buffer in list(module._buffers.items()):
            if buffer is not None:
                module._buffers[name] = self._fake(buffer)

    def _fake(self, tensor: Tensor) -> Tensor:
        """Return a fake tensor of the same shape on the CPU: on a GPU it would need a driver."""
        if id(tensor) not in self._fakes:  # the tensor is kept, so that its number stays its own
            self._fakes[id(tensor)] = FakeTensor(self._mode, tensor.detach(), torch.device("cpu")), tensor
        return self._fakes[id(tensor)][0]

    def _autocast(self) -> torch.autocast:
        half = self.recipe.precision.compute in ("auto", "bfloat16")
        return torch.autocast("cpu", torch.bfloat16, enabled=half)


class Passes:
    """Counts the passes of views through the networks of an objective, in views of the largest size."""

    def __init__(self, objective: Objective) -> None:
        """Register hooks on the backbone and its momentum copy."""
        self.forward, self.backward = 0.0, 0.0
        self._full = max(pool.augmentation.size for pool in objective.plan.pools) ** 2
        objective.method.backbone.register_forward_hook(self._passed)
        for module in objective.modules():
            if isinstance(module, MomentumEncoder) and hasattr(module, "backbone"):
                module.get_submodule("backbone").register_forward_hook(self._passed)

    def clear(self) -> None:
        """Count from nothing."""
        self.forward, self.backward = 0.0, 0.0

    def _passed(self, module: nn.Module, inputs: tuple[Any, ...], out: Any) -> None:
        views = len(inputs[0]) * inputs[0].shape[-1] * inputs[0].shape[-2] / self._full
        self.forward += views
        if isinstance(out, Tensor) and out.requires_grad:

            def passed_back(gradient: Tensor) -> None:
                self.backward += views

            out.register_hook(passed_back)
