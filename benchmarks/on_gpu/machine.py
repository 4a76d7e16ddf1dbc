"""The machine that is measured."""

import os
import platform
import sys
from collections.abc import Iterator
from typing import Any

import timm
import torch
import torchvision

from hardviews.estimate.gpus import GPUS

_TERA = 1e12


def machine() -> Iterator[dict[str, Any]]:
    """Yield a description of the machine, and use its GPU for the first time if there is one."""
    facts: dict[str, Any] = {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "torchvision": torchvision.__version__,
        "timm": timm.__version__,
        "cuda": torch.version.cuda,
        "cores": os.cpu_count(),
        "gpu": None,
    }
    if torch.cuda.is_available():
        torch.ones(8, 8, device="cuda").matmul(torch.ones(8, 8, device="cuda")).sum().item()
        properties = torch.cuda.get_device_properties(0)
        facts |= {
            "gpu": properties.name,
            "gib": properties.total_memory / 2**30,
            "capability": f"{properties.major}.{properties.minor}",
            "cudnn": torch.backends.cudnn.version(),
        }
    yield facts


def peak_of(name: str | None) -> float | None:
    """Return the dense peak in bfloat16 of a card, by its name; None if it is not known.

    The names are those of NVIDIA's driver, for example `NVIDIA A100-SXM4-80GB`. PCIe cards of the same name reach less,
    and are not known.
    """
    if name is None or ("PCIe" in name and "A100" not in name):
        return None
    words = name.lower().replace("-", " ").split()
    return next((GPUS[word].tflops * _TERA for word in words if word in GPUS), None)


def described(facts: dict[str, Any]) -> str:
    """Return the machine in a line."""
    gpu = f"{facts['gpu']}, {facts['gib']:.0f} GiB" if facts["gpu"] else "no GPU"
    versions = ", ".join(f"{name} {facts[name]}" for name in ("torch", "timm", "python"))
    return f"{gpu}, {facts['cores']} cores, {versions} on {sys.platform}"
