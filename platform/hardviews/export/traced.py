"""The common part of the traced formats: the traced example, and failures of the tracer in words."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from hardviews.errors import UserError
from hardviews.models.encoder import Encoder

DYNAMIC = {"images": {0: torch.export.Dim("batch", min=1, max=65536)}}
"""The dimension of the input that may have any size."""


def example(encoder: Encoder) -> Tensor:
    """Return the two images that are traced: the size of a batch of one would be frozen into the graph."""
    return torch.zeros(2, 3, encoder.image_size, encoder.image_size, dtype=torch.uint8)


@contextmanager
def refused(name: str, encoder: Encoder) -> Iterator[None]:
    """Raise a failure of PyTorch's exporter inside as a UserError.

    Raises:
        UserError: naming the format, the backbone, and the exporter's reason.
    """
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        reason = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
        raise UserError(
            f"--format {name}: PyTorch's exporter cannot trace {encoder.backbone.name} ({reason.rstrip('.')}). "
            "Choose another format, such as timm."
        ) from error
