"""A run that begins with the weights of a trained encoder, in place of random ones."""

import torch

from hardviews.errors import UserError
from hardviews.evaluation.subject import Subject
from hardviews.models.batchnorm import BranchedBatchNorm
from hardviews.models.encoder import Encoder
from hardviews.models.momentum import MomentumEncoder
from hardviews.objective.objective import Objective

_BRANCH = "adversarial"


def open_encoder(place: str, project: str) -> Encoder:
    """Read the encoder that a run is to begin with, named as in evaluations: by a run, a file, or `timm:NAME`.

    Raises:
        UserError: it is missing, damaged, or not an encoder.
    """
    return Subject(encoder=place).open(project)


@torch.no_grad()
def begin_from(objective: Objective, encoder: Encoder, place: str) -> None:
    """Give the backbone the weights of an encoder, and its copies too: momentum encoders and adversarial BatchNorm.

    Raises:
        UserError: the encoder is another network than the recipe's.
    """
    state = encoder.network.state_dict()
    networks = [objective.method.backbone]
    for module in objective.modules():
        if isinstance(module, MomentumEncoder) and "backbone" in dict(module.named_children()):
            networks.append(module.get_submodule("backbone"))
    for network in networks:
        own = {name: value for name, value in network.state_dict().items() if _BRANCH not in name.split(".")}
        wrong = [name for name in own if name not in state or state[name].shape != own[name].shape]
        wrong += [name for name in state if name not in own]
        if wrong:
            raise UserError(
                f"--init {place} is a {encoder.backbone.name}, whose weights do not fit the recipe's network: "
                f"{len(wrong)} differ, the first is {wrong[0]}. Choose the same network: --backbone.name "
                f"{encoder.backbone.name}, and for a transformer the same --backbone.image-size and "
                "--backbone.patch-size."
            )
        network.load_state_dict(state, strict=False)
        for norm in network.modules():
            if isinstance(norm, BranchedBatchNorm) and norm.adversarial is not None:
                own_state = {k: v for k, v in norm.state_dict().items() if not k.startswith(_BRANCH)}
                norm.adversarial.load_state_dict(own_state)
