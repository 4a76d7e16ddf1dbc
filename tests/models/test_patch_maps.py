"""Maps of parts: they are those of timm's own layers, and reading them changes no number."""

import pytest
import timm
import torch
import torch.nn.functional as F

from hardviews.models.patch_maps import class_attention, patch_maps


def network(name: str, **options: object) -> torch.nn.Module:
    torch.manual_seed(0)
    return timm.create_model(name, pretrained=False, num_classes=0, **options).eval()


def vit(**options: object) -> torch.nn.Module:
    return network("vit_tiny_patch16_224", img_size=32, patch_size=8, depth=2, dynamic_img_size=True, **options)


@pytest.mark.parametrize("size", [32, 48])
def test_attention_is_that_of_the_unfused_layer_in_every_head(size: int) -> None:
    net, images = vit(), torch.randn(3, 3, size, size)
    heads = net.blocks[-1].attn
    heads.fused_attn = False
    seen: list[torch.Tensor] = []
    heads.attn_drop.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    maps = patch_maps(net, images)
    side = size // 8
    assert maps.attention is not None and maps.attention.shape == (3, 3, side, side)
    torch.testing.assert_close(maps.attention.flatten(2), seen[0][:, :, 0, 1:])
    assert (seen[0][:, :, 0].sum(-1) - 1).abs().max() < 1e-5


def test_attention_by_hand_in_double_precision() -> None:
    heads = timm.layers.Attention(12, num_heads=2, qkv_bias=True, qk_norm=True, norm_layer=torch.nn.LayerNorm).double()
    tokens = torch.randn(2, 5, 12, dtype=torch.double)
    query, key, _ = F.linear(tokens, heads.qkv.weight, heads.qkv.bias).split(12, 2)
    for head in range(2):
        part = slice(6 * head, 6 * head + 6)
        scores = torch.einsum("bd,btd->bt", heads.q_norm(query[:, 0, part]), heads.k_norm(key[:, :, part])) / 6**0.5
        torch.testing.assert_close(
            class_attention(heads, tokens)[:, head].double(), scores.softmax(1), atol=1e-6, rtol=0
        )


@pytest.mark.parametrize("make", [vit, lambda: network("resnet10t")], ids=["vit", "resnet"])
def test_looking_changes_no_number_and_leaves_no_hook(make) -> None:
    net, images = make(), torch.randn(2, 3, 32, 32)
    if hasattr(net, "maxpool"):
        net.maxpool = torch.nn.Identity()
    before, random = net(images), torch.get_rng_state()
    state = {name: value.clone() for name, value in net.state_dict().items()}
    first, second = patch_maps(net, images), patch_maps(net, images)
    assert torch.equal(first.features, second.features) and torch.equal(net(images), before)
    assert all(torch.equal(value, state[name]) for name, value in net.state_dict().items())
    assert torch.equal(torch.get_rng_state(), random)
    assert not any(module._forward_pre_hooks or module._forward_hooks for module in net.modules())


def test_parts_are_where_they_are_in_the_image() -> None:
    """Of images that differ in one corner, mainly the features of that corner differ."""
    resnet, images = network("resnet10t"), torch.zeros(2, 3, 96, 96)
    images[1, :, :24, :24] = 3.0
    features = patch_maps(resnet, images).features
    assert features is not None and features.shape == (2, 3, 3, 512)
    changed = (features[0] - features[1]).norm(dim=-1)
    assert changed.flatten().argmax() == 0
    net = vit()
    tokens = patch_maps(net, images[:, :, :32, :32]).features
    torch.testing.assert_close(tokens.flatten(1, 2), net.forward_features(images[:, :, :32, :32])[:, 1:])


@pytest.mark.parametrize(
    "made",
    [
        torch.nn.Flatten(),
        network("resnet10t"),  # one part alone remains of 16 pixels
    ],
    ids=["no network of timm", "one part"],
)
def test_a_network_without_a_map_has_none(made: torch.nn.Module) -> None:
    assert patch_maps(made, torch.zeros(1, 3, 16, 16)) == (None, None)


def test_without_a_class_token_there_is_no_attention() -> None:
    maps = patch_maps(vit(class_token=False, global_pool="avg"), torch.zeros(1, 3, 32, 32))
    assert maps.attention is None and maps.features.shape == (1, 4, 4, 192)
