"""Every format computes the same as the encoder, under names and in files that its library expects."""

import json
import pickle
import zipfile
from pathlib import Path
from types import SimpleNamespace
from typing import get_args

import numpy as np
import onnx
import onnxruntime
import pytest
import safetensors
import safetensors.torch
import timm
import torch
import torchvision
from PIL import Image
from transformers import AutoImageProcessor, AutoModel

from hardviews.errors import UserError
from hardviews.evaluation.features.preprocess import Preprocess
from hardviews.export.command import Name
from hardviews.export.comparison import BATCHES, difference, fixed_images, own_features
from hardviews.export.deployable import fixed_size
from hardviews.export.detectron2 import Detectron2, from_detectron2, to_detectron2
from hardviews.export.formats import FORMATS, fitting
from hardviews.export.timm import preprocessing
from hardviews.models.encoder import Encoder, load
from tests.export.encoders import NORMALISATION


def normalised(encoder: Encoder, images_BCHW: torch.Tensor) -> torch.Tensor:
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in (encoder.normalisation.mean, encoder.normalisation.std))
    return (images_BCHW.float() / 255 - mean) / std


@torch.no_grad()
def distance(model, encoder: Encoder) -> float:
    """The relative difference on normalised images."""
    images = fixed_images(encoder.image_size)
    return difference(model(normalised(encoder, images)), own_features(encoder, images))


def test_the_command_line_names_every_format():
    assert set(get_args(Name)) == set(FORMATS)


# The measure


def test_the_difference_is_that_of_the_worst_image():
    expected = torch.tensor([[1.0, -2.0], [4.0, 100.0]])
    assert difference(expected.clone(), expected) == 0
    assert difference(torch.tensor([[1.0, -2.5], [4.0, 110.0]]), expected) == pytest.approx(0.25)
    assert difference(torch.tensor([[1.0, float("nan")], [4.0, 100.0]]), expected) == float("inf")
    assert difference(expected[:1], expected) == float("inf")


def test_the_images_are_always_the_same_and_differ_from_each_other():
    images = fixed_images(24)
    assert images.dtype == torch.uint8 and images.shape == (8, 3, 24, 24)
    assert torch.equal(images, fixed_images(24))
    means = images.float().mean((1, 2, 3))
    assert means.unique().numel() == 8


# timm


@pytest.mark.parametrize("name", ["resnet18", "test_vit"])
def test_timm_loads_the_folder(name, runs, export):
    encoder = load(runs[name])
    folder = export(name, "timm")
    assert sorted(p.name for p in folder.iterdir()) == ["config.json", "encoder.json", "model.safetensors"]
    model = timm.create_model(f"local-dir:{folder}", pretrained=True).eval()
    assert distance(model, encoder) == 0
    assert distance(timm.create_model(f"local-dir:{folder}").eval(), encoder) > 0.1, "random without pretrained=True"
    config = timm.data.resolve_model_data_config(model)
    assert tuple(config["mean"]) == encoder.normalisation.mean and tuple(config["std"]) == encoder.normalisation.std
    assert config["input_size"][1:] == (encoder.image_size,) * 2


def test_timm_gets_nothing_of_its_own_weights(export):
    config = json.loads((export("resnet18", "timm", license="cc-by-4.0") / "config.json").read_text())
    told = config["pretrained_cfg"]
    assert (
        told["license"] == "cc-by-4.0"
        and told["tag"].startswith("hardviews_")
        and "recipe digits" in told["description"]
    )
    own = timm.get_pretrained_cfg("resnet18")
    assert own.tag not in json.dumps(config) and str(own.hf_hub_id) not in json.dumps(config)
    assert not {"url", "hf_hub_id", "origin_url", "paper_ids", "test_input_size", "test_crop_pct"} & set(told)
    assert "num_classes" not in config["model_args"] and config["num_classes"] == 0


@pytest.mark.parametrize("side", [32, 96, 97, 128, 160, 191, 224, 225, 288, 320, 448, 512])
@pytest.mark.parametrize("filter_", ["bicubic", "bilinear"])
def test_timm_resizes_as_our_evaluation(side, filter_):
    told = preprocessing(SimpleNamespace(image_size=side, normalisation=NORMALISATION, interpolation=filter_))
    resize, crop = timm.data.create_transform(**told).transforms[:2]
    assert resize.interpolation.value == filter_
    assert resize.size == Preprocess.of(side).resize and tuple(crop.size) == (side, side)


