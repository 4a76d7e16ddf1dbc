"""Tensors with their description in one file: safetensors, whose metadata holds JSON; no pickle."""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor

_KEY = "hardviews"

UNREADABLE = (SafetensorError, KeyError, TypeError, ValueError, RuntimeError)
"""Errors of a file that is cut, foreign, or holds tensors of another description."""


def to_text(description: Mapping[str, Any]) -> str:
    """Return a description as JSON, the same for equal descriptions."""
    return json.dumps(description, indent=1, sort_keys=True)


def to_bytes(state: Mapping[str, Tensor], description: Mapping[str, Any]) -> bytes:
    """Return the bytes of the file."""
    held = {key: value.detach().cpu().contiguous() for key, value in state.items()}
    # transformers refuses a file without a note that its tensors are PyTorch's.
    return safetensors.torch.save(held, metadata={_KEY: to_text(description), "format": "pt"})


def of_bytes(data: bytes) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Return tensors and description.

    Raises:
        SafetensorError, KeyError, TypeError, ValueError: one of `UNREADABLE`.
    """
    # The file begins with the length of its header, 8 bytes, little-endian; the header is JSON.
    length = int.from_bytes(data[:8], "little")
    description: dict[str, Any] = json.loads(json.loads(data[8 : 8 + length])["__metadata__"][_KEY])
    return safetensors.torch.load(data), description


def digest(description: Mapping[str, Any], state: Mapping[str, Tensor]) -> str:
    """Return the SHA-256 (hexadecimal) of a description and of tensors, by name."""
    found = hashlib.sha256(json.dumps(description, sort_keys=True).encode())
    for key in sorted(state):
        value = state[key].detach().cpu().contiguous()
        found.update(f"{key} {value.dtype} {tuple(value.shape)}\n".encode())
        found.update(value.reshape(-1).view(torch.uint8).numpy().data)
    return found.hexdigest()
