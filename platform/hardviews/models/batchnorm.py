"""BatchNorm with branches, frozen running statistics on demand, and statistics over all processes.

Clean and adversarial views come from different distributions, so each *branch* has its own affine parameters and
running statistics (AdvProp, Xie et al. 2020, section 3; CLAE, Ho & Vasconcelos 2020). Only the clean forward pass may
move the running statistics of the main branch. torch's SyncBatchNorm refuses CPU tensors. This one accepts any device
and equals one process on the whole batch, also for unequal shares. Inside `grouped` each fixed group of samples is
normalised by itself, which needs no other process.

Shape legend: N rows, C channels, ... spatial dimensions.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from copy import deepcopy
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from hardviews.collectives import world_size
from hardviews.full_precision import full_precision
from hardviews.models.branch import Branch
from hardviews.models.groups import Groups
from hardviews.models.held import HeldStatistics, batch_statistics
from hardviews.models.momentum import MomentumEncoder


class BranchedBatchNorm(nn.modules.batchnorm._BatchNorm):
    """A BatchNorm of any dimension whose adversarial branch, if it has one, is the module `adversarial`.

    The main branch keeps the names of torch's and timm's parameters, so weights can be copied to and from plain
    networks. `drop` and `act` are parts of timm's norm layers; all branches share them.
    """

    adversarial: "BranchedBatchNorm | None"

    def __init__(self, like: nn.modules.batchnorm._BatchNorm) -> None:
        """Copy parameters, statistics and settings of a BatchNorm."""
        super().__init__(like.num_features, like.eps, like.momentum, like.affine, like.track_running_stats)
        for name in ("weight", "bias", "running_mean", "running_var", "num_batches_tracked"):
            setattr(self, name, deepcopy(getattr(like, name)))
        self.train(like.training)
        self.branch: Branch = "main"
        self.update = True
        self.passes = 1
        self.views = 1
        self.groups: Groups | None = None
        self.held: HeldStatistics | None = None
        self.adversarial = None
        self.drop: nn.Module = getattr(like, "drop", nn.Identity())
        self.act: nn.Module = getattr(like, "act", nn.Identity())

    def _check_input_dim(self, input: Tensor) -> None:
        """Accept any number of dimensions."""

    def forward(self, input: Tensor) -> Tensor:
        """Normalise (N, C, ...) by the chosen branch; in evaluation always by the main branch."""
        norm = self
        if self.training and self.branch == "adversarial" and self.adversarial is not None:
            norm = self.adversarial
        held = self.held if self.training else None
        if held is None and self.views > 1 and self.training:
            parts = input.chunk(self.views)
            out = torch.cat([norm._normalise(part, self.update, self.groups) for part in parts])
        elif held is None:
            out = norm._normalise(input, self.update, self.groups)
        else:
            out = norm._normalise_by(held, input, self.groups)
        return self.act(self.drop(out))  # type: ignore[no-any-return]

    def _normalise(self, x: Tensor, update: bool, groups: Groups | None) -> Tensor:
        if not self.training:
            return super().forward(x)
        if update and self.num_batches_tracked is not None:
            self.num_batches_tracked.add_(1)
        momentum = self.momentum
        if momentum is None:  # torch's convention: cumulative average
            momentum = 1.0 / float(self.num_batches_tracked or 1)
        if self.passes > 1:
            momentum = 1 - (1 - momentum) ** (1 / self.passes)
        if groups is not None:
            return groups.normalise(self, x, momentum if update else None)
        mean, var = (self.running_mean, self.running_var) if update else (None, None)
        if world_size() == 1:
            return nn.functional.batch_norm(x, mean, var, self.weight, self.bias, True, momentum, self.eps)
        out, mean_C, var_C, count = _SyncNormalise.apply(x, self.weight, self.bias, self.eps)
        if mean is not None and var is not None:
            unbiased = var_C * (count / (count - 1).clamp(min=1))
            mean.lerp_(mean_C.to(mean.dtype), momentum)
            var.lerp_(unbiased.to(var.dtype), momentum)
        return out  # type: ignore[no-any-return]

    def _normalise_by(self, held: HeldStatistics, x: Tensor, groups: Groups | None) -> Tensor:
        def normalised(rows: Tensor) -> Tensor:
            mean_C, var_C = held.of(self, rows, over_ranks=groups is None)
            return nn.functional.batch_norm(rows, mean_C, var_C, self.weight, self.bias, False, 0.0, self.eps)

        return normalised(x) if groups is None else groups.join([normalised(rows) for rows in groups.split(x)])


class _SyncNormalise(torch.autograd.Function):
    """Normalise by the statistics of all ranks; the backward pass sums two moments of the gradient over ranks."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor | None, bias: Tensor | None, eps: float
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        mean_C, var_C, total = batch_statistics(x)
        out = nn.functional.batch_norm(x, mean_C, var_C, weight, bias, False, 0.0, eps)
        ctx.save_for_backward(x, weight, mean_C, var_C, total)
        ctx.eps = eps
        ctx.mark_non_differentiable(mean_C, var_C, total)
        return out, mean_C, var_C, total

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor | None, Tensor | None, None]:
        x, weight, mean_C, var_C, total = ctx.saved_tensors
        dims = [d for d in range(x.dim()) if d != 1]
        shape = [1, -1] + [1] * (x.dim() - 2)
        invstd_C = (var_C + ctx.eps).rsqrt()
        grad = full_precision(grads[0])
        normalised = (full_precision(x) - mean_C.view(shape)) * invstd_C.view(shape)
        sum_C, dot_C = grad.sum(dims), (grad * normalised).sum(dims)
        moments = torch.stack([sum_C, dot_C]) / total
        dist.all_reduce(moments)
        scale_C = invstd_C if weight is None else invstd_C * full_precision(weight)
        grad = (grad - moments[0].view(shape) - normalised * moments[1].view(shape)) * scale_C.view(shape)
        if weight is None:
            return grad.to(x.dtype), None, None, None
        return grad.to(x.dtype), dot_C.to(weight.dtype), sum_C.to(weight.dtype), None


