"""An imported encoder computes the features of the network in the file, bit for bit, for the files of every code.

Shape suffixes: B images, C channels, H rows, W columns, D features.
"""

import pytest
import safetensors.torch
import timm
import torch
from torch import nn

from hardviews.errors import UserError
from hardviews.foreign.contents import read
from hardviews.foreign.imported import Imported, imported, usual_inputs
from hardviews.foreign.layouts import LAYOUTS
from hardviews.models.backbones import Backbone
from hardviews.models.encoder import Encoder
from tests.foreign import files

# Layout, part, network, the file's content, and prefixes of the groups that are left over.
CASES = {
    "torchvision": ("torchvision", "model", files.resnet, lambda n: {**n.state_dict(), **files.linear("fc.")}, {"fc."}),
    "timm": ("timm", "model", files.vit, lambda n: {**n.state_dict(), **files.linear("head.")}, {"head."}),
    "vissl": (
        "vissl",
        "trunk",
        files.resnet,
        files.vissl,
        {"classy_state_dict.base_model.model.heads", "classy_state_dict.optimizer", "loss", "type"},
    ),
    "moco": (
        "moco",
        "encoder_q",
        files.resnet,
        files.moco,
        {"encoder_q.fc.", "encoder_k.", "encoder_k.fc.", "queue", "queue_ptr", "optimizer", "epoch", "arch"},
    ),
    "moco v3": ("moco", "base_encoder", files.vit, files.moco_v3, {"base_encoder.head.", "predictor.", "scaler"}),
    "pycontrast": (
        "pycontrast",
        "encoder",
        files.resnet,
        files.pycontrast,
        {"head.", "head_jig.", "contrast", "optimizer", "opt"},
    ),
    "mmselfsup": (
        "mmselfsup",
        "backbone",
        files.resnet,
        files.mmselfsup,
        {"head.", "neck.", "encoder_q.", "queue", "meta"},
    ),
    "swav": ("swav", "model", files.resnet, files.swav, {"projection_head.", "prototypes."}),
    "swav checkpoint": ("swav", "model", files.resnet, files.swav_checkpoint, {"projection_head.", "optimizer", "amp"}),
    "dino": ("dino", "teacher", files.vit, files.dino, {"student", "head.", "dino_loss", "args", "fp16_scaler"}),
    "dino resnet": (
        "dino",
        "teacher",
        files.resnet,
        lambda n: files.dino(n, files.resnet(seed=4)),
        {"student", "head."},
    ),
    "ibot": ("ibot", "teacher", files.vit, files.ibot, {"student", "head.", "ibot_loss"}),
    "simsiam": ("simsiam", "encoder", files.resnet, files.simsiam, {"encoder.fc.", "predictor.", "optimizer"}),
    "wrapped": ("wrapped", "model", files.resnet, files.barlow_twins, {"projector.", "bn.", "optimizer"}),
}


def opened(path: str, layout: str | None = None, part: str | None = None, backbone: str | None = None) -> Imported:
    return imported(read(path), layout, part, None if backbone is None else Backbone(backbone))


def encoder(one: Imported) -> Encoder:
    return one.encoder(usual_inputs(one), {})


def features_BD(network: nn.Module, side: int = 64) -> torch.Tensor:
    torch.manual_seed(1)
    with torch.no_grad():
        return network(torch.randn(2, 3, side, side))


def check_equal(one: Imported, network: nn.Module, side: int = 64) -> None:
    own, theirs = features_BD(encoder(one), side), features_BD(network, side)
    assert own.shape == theirs.shape and own.std() > 1e-3
    assert torch.equal(own, theirs)


@pytest.mark.parametrize("case", CASES)
def test_features_are_those_of_the_network_in_the_file(case, tmp_path):
    layout, part, build, content, groups = CASES[case]
    network = build()
    path = files.save(content(network), tmp_path / "weights.pth.tar")
    one = opened(path)
    assert (one.found.layout.name, one.found.place.part) == (layout, part)
    check_equal(one, network)
    assert groups <= {group.prefix for group in one.groups}
    assert [group.text() for group in one.groups if not group.expected] == []
    named = opened(path, layout, part, one.fitted.backbone.name)
    assert encoder(named).digest == encoder(one).digest


