"""Which optimizer trains the weights, built by timm's factory."""

import difflib
from dataclasses import dataclass

import torch
from timm.optim import create_optimizer_v2, list_optimizers
from torch import nn

from hardviews.errors import UserError
from hardviews.methods.method import Method

_UNSUITABLE = {"adahessian": "needs second derivatives"} | dict.fromkeys(
    ("kron", "kronc", "kronw"), "keeps random numbers of its own that a resume could not repeat"
)


@dataclass(frozen=True)
class Optimizer:
    """An optimizer by timm's name, with a learning rate for a reference batch.

    Attributes:
        name: timm's, e.g. momentum (SGD with momentum), sgd (with Nesterov's), adamw, lars, lamb.
        learning_rate: at a global batch of `reference_batch`, scaled in proportion to the global batch
            (Goyal et al. 2017, section 2.1).
        reference_batch: see `learning_rate`; 0 for no scaling.
        weight_decay: L2, or decoupled where the optimizer does so.
        momentum: of SGD and its kin; Adam's kin take no notice of it.
        decay_biases: apply weight decay to biases and norms too.
    """

    name: str = "sgd"
    learning_rate: float = 0.05
    reference_batch: int = 256
    weight_decay: float = 1e-4
    momentum: float = 0.9
    decay_biases: bool = True

    def __post_init__(self) -> None:
        """Refuse names that timm does not know."""
        names = [str(name) for name in list_optimizers()]
        if self.name in _UNSUITABLE:
            raise UserError(f"The optimizer {self.name!r} cannot be used here: it {_UNSUITABLE[self.name]}.")
        if self.name not in names:
            close = difflib.get_close_matches(self.name, names, n=5)
            hint = f"Close: {', '.join(close)}." if close else "For example: momentum, sgd, adamw, lars, lamb."
            raise UserError(
                f"There is no optimizer {self.name!r}. {hint} All: "
                "python -c 'import timm.optim; print(timm.optim.list_optimizers())'."
            )
        if not self.learning_rate > 0 or self.weight_decay < 0 or self.reference_batch < 0:
            raise UserError(
                f"Optimizer has learning_rate={self.learning_rate}, weight_decay={self.weight_decay} and "
                f"reference_batch={self.reference_batch}; the first must be positive, the others 0 or more."
            )

    def peak(self, global_batch: int) -> float:
        """Return the learning rate at the top of the schedule."""
        return self.learning_rate * (global_batch / self.reference_batch if self.reference_batch else 1.0)

    def build(self, method: Method, global_batch: int) -> torch.optim.Optimizer:
        """Build the optimizer over a method's trainable weights.

        Parameters that the method exempts from the schedule form groups of their own, marked `fixed`.
        """
        exempt = {id(p) for module in method.fixed_learning_rate() for p in module.parameters()}
        weights = [(name, p) for name, p in method.named_parameters() if p.requires_grad]
        groups = []
        for fixed in (False, True):
            for decays in (True, False):
                chosen = [
                    p
                    for name, p in weights
                    if (id(p) in exempt) == fixed and (self.decay_biases or p.ndim > 1) == decays
                ]
                decay = self.weight_decay if decays else 0.0
                if chosen:
                    groups.append({"params": chosen, "weight_decay": decay, "fixed": fixed})
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
                f"timm cannot make the optimizer {self.name!r} on this machine ({error}). Install what it needs, or "
                "choose another --optimizer.name."
            ) from error
        return built


def parameter_names(module: nn.Module, optimizer: torch.optim.Optimizer) -> list[str]:
    """Return the name of each parameter in the order of the optimizer's state dict."""
    names = {id(parameter): name for name, parameter in module.named_parameters()}
    return [names[id(parameter)] for group in optimizer.param_groups for parameter in group["params"]]
