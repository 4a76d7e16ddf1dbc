"""The linear classifier exported with an encoder: logits of classes from its features, and the classes' names.

Shape suffixes: N images, D features, L classes.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from hardviews.models.described_file import UNREADABLE, digest, of_bytes, to_bytes

_FORMAT = "hardviews classifier 1"


@dataclass(frozen=True, eq=False)
class Classifier:
    """A linear classifier of features, float32, on the host.

    `names` are the names of the classes, in order. The last classes have no name if the dataset had fewer; no class has
    a name if the names are unknown.
    """

    weight_LD: Tensor
    bias_L: Tensor
    names: tuple[str, ...] = ()

    @staticmethod
    def of(state: Mapping[str, Tensor], names: Sequence[str] = ()) -> "Classifier":
        """Return the classifier of a linear layer's state: `weight`, and `bias` if it has one.

        Raises:
            ValueError: the tensors do not belong to a linear layer, or there are more names than classes.
        """
        held = {key: value.detach().float().cpu().clone() for key, value in state.items()}
        weight_LD = held.get("weight", torch.empty(0))
        bias_L = held.get("bias", torch.zeros(len(weight_LD)))
        if not held.keys() <= {"weight", "bias"} or weight_LD.dim() != 2 or bias_L.shape != weight_LD.shape[:1]:
            raise ValueError("the classifier is not a linear layer")
        if len(names) > len(weight_LD):
            raise ValueError(f"{len(names)} names for {len(weight_LD)} classes")
        return Classifier(weight_LD, bias_L, tuple(names))

    def __len__(self) -> int:
        """L: the number of classes."""
        return len(self.weight_LD)

    @property
    def num_features(self) -> int:
        """D: the width of the features."""
        return self.weight_LD.shape[1]

    def logits(self, features_ND: Tensor) -> Tensor:
        """Return logits (N, L) of features, in float32, on the features' device."""
        device = features_ND.device
        return F.linear(features_ND.float(), self.weight_LD.to(device), self.bias_L.to(device))

    @property
    def digest(self) -> str:
        """SHA-256 of weights and names."""
        return digest({"names": list(self.names)}, self._state())

    def describe(self) -> dict[str, Any]:
        """Return the description for the encoder's files: digest, sizes, and names of the classes in order."""
        return {
            "format": _FORMAT,
            "digest": self.digest,
            "classes": len(self),
            "names": list(self.names),
            "num_features": self.num_features,
        }

    def to_bytes(self) -> bytes:
        """Return the bytes of `classifier.safetensors`."""
        return to_bytes(self._state(), self.describe())

    @staticmethod
    def of_bytes(data: bytes) -> "Classifier":
        """Return the classifier of a file.

        Raises:
            ValueError: the file is cut or foreign, or its weights do not match the digest in it.
        """
        try:
            state, description = of_bytes(data)
            found = Classifier.of(state, description["names"])
            if found.digest != description["digest"]:
                raise ValueError("its weights do not match its digest")
        except UNREADABLE as error:
            raise ValueError(str(error)) from error
        return found

    def _state(self) -> dict[str, Tensor]:
        return {"weight": self.weight_LD, "bias": self.bias_L}
