"""A `.pt2` file of torch.export: uint8 images in, features out, without the code of the network.

Shape suffixes: B images, C channels, H rows, W columns, D features.
"""

import io
from pathlib import Path

import torch
from torch import Tensor

from hardviews.export.deployable import Deployable
from hardviews.export.format import Format, Subject
from hardviews.export.traced import DYNAMIC, example, refused
from hardviews.models.described_file import to_text
from hardviews.models.encoder import Encoder, describe
from hardviews.models.encoder_files import DESCRIPTION

FILE = "encoder.pt2"


class TorchExport(Format):
    """One file that torch.export and the compilers behind it read."""

    name = "torch_export"
    bound = 1e-5

    def misfit(self, encoder: Encoder) -> str:
        return ""

    def write(self, subject: Subject, folder: Path) -> None:
        encoder = subject.encoder
        with torch.no_grad(), refused(self.name, encoder):
            program = torch.export.export(Deployable(encoder), (example(encoder),), dynamic_shapes=DYNAMIC)
        # torch pickles the example into the file. Without one it holds no pickle.
        program.example_inputs = None
        # If a disk is full, torch's own writer ends the process.
        file = io.BytesIO()
        torch.export.save(program, file, extra_files={DESCRIPTION: to_text(describe(encoder))})
        (folder / FILE).write_bytes(file.getbuffer())

    @torch.no_grad()
    def features(self, encoder: Encoder, folder: Path, images_BCHW: Tensor) -> Tensor:
        features_BD: Tensor = torch.export.load(folder / FILE).module()(images_BCHW)
        return features_BD

    def loading(self, encoder: Encoder, folder: str) -> str:
        side = encoder.image_size
        return (
            "import torch\n\n"
            f'model = torch.export.load("{folder}/{FILE}").module()\n'
            f"features = model(images)  # uint8, (batch, 3, {side}, {side}); the normalisation is inside"
        )
