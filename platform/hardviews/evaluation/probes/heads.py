"""A linear head in training by a published protocol: one step on a batch of features.

Every product has the same shape and layout in memory as for a single head. So a head of a sweep is equal, bit for bit,
to the same head trained alone.

Shape suffixes: B a batch, D features of the head's reading, L classes.
"""

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from torch import Tensor

from hardviews.evaluation.linear_protocol import LinearProtocol, Reading
from hardviews.evaluation.probes.sweep import Classifier, Standard

_TRUST = 1e-3  # of LARC and LARS: length of a step as a share of the weight's, at a rate of 1
_MOVES = 0.1  # weight of a batch in the running statistics, as torch's BatchNorm has it
_SMALL = 1e-6  # added to the variance, MAE's
_TRUNCATED = 2.0  # deviations at which Haiku cuts


@dataclass(frozen=True)
class HeadSettings:
    """The settings of one head: its features, its learning rate at the top of the schedule, its weight decay."""

    reading: Reading
    rate: float
    weight_decay: float = 0.0


@dataclass(eq=False)
class TrainedHead:
    """A head in training: weights, momenta, and the statistics of its BatchNorm."""

    settings: HeadSettings
    protocol: LinearProtocol
    weight_DL: Tensor
    bias_L: Tensor
    moved_DL: Tensor = field(init=False)
    moved_L: Tensor = field(init=False)
    mean_D: Tensor = field(init=False)
    variance_D: Tensor = field(init=False)

    def __post_init__(self) -> None:
        self.moved_DL, self.moved_L = torch.zeros_like(self.weight_DL), torch.zeros_like(self.bias_L)
        width = len(self.weight_DL)
        self.mean_D, self.variance_D = self.weight_DL.new_zeros(width), self.weight_DL.new_ones(width)

    @staticmethod
    def begin(
        settings: HeadSettings, protocol: LinearProtocol, width: int, classes: int, seed: int, device: torch.device
    ) -> "TrainedHead":
        """Return a head before its first step; heads of one reading begin alike."""
        generator = torch.Generator().manual_seed(seed)
        if protocol.first == "normal":
            weight_DL = torch.randn(width, classes, generator=generator) * 0.01
        else:
            weight_DL = torch.empty(width, classes)
            deviation = 1 / math.sqrt(width)
            ends = _TRUNCATED * deviation
            torch.nn.init.trunc_normal_(weight_DL, 0.0, deviation, -ends, ends, generator=generator)
        return TrainedHead(settings, protocol, weight_DL.to(device), torch.zeros(classes, device=device))

    def step(self, values_BD: Tensor, labels_B1: Tensor, factor: float) -> None:
        """Take a step on the mean cross-entropy; factor: height of the schedule, as a share of the peak."""
        if self.protocol.batchnorm:
            values_BD = self._normalised(values_BD)
        scores_BL = torch.addmm(self.bias_L, values_BD, self.weight_DL)
        slope_BL = scores_BL.softmax(1)
        slope_BL.scatter_add_(1, labels_B1, torch.full_like(labels_B1, -1, dtype=slope_BL.dtype))
        slope_BL /= len(values_BD)
        rate, decay = self.settings.rate * factor, self.settings.weight_decay
        decay_of_bias = decay if self.protocol.decays_bias else 0.0
        self._move(self.weight_DL, self.moved_DL, values_BD.T @ slope_BL, rate, decay, adapts=True)
        self._move(
            self.bias_L, self.moved_L, slope_BL.sum(0), rate, decay_of_bias, adapts=self.protocol.optimizer == "larc"
        )

    def classifier(self) -> Classifier:
        """Return the classifier as it is now, on the host; it has a copy of the weights."""
        standard = Standard(torch.zeros(len(self.weight_DL)), torch.ones(len(self.weight_DL)))
        if self.protocol.batchnorm:
            standard = Standard(self.mean_D.cpu().clone(), (self.variance_D + _SMALL).rsqrt().cpu())
        return Classifier(self.weight_DL.to("cpu", copy=True), self.bias_L.to("cpu", copy=True), standard)

    def state(self) -> dict[str, Tensor]:
        """Return the tensors that a later process needs to go on, by name; they are the head's own."""
        return {name: getattr(self, name) for name in _TENSORS}

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Go on from a state."""
        for name in _TENSORS:
            getattr(self, name).copy_(state[name])

    def _move(self, value: Tensor, moved: Tensor, gradient: Tensor, rate: float, decay: float, adapts: bool) -> None:
        """Move a weight by SGD with momentum, as torch has it, after LARC or LARS has scaled its gradient."""
        name = self.protocol.optimizer
        if name in ("larc", "lars") and adapts:
            length, force = torch.linalg.vector_norm(value), torch.linalg.vector_norm(gradient)
            if name == "larc":  # apex: the decay is a part of the length, and a norm of zero adapts nothing
                trust = _TRUST * length / (force + length * decay + 1e-8)
                gradient.add_(value, alpha=decay)
            else:
                gradient.add_(value, alpha=decay)
                force = torch.linalg.vector_norm(gradient)
                trust = _TRUST * length / force
            # Without a question to the device, which would be waited for.
            gradient.mul_(torch.where((length > 0) & (force > 0), trust, torch.ones_like(trust)))
        elif decay:
            gradient.add_(value, alpha=decay)
        moved.mul_(self.protocol.momentum).add_(gradient)
        if name == "nesterov":
            gradient.add_(moved, alpha=self.protocol.momentum)
            value.sub_(gradient, alpha=rate)
        else:
            value.sub_(moved, alpha=rate)

    def _normalised(self, values_BD: Tensor) -> Tensor:
        """Normalise a batch by its own statistics, and move the running ones."""
        variance_D, mean_D = torch.var_mean(values_BD, 0, correction=0)
        count = len(values_BD)
        self.mean_D.lerp_(mean_D, _MOVES)
        self.variance_D.lerp_(variance_D * (count / max(1, count - 1)), _MOVES)
        return (values_BD - mean_D) * (variance_D + _SMALL).rsqrt()


_TENSORS = ("weight_DL", "bias_L", "moved_DL", "moved_L", "mean_D", "variance_D")


def height(protocol: LinearProtocol, step: int, steps: int, epoch_steps: float) -> float:
    """Return the height of the schedule at a step, as a share of the peak."""
    done = step / steps
    if protocol.per == "epoch":
        done = step // epoch_steps / math.ceil(steps / epoch_steps)
    if done < protocol.warmup:
        return done / protocol.warmup
    if protocol.schedule == "milestones":
        return float(0.1 ** sum(done >= milestone for milestone in protocol.milestones))
    return 0.5 * (1 + math.cos(math.pi * (done - protocol.warmup) / (1 - protocol.warmup)))


@contextmanager
def one_thread(device: torch.device) -> Iterator[None]:
    """Have products on a CPU take one thread, so that their bits do not depend on the number of threads."""
    threads = torch.get_num_threads()
    if device.type != "cpu" or threads == 1:
        yield
        return
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
