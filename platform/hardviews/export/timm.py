"""The folder that `timm.create_model("local-dir:FOLDER")` reads: safetensors and config.json.

Shape suffixes: B images, C channels, H rows, W columns, D features.
"""

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import timm
import timm.data
import timm.models
import torch
from torch import Tensor

from hardviews.evaluation.features.preprocess import Preprocess
from hardviews.export.format import Format, Subject
from hardviews.foreign.record import sentence
from hardviews.models.encoder import TIMM_WEIGHTS, Encoder, describe, pack_weights

CONFIG = "config.json"


class Timm(Format):
    """A folder for timm."""

    name = "timm"

    def misfit(self, encoder: Encoder) -> str:
        if encoder.backbone.small_stem and not encoder.backbone.is_transformer:
            return "no argument of timm builds its small stem"
        return ""

    def write(self, subject: Subject, folder: Path) -> None:
        save(subject, folder)

    def features(self, encoder: Encoder, folder: Path, images_BCHW: Tensor) -> Tensor:
        model = timm.create_model(f"local-dir:{folder}", pretrained=True).eval()
        data: Any = timm.data  # its functions have no types
        config = data.resolve_model_data_config(model)
        return forward(model, config["mean"], config["std"], images_BCHW)

    def loading(self, encoder: Encoder, folder: str) -> str:
        return (
            "import timm\n\n"
            f'model = timm.create_model("local-dir:{folder}", pretrained=True).eval()  '
            "# without pretrained=True the weights are random\n"
            "transform = timm.data.create_transform(**timm.data.resolve_model_data_config(model))"
        )


@torch.no_grad()
def forward(model: Any, mean: tuple[float, ...], std: tuple[float, ...], images_BCHW: Tensor) -> Tensor:
    """Return a model's features (B, D) of uint8 images, normalised by a mean and deviation of three channels."""
    mean_C11, std_C11 = (torch.tensor(values, dtype=torch.float32).reshape(3, 1, 1) for values in (mean, std))
    features_BD: Tensor = model((images_BCHW.to(torch.float32) / 255 - mean_C11) / std_C11)
    return features_BD


def save(subject: Subject, folder: Path) -> None:
    """Write weights and config.json, of which nothing comes from timm's own pretrained weights of that architecture."""
    encoder = subject.encoder
    # How weights begin, and stochastic depth, are not parts of a trained network.
    plain = replace(encoder.backbone, drop_path=0.0, init="normal", zero_residual=True)
    with torch.random.fork_rng(devices=[]):
        network: Any = plain.build()
    network.load_state_dict(encoder.network.state_dict())
    # timm copies all that this says: by default licence, tag and input statistics of its own weights.
    network.pretrained_cfg = {
        "architecture": encoder.backbone.name.split(".")[0],
        "tag": f"hardviews_{encoder.digest[:12]}",
        "license": subject.license,
        "description": summary(encoder),
        "classifier": network.pretrained_cfg.get("classifier"),
        **preprocessing(encoder),
    }
    timm.models.save_for_hf(network, str(folder), safe_serialization=True, data_config=preprocessing(encoder))
    path = folder / CONFIG
    config = json.loads(path.read_text(encoding="utf-8"))
    # transformers passes num_classes=0 itself, and fails if it is here too (transformers 5.24).
    config["model_args"].pop("num_classes", None)
    config["hardviews"] = describe(encoder)
    # timm's own file has no metadata; with ours, the folder is an encoder that hardviews reads.
    (folder / TIMM_WEIGHTS).write_bytes(pack_weights(encoder, describe(encoder)))
    path.write_text(json.dumps(config, indent=2, sort_keys=True), encoding="utf-8")


def preprocessing(encoder: Encoder) -> dict[str, Any]:
    """Return the preprocessing of our evaluation in timm's terms."""
    side = encoder.image_size
    resize = Preprocess.of(side).resize
    return {
        "input_size": (3, side, side),
        "crop_pct": _share(side, resize),
        "crop_mode": "center",
        "interpolation": encoder.interpolation,
        "mean": tuple(encoder.normalisation.mean),
        "std": tuple(encoder.normalisation.std),
    }


def _share(crop: int, resize: int) -> float:
    """Return the number from which timm computes the size before the crop: floor(crop / number)."""
    share = crop / resize
    return share if math.floor(crop / share) == resize else crop / (resize + 0.5)


def summary(encoder: Encoder) -> str:
    """Return in one sentence which network this is."""
    recipe, source = encoder.provenance.get("recipe"), sentence(encoder.provenance)
    by = f"pretrained by hardviews with the recipe {recipe}" if recipe else "exported by hardviews"
    return f"{encoder.backbone.name}, {by}: {encoder.num_features} features, no classifier. {source}".rstrip()