@pytest.mark.parametrize("case", [case for case in CASES if case not in ("torchvision", "timm")])
def test_the_prefix_of_data_parallel_may_be_there_or_not(case, tmp_path):
    _, _, build, content, _ = CASES[case]
    network = build()

    def without(value):
        if isinstance(value, dict):
            return {str(name).removeprefix("module."): without(one) for name, one in value.items()}
        return value

    plain = opened(files.save(without(content(network)), tmp_path / "plain.pth"))
    check_equal(plain, network)
    double = {f"_orig_mod.module.{name}": value for name, value in network.state_dict().items()}
    check_equal(opened(files.save({"state_dict": double}, tmp_path / "double.pth")), network)


@pytest.mark.parametrize(
    ("content", "build"), [(files.simsiam, files.resnet), (files.dino, files.vit), (files.ibot, files.vit)]
)
def test_the_authors_of_hard_views_have_the_names_of_simsiam_and_dino(content, build, tmp_path):
    network = build()
    one = opened(files.save(content(network), tmp_path / "checkpoint.pth"), "hvp")
    check_equal(one, network)
    assert all(group.expected or group.prefix == "ibot_loss" for group in one.groups)


def test_files_of_the_backbone_alone_are_taken_by_name_too(tmp_path):
    network = files.vit()
    bare = files.save(network.state_dict(), tmp_path / "dino_vits_pretrain.pth")
    extracted = files.save({"state_dict": network.state_dict()}, tmp_path / "checkpoint_teacher.pth")
    for path, layout in ((bare, "dino"), (extracted, "ibot"), (bare, None), (extracted, None)):
        check_equal(opened(path, layout), network)
    assert opened(bare).found.layout.name == "timm"


@pytest.mark.parametrize("content", [files.dino, files.ibot])
def test_the_student_can_be_chosen(content, tmp_path):
    path = files.save(content(files.vit()), tmp_path / "checkpoint.pth")
    one = opened(path, part="student")
    check_equal(one, files.vit(seed=5))
    assert "another network, --part teacher" in {group.meaning for group in one.groups}


def test_the_momentum_encoder_can_be_chosen(tmp_path):
    path = files.save(files.moco(files.resnet()), tmp_path / "moco.pth.tar")
    check_equal(opened(path, part="encoder_k"), files.resnet(seed=9))


def test_a_resnet_50_is_distinguished_from_the_others(tmp_path):
    for depth, name in ((34, "resnet34"), (50, "resnet50")):
        network = files.resnet(depth)
        one = opened(files.save(files.simsiam(network), tmp_path / f"{depth}.pth.tar"))
        assert one.fitted.backbone == Backbone(name)
        check_equal(one, network)


@pytest.mark.parametrize("depth", [18, 50])
@pytest.mark.parametrize(
    ("layout", "content"),
    [
        ("torchvision", lambda n: n.state_dict() | files.linear("fc.")),
        ("torchvision", lambda n: {"net": 1, "state_dict": files.with_shortcuts(n) | files.linear("linear.")}),
        ("mmselfsup", lambda n: {"state_dict": files.under("backbone.", n) | files.linear("classifier.")}),
        ("pycontrast", lambda n: {"model": files.under("encoder.", files.with_shortcuts(n))}),
    ],
    ids=["torchvision", "pytorch-cifar", "solo-learn", "SupContrast"],
)
def test_a_resnet_with_a_stem_for_small_images_is_told_by_its_first_layer(depth, layout, content, tmp_path):
    network = files.cifar_resnet(depth)
    path = files.save(content(network), tmp_path / "cifar.pth")
    one = opened(path)
    assert one.found.layout.name == layout
    assert one.fitted.backbone == Backbone(f"resnet{depth}", small_stem=True)
    assert encoder(one).image_size == 32
    check_equal(one, network, side=32)
    named = opened(path, backbone=f"resnet{depth}")  # the name does not say the stem: the file does
    assert encoder(named).digest == encoder(one).digest


def test_a_small_stem_in_another_network_is_refused(tmp_path):
    path = files.save(files.cifar_resnet().state_dict(), tmp_path / "cifar.pth")
    with pytest.raises(UserError, match="Its shapes are those of resnet18"):
        opened(path, backbone="resnet34")


def test_torchvisions_vision_transformer_gets_timms_names(tmp_path):
    network, state = files.torchvision_vit()
    one = opened(files.save(state, tmp_path / "vit.pth"))
    assert one.found.layout.name == "torchvision" and one.fitted.backbone.name == "vit_tiny_patch16_224"
    assert {group.prefix for group in one.groups} == {"heads."}
    own, theirs = features_BD(encoder(one), 224), features_BD(network, 224)
    torch.testing.assert_close(own, theirs, atol=1e-4, rtol=1e-4)  # another order of sums in the attention


