"""An encoder for images of any kind: arrays, PIL images, paths.

Shape suffixes: B images, H rows, W columns, C channels, D features, L classes.
"""

import io
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor

from hardviews.errors import UserError
from hardviews.evaluation.features.preprocess import Preprocess
from hardviews.models.encoder import Encoder
from hardviews.models.encoder import load as load_encoder
from hardviews.views.decode import DecodeError, decode

AnyImage = str | os.PathLike[str] | bytes | Image.Image | npt.NDArray[np.uint8] | Tensor


@dataclass(frozen=True, eq=False)
class LoadedEncoder:
    """A frozen encoder, and how images become its input."""

    encoder: Encoder
    preprocess: Preprocess

    @property
    def num_features(self) -> int:
        """D: the width of the features."""
        return self.encoder.num_features

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes of its classifier; empty without a classifier."""
        classifier = self.encoder.classifier
        return () if classifier is None else tuple(classifier.names)

    def embed(self, images: AnyImage | Sequence[AnyImage], batch: int = 64) -> npt.NDArray[np.float32]:
        """Return features (B, D) of images, (D,) of a single one.

        `images`: paths, encoded bytes, PIL images, arrays uint8 (H, W, C) or tensors uint8 (C, H, W), of any sizes; or
        an array (B, H, W, C) or tensor (B, C, H, W). Each is resized and cropped as evaluations do.

        Raises:
            UserError: something is no image; it says which.
        """
        alone = _is_one(images)
        listed: Sequence[Any] = [images] if alone else images  # type: ignore[assignment]
        found = [self.encoder.embed(torch.stack(some)).cpu().numpy() for some in self._batches(listed, batch)]
        features_BD = np.concatenate(found) if found else np.zeros((0, self.num_features), np.float32)
        return features_BD[0] if alone else features_BD

    def classify(self, images: AnyImage | Sequence[AnyImage], batch: int = 64) -> npt.NDArray[np.float32]:
        """Return the probability (B, L) of each class for images, (L,) for a single one; images as `embed` takes them.

        Raises:
            UserError: the encoder has no classifier, or something is no image.
        """
        classifier = self.encoder.classifier
        if classifier is None:
            raise UserError(
                "This encoder has no classifier: only a training by labels leaves one (hardviews.finetune, or a recipe "
                "with a supervised method)."
            )
        logits = classifier.logits(torch.from_numpy(self.embed(images, batch)))
        return logits.softmax(-1).cpu().numpy()

    def to(self, device: str | torch.device) -> "LoadedEncoder":
        """Move the network to a device, and return this."""
        self.encoder.to(device)
        return self

    def _batches(self, images: Sequence[Any], size: int) -> Iterator[list[Tensor]]:
        for first in range(0, len(images), size):
            yield [
                self.preprocess.of_pixels(_pixels(image, first + n))
                for n, image in enumerate(images[first : first + size])
            ]


def load(run: str | os.PathLike[str]) -> LoadedEncoder:
    """Return the encoder of a training, of an import, or of an encoder's file, by its path or URL.

    Raises:
        UserError: there is no encoder.
    """
    encoder = load_encoder(run).eval()
    return LoadedEncoder(encoder, Preprocess.of(encoder.image_size, interpolation=encoder.interpolation))


def _is_one(images: Any) -> bool:
    if isinstance(images, str | os.PathLike | bytes | Image.Image):
        return True
    return isinstance(images, np.ndarray | Tensor) and images.ndim in (2, 3)


def _pixels(image: Any, number: int) -> npt.NDArray[np.uint8]:
    """Return an image as uint8 (H, W, 3)."""
    if isinstance(image, Image.Image):
        return np.array(image.convert("RGB"))
    if isinstance(image, str | os.PathLike | bytes):
        return _decoded(image, number)
    if isinstance(image, Tensor):
        image = (image.permute(1, 2, 0) if image.ndim == 3 else image).cpu().numpy()
    if not isinstance(image, np.ndarray) or image.dtype != np.uint8:
        kind = f"{image.dtype} array" if isinstance(image, np.ndarray) else type(image).__name__
        raise UserError(
            f"Image {number} is a {kind}: give paths, PIL images, or pixels from 0 to 255 as uint8 (H, W, C)."
        )
    if image.ndim == 2 or image.shape[-1] == 1:
        image = np.repeat(image.reshape(*image.shape[:2], 1), 3, axis=2)
    if image.ndim != 3 or image.shape[-1] not in (3, 4):
        raise UserError(
            f"Image {number} has the shape {image.shape}: give arrays of shape (H, W, 3) or (H, W), or tensors of "
            "shape (3, H, W)."
        )
    return np.ascontiguousarray(image[..., :3])


def _decoded(image: str | os.PathLike[str] | bytes, number: int) -> npt.NDArray[np.uint8]:
    name = f"image {number}" if isinstance(image, bytes) else os.fspath(image)
    try:
        data = image if isinstance(image, bytes) else io.FileIO(image).readall()
        return decode(data)
    except OSError as error:
        raise UserError(f"{name} cannot be read ({error.strerror}).") from error
    except DecodeError as error:
        raise UserError(f"{name} is not an image that can be decoded ({error}).") from error
