"""The masked vision transformer equals timm's if nothing is masked, and otherwise another implementation."""

import pytest
import timm
import torch
from lightly.models.modules import MaskedVisionTransformerTIMM
from timm.models.vision_transformer import VisionTransformer
from torch import nn

from hardviews.errors import UserError
from hardviews.models.backbones import Backbone
from hardviews.models.masked_vit import check_sizes, patch_size, tokens

SMALL = {"embed_dim": 24, "depth": 2, "num_heads": 2, "num_classes": 0}

NETWORKS = {
    "plain": {},
    "of another size": {"img_size": 48, "dynamic_img_size": True},
    "registers": {"reg_tokens": 3, "dynamic_img_size": True},
    "positions beside the class token": {"no_embed_class": True, "dynamic_img_size": True},
    "norm before": {"pre_norm": True, "dynamic_img_size": True},
    "layer scale": {"init_values": 1e-2, "qk_norm": True, "dynamic_img_size": True},
}


def network(name: str) -> VisionTransformer:
    torch.manual_seed(0)
    built = VisionTransformer(**{"img_size": 32, "patch_size": 8} | SMALL | NETWORKS[name])  # type: ignore[arg-type]
    return built.eval()


@pytest.mark.parametrize("checkpointed", [False, True])
@pytest.mark.parametrize("name", NETWORKS)
def test_nothing_masked_is_timm(name: str, checkpointed: bool) -> None:
    vit = network(name)
    vit.set_grad_checkpointing(checkpointed)
    for size in (32,) if name == "plain" else (16, 32, 64):
        images = torch.randn(3, 3, size, size)
        token, mask = torch.randn(1, 24), torch.zeros(3, (size // 8) ** 2, dtype=torch.bool)
        for made in (tokens(vit, images), tokens(vit, images, token, mask), tokens(vit, images, token, mask.float())):
            assert torch.equal(made.features, vit(images))
            assert torch.equal(made.patches, vit.forward_features(images)[:, vit.num_prefix_tokens :])
    assert not vit.patch_embed._forward_hooks
    assert not vit.norm._forward_hooks


@pytest.mark.parametrize(
    "name",
    ["vit_tiny_patch16_224", "vit_small_patch16_224", "deit_tiny_distilled_patch16_224", "vit_small_patch32_224"],
)
def test_networks_by_name(name: str) -> None:
    vit = Backbone(name, drop_path=0.1).build()
    side = patch_size(vit, "A method")
    check_sizes(vit, {"full-size": 224, "small": 96}, "A method")
    images = torch.randn(1, 3, 96, 96)
    mask = torch.zeros(1, (96 // side) ** 2, dtype=torch.bool)
    torch.manual_seed(0)
    made = tokens(vit, images, torch.randn(1, vit.num_features), mask)  # type: ignore[arg-type]
    torch.manual_seed(0)
    torch.randn(1, vit.num_features)  # type: ignore[call-overload]
    assert torch.equal(made.features, vit(images))
    assert made.patches.shape == (1, mask.shape[1], vit.num_features)


@pytest.mark.parametrize("name", ["plain", "positions beside the class token", "layer scale"])
def test_masked_patches_show_the_token(name: str) -> None:
    vit = network(name)
    token = nn.Parameter(torch.randn(1, 1, 24))
    # This one lays out the positions anew, in the same network.
    theirs = MaskedVisionTransformerTIMM(vit, token, weight_initialization="skip", pos_embed_initialization="skip")
    images, mask = torch.randn(4, 3, 32, 32), torch.rand(4, 16) < 0.4
    made = tokens(vit, images, token[0], mask)
    with torch.no_grad():
        # Patches under the mask do not matter, and the rest does.
        covered = mask.view(4, 1, 4, 4).repeat_interleave(8, 2).repeat_interleave(8, 3)
        other = tokens(vit, torch.where(covered, 5.0, images), token[0], mask)
        assert torch.equal(other.features, made.features)
        assert not torch.allclose(tokens(vit, images + 1, token[0], mask).features, made.features)
    whole = torch.cat([torch.zeros(4, 1, dtype=torch.bool), mask], 1)
    encoded = theirs.encode(images, mask=whole)
    torch.testing.assert_close(made.patches, encoded[:, 1:], rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(made.features, encoded[:, 0], rtol=1e-5, atol=1e-6)
    made.features.sum().backward()
    assert token.grad is not None
    assert token.grad.abs().sum() > 0


@pytest.mark.parametrize(
    "refused",
    [
        lambda: timm.create_model("resnet18", num_classes=0),
        lambda: timm.create_model("eva02_tiny_patch14_224", num_classes=0),
        lambda: VisionTransformer(img_size=32, patch_size=8, global_pool="avg", **SMALL),  # type: ignore[arg-type]
        lambda: VisionTransformer(img_size=32, patch_size=8, patch_drop_rate=0.1, **SMALL),  # type: ignore[arg-type]
        lambda: VisionTransformer(img_size=32, patch_size=(8, 4), **SMALL),  # type: ignore[arg-type]
    ],
    ids=["resnet", "eva", "pooled", "dropped", "oblong"],
)
def test_other_networks_are_refused(refused) -> None:
    with pytest.raises(UserError, match="class token"):
        patch_size(refused(), "A method")


def test_sizes_off_the_grid_are_refused() -> None:
    with pytest.raises(UserError, match="multiple of 8"):
        check_sizes(network("registers"), {"even": 36}, "A method")
    with pytest.raises(UserError, match="dynamic_img_size"):
        check_sizes(network("plain"), {"local": 16}, "A method")
