"""Which optimizer trains the weights, and how gradients are cut: timm's, and LARS as SimCLR and BYOL have it."""

import difflib
import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from itertools import product
from typing import Literal

import torch
from timm.optim import create_optimizer_v2, list_optimizers
from torch import nn

from hardviews.checked import above, added, at_least, require
from hardviews.errors import UserError
from hardviews.extras import left_to_the_job
from hardviews.methods.method import Method
from hardviews.optim.clip import Per, clip_gradients
from hardviews.optim.lars import Lars
from hardviews.optim.rates import rate_scales

#: Optimizers that timm lacks.
OWN: dict[str, Callable[..., torch.optim.Optimizer]] = {
    "lars_byol": Lars,
    "lars_simclr": partial(Lars, sums_steps=True),
}

_UNSUITABLE = {"adahessian": "needs second derivatives"} | dict.fromkeys(
    ("kron", "kronc", "kronw"), "keeps random numbers of its own that a resume could not repeat"
)


@dataclass(frozen=True)
class Optimizer:
    """An optimizer by name, with a learning rate for a reference batch.

    Attributes:
        name: timm's name of the optimizer, e.g. momentum (SGD with momentum), sgd (with Nesterov's), adamw, lamb, lars,
            larc; or lars_simclr and lars_byol. lamb itself cuts gradients longer than 1. lars is LARC without clipping,
            as in SwAV; larc clips.
        learning_rate: learning rate at a global batch of `reference_batch`, scaled with the global batch.
        reference_batch: batch of `learning_rate`; 0 for no scaling.
        scaling: scaling in proportion to the batch (linear: Goyal et al. 2017, section 2.1) or to its root (sqrt).
        weight_decay: weight decay; L2, or decoupled if the optimizer does so.
        momentum: momentum of SGD and similar optimizers; Adam and similar ones ignore it.
        decay_biases: whether biases and norms (tensors of one dimension) are treated like all weights; otherwise they
            are not decayed, and optimizers like LARS do not adapt their learning rate.
        clip: longest gradient, measured before the step and without frozen weights; 0 for any length.
        clip_per: scope of the clipped length: all gradients together (all), or each weight's gradient (weight).
        head_rate: learning rate of all weights outside of the backbone, as a multiple of the backbone's.
        layer_decay: learning rate of each layer of the backbone, as a share of the rate of the layer after it; the head
            after the last layer has 1.
        bias_rate: learning rate of biases and norms, as a multiple of the rate of weights at the same place (Barlow
            Twins).
    """

    name: str = "sgd"
    learning_rate: float = 0.05
    reference_batch: int = 256
    scaling: Literal["linear", "sqrt"] = "linear"
    weight_decay: float = 1e-4
    momentum: float = 0.9
    decay_biases: bool = True
    clip: float = 0.0
    clip_per: Per = "all"
    head_rate: float = added(1.0)
    layer_decay: float = added(1.0)
    bias_rate: float = added(1.0)

    def __post_init__(self) -> None:
        """Refuse names that nobody knows, and numbers that train nothing."""
        if self.name in _UNSUITABLE:
            raise UserError(f"The optimizer {self.name!r} cannot be used here: it {_UNSUITABLE[self.name]}.")
        with left_to_the_job():
            self._check_name()
        require(
            self,
            "optimizer",
            learning_rate=above(0),
            reference_batch=at_least(0),
            weight_decay=at_least(0),
            momentum=at_least(0, below=1),
            clip=at_least(0),
            head_rate=above(0),
            layer_decay=above(0, at_most=1),
            bias_rate=above(0),
        )

    def _check_name(self) -> None:
        names = [*map(str, list_optimizers()), *OWN]
        if self.name not in names:
            close = difflib.get_close_matches(self.name, names, n=5)
            hint = f"Close: {', '.join(close)}." if close else "For example: momentum, sgd, adamw, lars, lamb."
            raise UserError(
                f"There is no optimizer {self.name!r}. {hint} All: "
                "python -c 'import timm.optim; print(timm.optim.list_optimizers())'."
            )

    def peak(self, global_batch: int) -> float:
        """Return the learning rate at the top of the schedule."""
        ratio = global_batch / self.reference_batch if self.reference_batch else 1.0
        return self.learning_rate * (math.sqrt(ratio) if self.scaling == "sqrt" else ratio)

    def build(self, method: Method, global_batch: int) -> torch.optim.Optimizer:
        """Build the optimizer over a method's trainable weights.

        Parameters that the method exempts from the schedule form groups of their own, marked `fixed`. `decay` is the
        initial weight decay of a group. `adapts` (timm: `always_adapt`) is whether optimizers like LARS adapt its
        learning rate. `scale` is its factor of the schedule's learning rate.
        """
        scales = rate_scales(method, self.head_rate, self.layer_decay, self.bias_rate)
        exempt = {id(p) for module in method.fixed_learning_rate() for p in module.parameters()}
        weights = [(name, p) for name, p in method.named_parameters() if p.requires_grad]
        groups = []
        distinct = sorted(set(scales.values()), reverse=True)
        for fixed, decays, scale in product((False, True), (True, False), distinct):
            chosen = [
                p
                for name, p in weights
                if (id(p) in exempt) == fixed and (self.decay_biases or p.ndim > 1) == decays and scales[id(p)] == scale
            ]
            decay = self.weight_decay if decays else 0.0
            if chosen:
                # timm's LARS, LARC and LAMB would not adapt a weight without weight decay.
                kind = {"fixed": fixed, "decay": decay, "adapts": decays, "always_adapt": decays, "scale": scale}
                groups.append({"params": chosen, "weight_decay": decay, **kind})
        if self.name in OWN:
            return OWN[self.name](groups, self.peak(global_batch), self.momentum)
        try:
            built: torch.optim.Optimizer = create_optimizer_v2(
                groups,
                opt=self.name,
                lr=self.peak(global_batch),
                weight_decay=self.weight_decay,
                momentum=self.momentum,
            )
        except (AssertionError, ImportError) as error:
            raise UserError(
                f"timm cannot make the optimizer {self.name!r} on this machine ({error}). Install its package, or "
                "choose another --optimizer.name."
            ) from error
        return built

    def limit(self, method: Method) -> None:
        """Shorten the gradients of a method's weights, if this is configured."""
        if self.clip:
            clip_gradients(method.parameters(), self.clip, self.clip_per)


def parameter_names(module: nn.Module, optimizer: torch.optim.Optimizer) -> list[str]:
    """Return the name of each parameter in the order of the optimizer's state dict."""
    names = {id(parameter): name for name, parameter in module.named_parameters()}
    return [names[id(parameter)] for group in optimizer.param_groups for parameter in group["params"]]
