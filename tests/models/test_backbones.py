import pytest
import timm
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hardviews.errors import UserError
from hardviews.models.backbones import Backbone

BACKBONES = [
    Backbone("resnet10t", small_stem=True),
    Backbone("resnet18", small_stem=True),
    Backbone("resnet18"),
    Backbone("test_vit", small_stem=True, image_size=32),
    Backbone("test_vit", patch_size=8, image_size=64),
    Backbone("deit_tiny_patch16_224", image_size=32),
    Backbone("mobilenetv3_small_050"),
    Backbone("convnext_atto", drop_path=0.1),
]


@pytest.mark.parametrize("backbone", BACKBONES, ids=lambda b: f"{b.name}-{b.small_stem}-{b.image_size}")
def test_maps_images_to_features_of_the_announced_width(backbone):
    features_BD = backbone.build().eval()(torch.randn(2, 3, 64, 64))
    assert features_BD.shape == (2, backbone.num_features)


def test_asking_for_the_width_draws_no_random_number():
    before = torch.get_rng_state()
    Backbone("resnet26", small_stem=True).num_features  # noqa: B018
    assert torch.equal(before, torch.get_rng_state())


def test_small_stem_keeps_the_resolution_of_a_resnet():
    small, plain = (Backbone("resnet18", small_stem=stem).build().eval() for stem in (True, False))
    images = torch.randn(1, 3, 32, 32)
    assert small.forward_features(images).shape[-2:] == (4, 4)
    assert plain.forward_features(images).shape[-2:] == (1, 1)


def test_small_stem_gives_a_transformer_64_tokens_for_32_pixels():
    network = Backbone("test_vit", small_stem=True, image_size=32).build()
    assert network.patch_embed.num_patches == 64


@pytest.mark.parametrize("backbone", BACKBONES[:5], ids=lambda b: f"{b.name}-{b.small_stem}-{b.image_size}")
def test_parameter_names_are_timms(backbone):
    plain = timm.create_model(backbone.name, num_classes=0).state_dict()
    assert list(backbone.build().state_dict()) == list(plain)


def test_transformer_takes_other_sizes_than_its_own():
    network = Backbone("test_vit", image_size=32, patch_size=8).build().eval()
    assert network(torch.randn(1, 3, 48, 48)).shape == network(torch.randn(1, 3, 32, 32)).shape


def test_drop_path_reaches_the_network():
    network = Backbone("resnet26", drop_path=0.5).build()
    assert any(getattr(m, "drop_prob", 0) == pytest.approx(0.5) for m in network.modules())


@settings(max_examples=25, deadline=None)
@given(st.sampled_from(["resnet50", "vit_small_patch16_224", "convnext_tiny"]), st.integers(0, 5))
def test_a_misspelt_name_is_answered_with_the_right_one(name, at):
    with pytest.raises(UserError, match=name):
        Backbone(name[:at] + "_" + name[at:] if name[at] != "_" else name[:at] + name[at + 1 :])


@pytest.mark.parametrize(
    ("options", "word"),
    [
        ({"name": "resnet18", "image_size": 32}, "image_size"),
        ({"name": "resnet18", "patch_size": 4}, "patch_size"),
        (
            {"name": "swin_tiny_patch4_window7_224", "image_size": 64},
            r"no vision transformer that takes it \(ViT, DeiT or EVA\): remove image_size\.$",
        ),
        ({"name": "resnet18", "drop_path": 1.0}, "drop_path"),
        ({"name": "resnet18", "init": "xavier"}, "init=xavier"),
        ({"name": "test_vit", "patch_size": 0}, "patch_size is 0; it must be 1 or more .pixels."),
        ({"name": "test_vit", "patch_size": 0, "small_stem": True}, "patch_size is 0; it must be 1 or more .pixels."),
        ({"name": "test_vit", "patch_size": -8}, "patch_size is -8; it must be 1 or more .pixels."),
        ({"name": "test_vit", "image_size": 0}, "image_size is 0; it must be 1 or more .pixels."),
        ({"name": "test_vit", "image_size": -64}, "image_size is -64; it must be 1 or more .pixels."),
        (
            {"name": "test_vit", "image_size": 4},
            "image_size is 4, smaller than a patch of 16 pixels: choose 16 or more",
        ),
        ({"name": "test_vit", "image_size": 3, "small_stem": True}, "smaller than a patch of 4 pixels"),
        ({"name": "eva02_tiny_patch14_224", "image_size": 13}, "smaller than a patch of 14 pixels"),
        ({"name": "test_vit", "image_size": 16, "patch_size": 32}, "smaller than a patch of 32 pixels"),
    ],
)
def test_impossible_options_are_named(options, word):
    with pytest.raises(UserError, match=word):
        Backbone(**options)


def test_small_stem_of_another_family_is_refused():
    with pytest.raises(UserError, match="small_stem"):
        Backbone("convnext_atto", small_stem=True).build()


def test_option_that_the_network_does_not_know_is_refused():
    with pytest.raises(UserError, match="drop_path"):
        Backbone("vgg11", drop_path=0.1).build()


def test_residual_branches_begin_at_zero_unless_told_otherwise():
    for zero in (True, False):
        network = Backbone("resnet10t", zero_residual=zero).build()
        assert bool(network.layer1[0].bn2.weight.any()) != zero
    with pytest.raises(UserError, match="zero_init_last"):
        Backbone("test_vit", zero_residual=False).build()


def test_a_transformers_linear_layers_begin_as_asked():
    for init, deviation in (("normal", 0.02), ("xavier", (2 / (64 + 192)) ** 0.5)):
        weight = Backbone("test_vit", init=init).build().blocks[0].mlp.fc1.weight
        assert abs(weight.std() / deviation - 1) < 0.05


@pytest.mark.parametrize("name", ["ghostnet_050", "legacy_seresnet18"])
def test_features_are_not_dropped_before_a_classifier_that_is_not_there(name):
    torch.manual_seed(0)
    network = Backbone(name).build().train()
    images = torch.randn(2, 3, 64, 64)
    assert timm.create_model(name, num_classes=0).drop_rate > 0, "nothing to switch off"
    with torch.no_grad():
        assert torch.equal(network(images), network(images))
