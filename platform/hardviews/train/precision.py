"""The device and the precision of a step."""

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from hardviews.errors import UserError
from hardviews.models.momentum import MomentumEncoder


@dataclass(frozen=True)
class Precision:
    """The device and the precision of matrix products.

    Attributes:
        device: device of the training; `auto` takes a GPU if there is one.
        compute: number format of matrix products; `auto` takes bfloat16 on a GPU that has it. `float64` is for
            comparisons. Rounding differs with the number of processes. Choices, such as the hardest pair or the sign of
            a gradient, turn small differences into large ones within a few dozen steps, unless they begin at 1e-16.
            With `bfloat16` on a CPU with matrix units (AMX), torch 2.15 has a fault: convolutions of stride 2 over a
            map of one pixel give unused weights random gradients from memory. Choose views so large that no such map
            occurs.
    """

    device: Literal["auto", "cpu", "cuda"] = "auto"
    compute: Literal["auto", "float32", "bfloat16", "float64"] = "auto"

    def choose_device(self, local_rank: int) -> torch.device:
        """Return this process's device.

        Raises:
            UserError: a GPU is asked for and there is none, or there are more processes than GPUs.
        """
        if self.device == "cpu" or (self.device == "auto" and not torch.cuda.is_available()):
            return torch.device("cpu")
        if not torch.cuda.is_available():
            raise UserError(
                "The recipe asks for a GPU (precision.device is cuda), but torch sees none on this machine. Run it "
                "where there is one, or pass --precision.device cpu (or auto)."
            )
        if local_rank >= torch.cuda.device_count():
            raise UserError(
                f"Process {local_rank + 1} of this node finds only {torch.cuda.device_count()} GPUs. Start one process "
                "for each GPU (the last number of -j), or pass --precision.device cpu."
            )
        return torch.device("cuda", local_rank)

    def autocast(self, device: torch.device) -> AbstractContextManager[object]:
        """Return the context for a step's forward passes."""
        wanted = self.compute
        if wanted == "auto":
            wanted = "bfloat16" if device.type == "cuda" and torch.cuda.is_bf16_supported() else "float32"
        if wanted in ("float32", "float64"):
            return nullcontext()
        return torch.autocast(device.type, torch.bfloat16)

    def cast(self, module: nn.Module, backbone: nn.Module) -> None:
        """Convert the module's weights to the precision, and the images for its backbone."""
        if self.compute == "float64":
            module.double()
            encoders = [encoder for encoder in module.modules() if isinstance(encoder, MomentumEncoder)]
            followers = [encoder.get_submodule("backbone") for encoder in encoders if hasattr(encoder, "backbone")]
            for network in (backbone, *followers):
                network.register_forward_pre_hook(_double)


def _double(module: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    return tuple(tensor.double() for tensor in inputs)
