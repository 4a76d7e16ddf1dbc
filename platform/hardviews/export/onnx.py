"""An ONNX file: uint8 images in, features out, for runtimes without PyTorch.

Shape suffixes: B images, C channels, H rows, W columns, D features.
"""

import json
import logging
import warnings
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from hardviews.export.deployable import Deployable
from hardviews.export.format import Format, Subject
from hardviews.export.traced import DYNAMIC, example, refused
from hardviews.models.encoder import Encoder, describe

FILE = "encoder.onnx"
_OPSET = 20
# A file of ONNX is one message of protobuf, which holds 2 GiB at most: larger weights go into a file beside it.
_MOST_BYTES = 2_000_000_000


class Onnx(Format):
    """One file with the normalisation inside, for batches of any size."""

    name = "onnx"
    packages = ("onnx", "onnxscript", "onnxruntime")
    bound = 1e-4

    def misfit(self, encoder: Encoder) -> str:
        return ""

    def write(self, subject: Subject, folder: Path) -> None:
        encoder = subject.encoder
        model = Deployable(encoder)
        logging.getLogger("onnxscript").setLevel(logging.ERROR)  # its optimizer names every step that it leaves out
        with warnings.catch_warnings(), torch.no_grad(), refused(self.name, encoder):
            warnings.simplefilter("ignore")  # warnings of the exporter about its own parts
            program: Any = torch.onnx.export(
                model,
                (example(encoder),),
                dynamo=True,
                opset_version=_OPSET,
                input_names=["images"],
                output_names=["features"],
                dynamic_shapes=DYNAMIC,
                verbose=False,
            )
        program.model.metadata_props.update(properties(encoder))
        size = sum(value.nbytes for value in model.state_dict().values())
        program.save(str(folder / FILE), external_data=size > _MOST_BYTES)

    def features(self, encoder: Encoder, folder: Path, images_BCHW: Tensor) -> Tensor:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        session = onnxruntime.InferenceSession(folder / FILE, options, providers=["CPUExecutionProvider"])
        return torch.from_numpy(session.run(["features"], {"images": images_BCHW.numpy()})[0])

    def loading(self, encoder: Encoder, folder: str) -> str:
        side = encoder.image_size
        return (
            "import onnxruntime\n\n"
            f'session = onnxruntime.InferenceSession("{folder}/{FILE}")\n'
            f'(features,) = session.run(["features"], {{"images": images}})  # uint8, (batch, 3, {side}, {side})'
        )


def properties(encoder: Encoder) -> dict[str, str]:
    """Return the metadata of the file: texts by name."""
    found = describe(encoder)
    return {
        "digest": encoder.digest,
        "backbone": encoder.backbone.name,
        "image_size": str(encoder.image_size),
        "num_features": str(encoder.num_features),
        "input": "uint8 RGB, (batch, 3, image_size, image_size); the normalisation is inside",
        "provenance": json.dumps(found["provenance"], sort_keys=True),
        "hardviews": json.dumps(found, sort_keys=True),
    }
