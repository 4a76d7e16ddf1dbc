"""Frozen stages: which weights they hold, which modules stay still, and which networks have none."""

import pytest
import timm
import torch
from torch import nn

from hardviews.errors import UserError
from hardviews.models.batchnorm import BranchedBatchNorm, add_adversarial_branch, branch_batchnorm
from hardviews.models.frozen_stages import freeze_stages

LAST = {"test_resnet": 4, "test_vit": 6}
STEMS = {"test_resnet": ("conv1", "bn1"), "test_vit": ("cls_token", "pos_embed", "patch_embed")}


def stage_of(network: str, weight: str) -> int:
    """Return the stage of a weight by its name, 0 for the stem."""
    if weight.startswith(STEMS[network]):
        return 0
    if network == "test_vit":
        return int(weight.split(".")[1]) + 1 if weight.startswith("blocks.") else LAST[network]  # the last norm
    return int(weight.removeprefix("layer").split(".")[0])


@pytest.mark.parametrize("count", [0, 1, 3, "all"])
@pytest.mark.parametrize("name", LAST)
def test_the_weights_of_the_stem_and_of_so_many_stages_take_no_gradient(name: str, count: int | str) -> None:
    network = timm.create_model(name, num_classes=0)
    number = LAST[name] if count == "all" else int(count)
    still = freeze_stages(network, number)
    for weight, parameter in network.named_parameters():
        assert parameter.requires_grad == (stage_of(name, weight) > number), weight
    # A module stays still if and only if it has weights and all of them are frozen.
    inside = {id(parameter) for module in still for parameter in module.parameters()}
    assert inside >= {id(p) for w, p in network.named_parameters() if not p.requires_grad and "." in w}
    assert not inside & {id(parameter) for parameter in network.parameters() if parameter.requires_grad}
    assert (network in still) == (count == "all")


def test_the_branch_of_attacked_views_is_frozen_too() -> None:
    network = branch_batchnorm(timm.create_model("test_resnet", num_classes=0))
    add_adversarial_branch(network)
    still = freeze_stages(network, 1)
    frozen = [m for m in still if isinstance(m, BranchedBatchNorm)]
    assert any("layer1" in name and module in frozen for name, module in network.named_modules())
    for name, parameter in network.named_parameters():
        assert parameter.requires_grad == (stage_of("test_resnet", name.replace("adversarial.", "")) > 1), name


def test_more_stages_than_there_are_and_networks_without_any_are_refused() -> None:
    with pytest.raises(UserError, match=r"frozen_stages is 5, but ResNet has 4 stages after its stem: give 0 to 4"):
        freeze_stages(timm.create_model("test_resnet", num_classes=0), 5)
    with pytest.raises(UserError, match="timm does not number them for Linear"):
        freeze_stages(nn.Linear(2, 2), 1)


def test_still_modules_of_a_transformer_drop_no_path() -> None:
    network = timm.create_model("test_vit", num_classes=0, drop_path_rate=0.5)
    still = freeze_stages(network, LAST["test_vit"])
    network.train()
    for module in still:
        module.eval()
    pixels = torch.rand(2, 3, 160, 160)
    assert torch.equal(network(pixels), network(pixels))