def test_safetensors_are_read_too(tmp_path):
    network = files.resnet()
    safetensors.torch.save_file(network.state_dict(), tmp_path / "weights.safetensors")
    check_equal(opened(str(tmp_path / "weights.safetensors")), network)


def test_any_network_of_timm_is_imported_by_its_name(tmp_path):
    torch.manual_seed(0)
    network = files.disturbed(timm.create_model("convnext_atto", num_classes=0))
    path = files.save({"state_dict": network.state_dict()}, tmp_path / "atto.pth")
    check_equal(opened(path, backbone="convnext_atto"), network)


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16, torch.float64])
def test_other_precisions_become_single_precision(kind, tmp_path):
    network = files.resnet()
    halved = {
        name: value.to(kind) if value.is_floating_point() else value for name, value in network.state_dict().items()
    }
    one = opened(files.save(halved, tmp_path / "half.pth"))
    assert dict(one.fitted.converted) == {str(kind).removeprefix("torch."): 100}
    network.load_state_dict(
        {name: value.float() if value.is_floating_point() else value for name, value in halved.items()}
    )
    check_equal(one, network)


def test_counters_of_batches_may_be_missing(tmp_path):
    network = files.resnet()
    state = {name: value for name, value in network.state_dict().items() if not name.endswith("num_batches_tracked")}
    one = opened(files.save(state, tmp_path / "old.pth"))
    check_equal(one, network)
    assert len(one.fitted.filled) == 20 and all(name.endswith("num_batches_tracked") for name in one.fitted.filled)


def test_weights_that_no_layout_explains_are_named(tmp_path):
    held = files.simsiam(files.resnet())
    held["state_dict"]["module.decoder.conv.weight"] = torch.zeros(3)
    held["teacher_state"] = {"a": torch.zeros(2)}
    one = opened(files.save(held, tmp_path / "odd.pth"))
    assert {group.text() for group in one.groups if not group.expected} == {"decoder.conv 1", "teacher_state 1"}
    (odd,) = [group for group in one.groups if group.prefix == "decoder.conv"]
    assert odd.names == ("module.decoder.conv.weight",)


def test_position_embeddings_are_kept_and_timm_interpolates_them(tmp_path):
    network = files.vit(img_size=96)
    one = opened(files.save(files.dino(network), tmp_path / "small.pth"))
    assert one.fitted.image_size == 96 and one.fitted.backbone == Backbone("vit_tiny_patch16_224", image_size=96)
    assert encoder(one).image_size == 96
    for side in (96, 64, 224):
        check_equal(one, network, side)
    usual = opened(files.save(files.vit().state_dict(), tmp_path / "usual.pth"))
    assert usual.fitted.backbone == Backbone("vit_tiny_patch16_224") and encoder(usual).image_size == 224


def test_patches_that_timm_has_no_name_for(tmp_path):
    network = files.vit(patch_size=8, img_size=64)
    one = opened(files.save(network.state_dict(), tmp_path / "eight.pth"))
    assert (one.fitted.backbone.name, one.fitted.backbone.patch_size) == ("vit_tiny_patch16_224", 8)
    check_equal(one, network)


def test_pixels_are_those_of_the_pretraining(tmp_path):
    """SwAV's code divides red pixels by 0.228 (src/multicropdataset.py), all others by 0.229."""
    for content, red in ((files.swav, 0.228), (files.moco, 0.229)):
        one = opened(files.save(content(files.resnet()), tmp_path / "weights.pth"))
        inputs = usual_inputs(one)
        assert inputs.normalisation.std == (red, 0.224, 0.225) and inputs.normalisation.mean == (0.485, 0.456, 0.406)
        assert (inputs.image_size, inputs.interpolation) == (224, "bicubic")
    tagged = opened(
        files.save(files.vit().state_dict(), tmp_path / "vit.pth"), "timm", None, "vit_tiny_patch16_224.augreg_in21k"
    )
    assert usual_inputs(tagged).normalisation.std == (0.5, 0.5, 0.5)


def test_every_layout_is_tested():
    assert {layout.name for layout in LAYOUTS} == {case[0] for case in CASES.values()} | {"hvp"}