def has_batchnorm(module: nn.Module) -> bool:
    """Return whether a BatchNorm layer is inside a module."""
    return any(isinstance(m, nn.modules.batchnorm._BatchNorm) for m in module.modules())


def branch_batchnorm(module: nn.Module) -> nn.Module:
    """Replace every BatchNorm inside a module by a branched one and return the module."""
    plain = {
        norm: BranchedBatchNorm(norm)
        for norm in module.modules()
        if isinstance(norm, nn.modules.batchnorm._BatchNorm) and not isinstance(norm, BranchedBatchNorm)
    }
    for parent in list(module.modules()):
        for name, child in list(parent._modules.items()):
            if child in plain:
                setattr(parent, name, plain[child])
    return plain.get(module, module)  # type: ignore[call-overload,no-any-return]


def add_adversarial_branch(module: nn.Module) -> None:
    """Give every BatchNorm without an adversarial branch one that starts as a copy of the main branch.

    Momentum encoders are left out: targets are made from clean views.
    """
    momentum = {m for encoder in module.modules() if isinstance(encoder, MomentumEncoder) for m in encoder.modules()}
    norms = [m for m in module.modules() if isinstance(m, BranchedBatchNorm) and m not in momentum]
    branches = {norm.adversarial for norm in norms}
    for norm in norms:
        if norm.adversarial is None and norm not in branches:
            branch = BranchedBatchNorm(norm)
            branch.drop = branch.act = nn.Identity()  # the main branch's are used for both
            norm.adversarial = branch


@contextmanager
def normalising(module: nn.Module, branch: Branch, update: bool) -> Iterator[None]:
    """Let BatchNorm use a branch during the block, and move running statistics only if `update` is set."""
    norms = [m for m in module.modules() if isinstance(m, BranchedBatchNorm)]
    before = [(norm.branch, norm.update) for norm in norms]
    for norm in norms:
        norm.branch, norm.update = branch, update
    try:
        yield
    finally:
        for norm, (branch_before, update_before) in zip(norms, before, strict=True):
            norm.branch, norm.update = branch_before, update_before


@contextmanager
def moving_once(module: nn.Module, passes: int) -> Iterator[None]:
    """Let `passes` passes in the block together move running statistics as far as one pass outside does.

    So the result is the same as if several views were one batch: the published multi-crop code forwards all views of
    one size as one batch.
    """
    norms = [m for m in module.modules() if isinstance(m, BranchedBatchNorm)]
    for norm in norms:
        norm.passes = passes
    try:
        yield
    finally:
        for norm in norms:
            norm.passes = 1


@contextmanager
def view_by_view(module: nn.Module, views: int) -> Iterator[None]:
    """Treat a batch in the block as `views` views with equal numbers of rows, in order; normalise each by itself."""
    norms = [m for m in module.modules() if isinstance(m, BranchedBatchNorm)]
    for norm in norms:
        norm.views = views
    try:
        yield
    finally:
        for norm in norms:
            norm.views = 1


@contextmanager
def grouped(module: nn.Module, groups: Groups | None) -> Iterator[None]:
    """Let BatchNorm in training normalise each group of samples by its own statistics; with None nothing changes.

    Running statistics move at the end of the block, by the mean over the groups of all ranks, in one message for all
    layers. So every rank must enter it in the same way, and one block holds the passes of as many samples as the groups
    have.
    """
    norms = [m for m in module.modules() if isinstance(m, BranchedBatchNorm)] if groups is not None else []
    for norm in norms:
        norm.groups = groups
    try:
        yield
    finally:
        for norm in norms:
            norm.groups = None
    if groups is not None:
        groups.move_statistics()


@contextmanager
def holding(module: nn.Module, held: HeldStatistics) -> Iterator[None]:
    """Let BatchNorm in training normalise by held statistics during the block."""
    norms = [m for m in module.modules() if isinstance(m, BranchedBatchNorm)] if held.kind != "batch" else []
    held.rewind()
    for norm in norms:
        norm.held = held
    try:
        yield
    finally:
        for norm in norms:
            norm.held = None
