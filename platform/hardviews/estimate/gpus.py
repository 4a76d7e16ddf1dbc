"""Peak speed and memory of GPUs, as their makers publish them."""

import difflib
from dataclasses import dataclass

from hardviews.errors import UserError


@dataclass(frozen=True)
class Gpu:
    """A GPU.

    Attributes:
        tflops: dense peak of matrix products in bfloat16, in fp16 if the GPU lacks bfloat16; 10^12 operations per
            second.
        gigabytes: memory, of 10^9 bytes.
    """

    tflops: float
    gigabytes: float


#: By name. If a data sheet states a peak "with sparsity", half of it stands here.
GPUS: dict[str, Gpu] = {
    "t4": Gpu(65, 16),  # NVIDIA T4 data sheet: fp16
    "v100": Gpu(125, 32),  # NVIDIA V100 data sheet, SXM2: fp16; there are some of 16 GB
    "l4": Gpu(121, 24),  # NVIDIA L4 data sheet: 242 with sparsity
    "a10": Gpu(125, 24),  # NVIDIA A10 data sheet
    "a100": Gpu(312, 80),  # NVIDIA A100 80GB data sheet; there are some of 40 GB
    "l40s": Gpu(362, 48),  # NVIDIA L40S data sheet
    "h100": Gpu(989, 80),  # NVIDIA H100 data sheet, SXM: 1,979 with sparsity
    "h200": Gpu(989, 141),  # NVIDIA H200 data sheet, SXM: 1,979 with sparsity
    "b200": Gpu(2250, 180),  # NVIDIA HGX B200 data sheet: 36,000 with sparsity for eight
}


def gpu_named(name: str) -> Gpu:
    """Return the GPU of a name.

    Raises:
        UserError: there is none.
    """
    if name.lower() in GPUS:
        return GPUS[name.lower()]
    close = difflib.get_close_matches(name.lower(), GPUS, n=1)
    hint = f" Did you mean {close[0]}?" if close else ""
    raise UserError(f"--gpu is {name!r}, which is not in the table.{hint} Choose one of {', '.join(GPUS)}.")
