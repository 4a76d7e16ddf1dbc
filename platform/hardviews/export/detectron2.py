"""Weights under detectron2's names, for ResNets without a deep stem.

The renames are those of detectron2's own script `convert-torchvision-to-d2.py`. detectron2 reads nothing but pickles.
So the same names in safetensors are the default, and the pickle is written only if the user allows it.

Shape suffixes: B images, C channels, H rows, W columns, D features.
"""

import pickle
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import safetensors.numpy
import torch
from torch import Tensor

from hardviews.export.format import Format, Subject
from hardviews.export.timm import forward
from hardviews.models.described_file import to_text
from hardviews.models.encoder import Encoder, describe

_NETWORKS = ("resnet18", "resnet34", "resnet50", "resnet101", "resnet152")
_SAFE, _PICKLED = "detectron2.safetensors", "detectron2.pkl"


@dataclass(frozen=True)
class Detectron2(Format):
    """A ResNet's weights for `MODEL.WEIGHTS` of detectron2.

    Attributes:
        pickled: whether the file is the pickle that detectron2 reads, and not safetensors.
    """

    pickled: bool = False
    name = "detectron2"

    def misfit(self, encoder: Encoder) -> str:
        if encoder.backbone.name.split(".")[0] not in _NETWORKS:
            return "detectron2 has only plain ResNets"
        return "detectron2 has no small stem" if encoder.backbone.small_stem else ""

    def write(self, subject: Subject, folder: Path) -> None:
        encoder = subject.encoder
        state = {to_detectron2(key): value.numpy() for key, value in encoder.network.state_dict().items()}
        if not self.pickled:
            metadata = {"encoder": to_text(describe(encoder))}
            safetensors.numpy.save_file(state, folder / _SAFE, metadata=metadata)
            return
        content = {
            "model": state,
            "__author__": "hardviews",
            "matching_heuristics": True,
            "encoder": to_text(describe(encoder)),
        }
        (folder / _PICKLED).write_bytes(pickle.dumps(content, protocol=4))

    def features(self, encoder: Encoder, folder: Path, images_BCHW: Tensor) -> Tensor:
        with torch.random.fork_rng(devices=[]):
            model = encoder.backbone.build()
        state = {from_detectron2(key): torch.as_tensor(value) for key, value in self._read(folder).items()}
        model.load_state_dict(state)
        return forward(model.eval(), encoder.normalisation.mean, encoder.normalisation.std, images_BCHW)

    def loading(self, encoder: Encoder, folder: str) -> str:
        depth = encoder.backbone.name.split(".")[0].removeprefix("resnet")
        mean, std = ([round(255 * x, 3) for x in v] for v in (encoder.normalisation.mean, encoder.normalisation.std))
        lines = [
            f'cfg.MODEL.WEIGHTS = "{folder}/{_PICKLED}"',
            f"cfg.MODEL.RESNETS.DEPTH = {depth}",
            "cfg.MODEL.RESNETS.STRIDE_IN_1X1 = False",
            'cfg.INPUT.FORMAT = "RGB"',
            f"cfg.MODEL.PIXEL_MEAN, cfg.MODEL.PIXEL_STD = {mean}, {std}",
        ]
        if depth in ("18", "34"):
            lines.append("cfg.MODEL.RESNETS.RES2_OUT_CHANNELS = 64")
        convert = (
            "# detectron2 reads only pickles; this makes one:\n"
            "import pickle\nfrom safetensors.numpy import load_file\n\n"
            f'state = load_file("{folder}/{_SAFE}")\n'
            f'with open("{folder}/{_PICKLED}", "wb") as stream:\n'
            '    pickle.dump({"model": state, "__author__": "hardviews", "matching_heuristics": True}, stream)\n\n'
        )
        return ("" if self.pickled else convert) + "# in detectron2's configuration:\n" + "\n".join(lines)

    def _read(self, folder: Path) -> Mapping[str, object]:
        """Return the arrays by name; a pickle here was written by this process a moment ago."""
        arrays: Mapping[str, object]
        if self.pickled:
            arrays = pickle.loads((folder / _PICKLED).read_bytes())["model"]
        else:
            arrays = safetensors.numpy.load_file(folder / _SAFE)
        return arrays


def to_detectron2(key: str) -> str:
    """Return detectron2's name of a ResNet's weight from timm's, which is torchvision's."""
    if not key.startswith("layer"):
        key = f"stem.{key}"
    key = re.sub(r"layer(\d)", lambda found: f"res{int(found[1]) + 1}", key)
    key = re.sub(r"bn(\d)", r"conv\1.norm", key)
    return key.replace("downsample.0", "shortcut").replace("downsample.1", "shortcut.norm")


def from_detectron2(key: str) -> str:
    """Return timm's name of a ResNet's weight from detectron2's."""
    key = key.removeprefix("stem.")
    key = re.sub(r"res(\d)", lambda found: f"layer{int(found[1]) - 1}", key)
    key = re.sub(r"conv(\d)\.norm", r"bn\1", key)
    return key.replace("shortcut.norm", "downsample.1").replace("shortcut", "downsample.0")
