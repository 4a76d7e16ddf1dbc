"""The frozen first stages of a pretrained network, while the other stages are trained.

timm's coarse `group_matcher` defines the stages: a ResNet's conv2 to conv5, a vision transformer's blocks. The last
norm of a transformer belongs to its last block. OpenMMLab's setting `frozen_stages` counts in the same way.
Detectron2's `FREEZE_AT` counts the stem as the first stage.
"""

from timm.models import group_parameters
from torch import nn

from hardviews.errors import UserError
from hardviews.models.momentum import MomentumEncoder

_BRANCH = "adversarial."  # prefix of the second branch of a BatchNorm


def freeze_stages(network: nn.Module, count: int) -> list[nn.Module]:
    """Freeze the stem and the first `count` stages; return the modules whose weights are all frozen.

    The caller keeps these modules in evaluation mode. BatchNorm then normalises by constant running statistics, and
    stochastic depth is off.

    Raises:
        UserError: timm does not number the stages of the network, or the network has fewer.
    """
    matcher = getattr(network, "group_matcher", None)
    if matcher is None:
        raise UserError(
            f"training.frozen_stages needs a network whose stages timm numbers, but timm does not number them for "
            f"{type(network).__name__}: leave it at -1."
        )
    named = dict(network.named_parameters())
    plain = {name.replace(_BRANCH, "") for name in named}
    stages: dict[str, int] = group_parameters(network, matcher(coarse=True), reverse=True)
    last = max(stage for name, stage in stages.items() if name in plain)
    if count > last:
        raise UserError(
            f"training.frozen_stages is {count}, but {type(network).__name__} has {last} stages after its stem: give "
            f"0 to {last}, or -1 to freeze nothing."
        )
    for name, parameter in named.items():
        if stages[name.replace(_BRANCH, "")] <= count:
            parameter.requires_grad_(False)
    return [module for module in network.modules() if _is_frozen(module)]


def refuse_copies(method: nn.Module) -> None:
    """Refuse to freeze stages of a network with a momentum encoder, whose statistics would still change.

    Raises:
        UserError: the method has a momentum encoder.
    """
    if any(isinstance(module, MomentumEncoder) for module in method.modules()):
        raise UserError(
            f"training.frozen_stages freezes stages of the network, but {type(method).__name__} has a momentum encoder "
            "that follows it with statistics of its own. Leave it at -1, or choose a recipe without a momentum encoder."
        )


def _is_frozen(module: nn.Module) -> bool:
    weights = list(module.parameters())
    return bool(weights) and not any(weight.requires_grad for weight in weights)