def test_a_folder_for_timm_is_an_encoder_of_ours(runs, export):
    before, folder = load(runs["test_vit"]), export("test_vit", "timm")
    after = load(folder)
    assert (after.digest, after.provenance) == (before.digest, before.provenance)
    assert json.loads((folder / "encoder.json").read_text())["digest"] == before.digest
    data = bytearray((folder / "model.safetensors").read_bytes())
    data[-1] ^= 1
    Path("model.safetensors").write_bytes(data)
    with pytest.raises(UserError, match="do not match the digest"):
        load(".")


# transformers


@pytest.mark.parametrize("name", ["resnet18", "test_vit"])
def test_transformers_loads_the_folder(name, runs, export):
    encoder = load(runs[name])
    folder = export(name, "huggingface")
    model = AutoModel.from_pretrained(folder).eval()
    assert distance(lambda x: model(x).pooler_output, encoder) == 0
    assert distance(timm.create_model(f"local-dir:{folder}", pretrained=True).eval(), encoder) == 0
    assert (folder / "README.md").read_text().startswith('---\nlicense: "unknown"\n')


def test_transformers_processes_an_image_as_our_evaluation(runs, export):
    encoder = load(runs["test_vit"])
    processor = AutoImageProcessor.from_pretrained(export("test_vit", "huggingface"))
    grid = np.linspace(0, 255, 90 * 70 * 3).reshape(90, 70, 3)
    picture = Image.fromarray(((grid + 40 * np.sin(grid / 3)) % 256).astype(np.uint8))
    picture.save("picture.png")
    found = processor(picture).pixel_values[0]
    expected = normalised(encoder, Preprocess.of(encoder.image_size)(Path("picture.png").read_bytes())[None])[0]
    grey = ((found - expected).abs() * torch.tensor(encoder.normalisation.std).view(3, 1, 1) * 255).max()
    assert grey <= 1.01


# torchvision, detectron2


def test_torchvision_loads_a_resnet_strictly(resnet, export):
    state = safetensors.torch.load_file(export("resnet18", "torchvision") / "torchvision.safetensors")
    model = torchvision.models.resnet18()
    model.fc = torch.nn.Identity()
    model.load_state_dict(state, strict=True)
    assert distance(model.eval(), resnet) == 0


def test_torchvision_loads_a_resnet_into_a_detector(export):
    state = safetensors.torch.load_file(export("resnet18", "torchvision") / "torchvision.safetensors")
    backbone = torchvision.models.detection.backbone_utils.resnet_fpn_backbone(
        backbone_name="resnet18", weights=None, norm_layer=torch.nn.BatchNorm2d, trainable_layers=5
    )
    backbone.body.load_state_dict(state, strict=True)


def test_torchvision_loads_a_transformer_strictly(small_vit, export):
    state = safetensors.torch.load_file(export("test_vit", "torchvision") / "torchvision.safetensors")
    sizes = {"num_layers": 6, "num_heads": 2, "hidden_dim": 64, "mlp_dim": 192}
    model = torchvision.models.VisionTransformer(image_size=64, patch_size=16, **sizes)
    model.heads = torch.nn.Identity()
    model.load_state_dict(state, strict=True)
    assert 0 < distance(model.eval(), small_vit) < 1e-5


