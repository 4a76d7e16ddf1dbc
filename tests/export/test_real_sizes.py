"""Every format on networks of real sizes; `make exports`."""

from pathlib import Path

import pytest
import safetensors.torch
import timm
import torch
import torchvision
from transformers import AutoModel

from hardviews.export.command import Export, check, run_export
from hardviews.export.comparison import difference, fixed_images, own_features
from hardviews.export.formats import FORMATS, fitting
from hardviews.models.encoder import Encoder, load
from tests.export.encoders import make, saved

pytestmark = pytest.mark.exports

# Small images: mistakes of a format do not depend on their size.
NETWORKS = {
    "resnet50": {"side": 64},
    "vit_small_patch16_224": {"side": 64, "image_size": 64},
    "vit_tiny_patch16_224": {"side": 96, "image_size": 64},
}


@pytest.fixture(scope="module", params=NETWORKS)
def run(request, tmp_path_factory) -> tuple[Encoder, str]:
    encoder = make(request.param, **NETWORKS[request.param])
    return encoder, saved(encoder, tmp_path_factory.mktemp(request.param))


@torch.no_grad()
def distance(model, encoder: Encoder) -> float:
    images = fixed_images(encoder.image_size)
    return difference(model(encoder.normalisation.normalise(images)), own_features(encoder, images))


@pytest.mark.parametrize("form", FORMATS)
def test_features_are_equal(form, run):
    encoder, folder = run
    if FORMATS[form] not in fitting(encoder):
        assert form == "detectron2" and encoder.backbone.is_transformer
        return
    run_export(Export(folder, form))
    out = Path(f"export-{form}")
    assert check(FORMATS[form], encoder, out) <= {"onnx": 1e-4, "torch_export": 1e-5, "torchvision": 1e-5}.get(form, 0)
    if form == "timm":
        assert distance(timm.create_model(f"local-dir:{out}", pretrained=True).eval(), encoder) == 0
        assert load(out).digest == encoder.digest
    elif form == "huggingface":
        model = AutoModel.from_pretrained(out).eval()
        assert distance(lambda x: model(x).pooler_output, encoder) == 0
    elif form == "torchvision" and not encoder.backbone.is_transformer:
        model = torchvision.models.resnet50()
        model.fc = torch.nn.Identity()
        state = safetensors.torch.load_file(out / "torchvision.safetensors")
        model.load_state_dict(state, strict=True)
        assert distance(model.eval(), encoder) == 0
        detector = torchvision.models.detection.fasterrcnn_resnet50_fpn(
            weights=None, weights_backbone=None, trainable_backbone_layers=5
        )
        detector.backbone.body.load_state_dict(state, strict=True)


def test_large_weights_lie_beside_the_onnx_file(monkeypatch, tmp_path):
    monkeypatch.setattr("hardviews.export.onnx._MOST_BYTES", 1000)
    run_export(Export(saved(make("test_vit", 32, image_size=32), tmp_path / "run"), "onnx", out="large"))
    assert Path("large/encoder.onnx").stat().st_size < Path("large/encoder.onnx.data").stat().st_size
