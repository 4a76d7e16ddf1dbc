"""All export formats, and which of them can express an encoder."""

from hardviews.errors import UserError
from hardviews.export.detectron2 import Detectron2
from hardviews.export.format import Format
from hardviews.export.huggingface import HuggingFace
from hardviews.export.onnx import Onnx
from hardviews.export.timm import Timm
from hardviews.export.torch_export import TorchExport
from hardviews.export.torchvision import Torchvision
from hardviews.models.encoder import Encoder

_ALL: tuple[Format, ...] = (
    Timm(),
    HuggingFace(),
    Torchvision(),
    Detectron2(),
    Onnx(),
    TorchExport(),
)
FORMATS = {form.name: form for form in _ALL}


def fitting(encoder: Encoder) -> list[Format]:
    """Return the formats that can express an encoder."""
    return [form for form in FORMATS.values() if not form.misfit(encoder)]


def check_fits(form: Format, encoder: Encoder) -> None:
    """Refuse an encoder that a format cannot express.

    Raises:
        UserError: with the reason, and the formats that can.
    """
    reason = form.misfit(encoder)
    if reason:
        stem = " with a small stem" if encoder.backbone.small_stem else ""
        raise UserError(
            f"--format {form.name} cannot express {encoder.backbone.name}{stem}, because {reason}; these formats can: "
            f"{', '.join(other.name for other in fitting(encoder))}."
        )
