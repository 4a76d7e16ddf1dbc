"""Learning rates by the place of a weight: weights of a pretrained network are changed less than new ones.

Layer decay: Clark et al., "ELECTRA" (ICLR 2020), appendix A; for vision transformers Bao et al., "BEiT" (ICLR 2022).
"""

from timm.models import group_parameters
from torch import nn

from hardviews.errors import UserError
from hardviews.methods.method import Method

_BRANCH = "adversarial."  # prefix of a BatchNorm's branch


def rate_scales(method: Method, head: float, decay: float, bias: float = 1.0) -> dict[int, float]:
    """Return by the id of each weight the factor of the learning rate.

    `head`: the scale of all weights outside of the backbone. `decay`: what each layer of the backbone has of the scale
    of the layer after it. Layers are defined by timm; the last one has `decay`, as if a head of scale 1 came after it.
    `bias`: biases and norms (tensors of one dimension) have this multiple of the scale of weights at their place.

    Raises:
        UserError: layers decay, and the network is none whose layers timm knows.
    """
    scales = dict.fromkeys(map(id, method.parameters()), head)
    depths = _depths(method.backbone) if decay != 1 else {}
    last = max(depths.values(), default=0)
    for name, parameter in method.backbone.named_parameters():
        scales[id(parameter)] = decay ** (last + 1 - depths.get(name.replace(_BRANCH, ""), last))
    if bias != 1:
        for parameter in method.parameters():
            if parameter.ndim <= 1:
                scales[id(parameter)] *= bias
    return scales


def _depths(network: nn.Module) -> dict[str, int]:
    """Return the number of the layer that each weight of a network lies in, 0 for the first one."""
    matcher = getattr(network, "group_matcher", None)
    if matcher is None:
        raise UserError(
            f"optimizer.layer_decay needs a network whose layers timm numbers, and {type(network).__name__} is none: "
            "leave it at 1."
        )
    found: dict[str, int] = group_parameters(network, matcher(coarse=False), reverse=True)
    return found