def test_detectron2_has_its_own_names(resnet, export):
    state = safetensors.torch.load_file(export("resnet18", "detectron2") / "detectron2.safetensors")
    norm = [f"norm.{part}" for part in ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")]
    expected = ["stem.conv1.weight", *(f"stem.conv1.{part}" for part in norm)]
    for stage in range(2, 6):
        for block in range(2):
            convolutions = ["conv1", "conv2"] + (["shortcut"] if block == 0 and stage > 2 else [])
            for convolution in convolutions:
                expected += [f"res{stage}.{block}.{convolution}.{part}" for part in ("weight", *norm)]
    assert sorted(state) == sorted(expected)
    assert torch.equal(state["res3.0.shortcut.weight"], resnet.network.state_dict()["layer2.0.downsample.0.weight"])
    assert torch.equal(state["res5.1.conv2.norm.bias"], resnet.network.state_dict()["layer4.1.bn2.bias"])


def test_names_of_detectron2_lead_back():
    for key in timm.create_model("resnet50", num_classes=0).state_dict():
        assert from_detectron2(to_detectron2(key)) == key


def test_detectron2_gets_a_pickle_if_it_is_allowed(resnet, export):
    folder = export("resnet18", "detectron2", allow_pickle=True)
    assert sorted(p.name for p in folder.iterdir()) == ["detectron2.pkl", "encoder.json"]
    lines = Detectron2(pickled=True).loading(resnet, "x")
    assert "pickle" not in lines and "x/detectron2.pkl" in lines
    content = pickle.loads((folder / "detectron2.pkl").read_bytes())
    assert content["matching_heuristics"] is True and content["__author__"] == "hardviews"
    weight = content["model"]["res2.0.conv1.weight"]
    assert isinstance(weight, np.ndarray)
    assert np.array_equal(weight, resnet.network.state_dict()["layer1.0.conv1.weight"].numpy())


# The traced formats


@pytest.mark.parametrize("name", ["test_vit", "resnet10t"])
def test_onnx_takes_pixels_in_batches_of_any_size(name, runs, export):
    encoder = load(runs[name])
    folder = export(name, "onnx")
    assert sorted(p.name for p in folder.iterdir()) == ["encoder.json", "encoder.onnx"]
    model = onnx.load(folder / "encoder.onnx")
    onnx.checker.check_model(model, full_check=True)
    assert [(entry.domain, entry.version) for entry in model.opset_import] == [("", 20)]
    assert "Resize" not in {node.op_type for node in model.graph.node}
    session = onnxruntime.InferenceSession(folder / "encoder.onnx", providers=["CPUExecutionProvider"])
    (taken,) = session.get_inputs()
    assert (taken.type, taken.shape[1:]) == ("tensor(uint8)", [3, encoder.image_size, encoder.image_size])
    for batch in (*BATCHES, 5):
        images = fixed_images(encoder.image_size)[:batch]
        (found,) = session.run(["features"], {"images": images.numpy()})
        assert difference(torch.from_numpy(found), own_features(encoder, images)) < 1e-4
    told = session.get_modelmeta().custom_metadata_map
    assert told["digest"] == encoder.digest and told["backbone"] == name
    assert (told["image_size"], told["num_features"]) == (str(encoder.image_size), str(encoder.num_features))
    assert json.loads(told["provenance"]) == encoder.provenance


@pytest.mark.parametrize("name", ["test_vit", "resnet10t"])
def test_torch_export_takes_pixels_in_batches_of_any_size(name, runs, export):
    encoder = load(runs[name])
    file = export(name, "torch_export") / "encoder.pt2"
    extra = {"encoder.json": ""}
    model = torch.export.load(file, extra_files=extra).module()
    for batch in (*BATCHES, 5):
        images = fixed_images(encoder.image_size)[:batch]
        assert difference(model(images).detach(), own_features(encoder, images)) < 1e-5
    assert json.loads(extra["encoder.json"])["digest"] == encoder.digest


def test_a_network_for_one_size_resamples_nothing(small_vit):
    fixed = fixed_size(small_vit)
    assert not fixed.dynamic_img_size and fixed.pos_embed.shape[1] == 1 + 4 * 4
    assert distance(fixed, small_vit) == 0


# Files

# The networks that the formats below are looked at with.
NETWORKS = {form: "resnet18" if form == "detectron2" else "test_vit" for form in FORMATS}


@pytest.mark.parametrize("form", FORMATS)
def test_no_file_holds_a_pickle(form, export):
    for path in export(NETWORKS[form], form).iterdir():
        contents = [path.read_bytes()]
        if zipfile.is_zipfile(path):
            archive = zipfile.ZipFile(path)
            contents = [archive.read(entry) for entry in archive.namelist()]
            assert not any(entry.endswith((".pkl", ".pickle")) for entry in archive.namelist())
        # Protocols 2 to 5 begin so; PK begins a file of torch.save inside an archive.
        assert not any(c[:1] == b"\x80" and c[1:2] in b"\x02\x03\x04\x05" and c[-1:] == b"." for c in contents)
        assert not any(c.startswith(b"PK") for c in contents if zipfile.is_zipfile(path))


@pytest.mark.parametrize("form", FORMATS)
def test_every_export_carries_digest_preprocessing_and_provenance(form, runs, export):
    encoder, folder = load(runs[NETWORKS[form]]), export(NETWORKS[form], form)
    told = json.loads((folder / "encoder.json").read_text())
    assert told["digest"] == encoder.digest and told["provenance"] == encoder.provenance
    assert told["normalisation"]["mean"] == list(encoder.normalisation.mean)
    assert told["image_size"] == encoder.image_size
    assert told["export"]["format"] == form
    assert set(told["export"]["files"]) == {p.name for p in folder.iterdir()} - {"encoder.json"}


def test_formats_that_fit(resnet, small_vit, small_stem):
    assert [form.name for form in fitting(resnet)] == list(FORMATS)
    assert [form.name for form in fitting(small_vit)] == [name for name in FORMATS if name != "detectron2"]
    assert [form.name for form in fitting(small_stem)] == ["onnx", "torch_export"]
