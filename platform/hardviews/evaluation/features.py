"""Features of a packed dataset under a frozen encoder, or under what it is compared with.

Shape suffixes: N samples, B a batch of them, C channels, H rows, W columns, D features; HWC an image as it is decoded.
"""

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Literal, TypeVar

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from hardviews.checked import OPTION, at_least, require
from hardviews.data.sample import Sample
from hardviews.errors import UserError
from hardviews.models.encoder import Encoder
from hardviews.ordered_map import ordered_map
from hardviews.progress import progress
from hardviews.views.decode import DecodeError, decode

Source = Literal["pretrained", "untrained", "pixels"]
Embed = Callable[[Tensor], Tensor]
# Raw pixels are compared at this side at most: 3072 numbers an image.
_PIXELS_SIDE = 32
# Images of a longer side than so many short sides are cropped before they are resized: resized as a whole, a strip of
# one pixel by 30000 would take gigabytes.
_LONGEST = 16
# Encoders of images up to this side see them whole; larger ones see the centre, 7/8 of the short side.
_SMALL_SIDE = 96
# Images that may be decoded and wait, for each thread.
_AHEAD = 64


@dataclass(frozen=True)
class Preprocess:
    """How an image becomes the encoder's input: short side to `resize` pixels, then the central `crop`
    square.
    """

    resize: int = 256
    crop: int = 224

    def __post_init__(self) -> None:
        require(self, OPTION, resize=at_least(1), crop=at_least(1))
        if self.crop > self.resize:
            raise UserError(
                f"Evaluation: the crop ({self.crop} pixels) must be at most the resized short side ({self.resize}); "
                "give --crop and --resize accordingly."
            )

    @staticmethod
    def of(image_size: int, resize: int | None = None, crop: int | None = None) -> "Preprocess":
        """The usual one for an encoder of that size (224: resize 256), where not given otherwise."""
        crop = image_size if crop is None else crop
        if resize is None:
            resize = crop if crop <= _SMALL_SIDE else round(crop * 8 / 7)
        return Preprocess(resize, crop)

    def __call__(self, data: bytes) -> Tensor:
        """Encoded bytes to a uint8 image (3, crop, crop); raises DecodeError."""
        pixels_HWC = decode(data)
        height, width = pixels_HWC.shape[:2]
        scale = self.resize / min(height, width)
        size = (max(round(height * scale), self.crop), max(round(width * scale), self.crop))
        top, left = (size[0] - self.crop) // 2, (size[1] - self.crop) // 2
        if max(size) > _LONGEST * self.resize:
            return _resized_crop(pixels_HWC, size, top, left, self.crop)
        image_1CHW = torch.from_numpy(pixels_HWC).permute(2, 0, 1)[None]
        if size != (height, width):
            image_1CHW = F.interpolate(image_1CHW, size, mode="bicubic", antialias=True, align_corners=False)
        return image_1CHW[0, :, top : top + self.crop, left : left + self.crop].contiguous()


def _resized_crop(pixels_HWC: npt.NDArray[np.uint8], size: tuple[int, int], top: int, left: int, crop: int) -> Tensor:
    """Return the square (3, crop, crop) at (top, left) of the image resized to `size`, which is never made as a whole.

    Pillow's bicubic filter is that of torch, so only rounding differs from resizing the whole: by 2 of 255 at most.
    """
    window, box = [], []
    for length, resized, start in zip(pixels_HWC.shape[:2], size, (top, left), strict=True):
        step = length / resized  # pixels of the image for a pixel of the result
        reach = math.ceil(2 * max(step, 1.0)) + 1  # of the filter, which must not end at the window's edges
        first = max(0, math.floor(start * step) - reach)
        window.append(slice(first, min(length, math.ceil((start + crop) * step) + reach)))
        box.append((start * step - first, min((start + crop) * step, length) - first))
    image = Image.fromarray(np.ascontiguousarray(pixels_HWC[window[0], window[1]]))
    (upper, lower), (before, after) = box
    cut = image.resize((crop, crop), Image.Resampling.BICUBIC, box=(before, upper, after, lower))
    return torch.from_numpy(np.array(cut)).permute(2, 0, 1).contiguous()


@dataclass(frozen=True, eq=False)
class Features:
    """Features (N, D) float32 and labels (N,) int64, on the host, in the order of the dataset's index."""

    values_ND: Tensor
    labels_N: Tensor

    def __len__(self) -> int:
        return len(self.labels_N)


def embedding(source: Source, encoder: Encoder, seed: int = 0) -> Embed:
    """Return what maps uint8 images (B, 3, H, W) to features (B, D).

    pretrained: the encoder; untrained: its architecture with random weights drawn from `seed`; pixels: the
    images themselves, made small.
    """
    if source == "pretrained":
        return encoder.embed
    if source == "untrained":
        device = next(encoder.parameters()).device
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            fresh = Encoder(encoder.backbone, encoder.normalisation, None, encoder.image_size)
        return fresh.to(device).eval().embed
    return raw_pixels


def raw_pixels(images_BCHW: Tensor) -> Tensor:
    """Flatten uint8 images (B, C, H, W) to floats in [0, 1], at 32 x 32 pixels at most."""
    pixels_BCHW = images_BCHW.float() / 255
    if pixels_BCHW.shape[-1] > _PIXELS_SIDE:
        pixels_BCHW = F.interpolate(pixels_BCHW, (_PIXELS_SIDE, _PIXELS_SIDE), mode="area")
    return pixels_BCHW.flatten(1)


def extract(
    samples: Iterable[Sample],
    total: int,
    embed: Embed,
    preprocess: Preprocess,
    *,
    batch_size: int = 256,
    workers: int = 4,
    title: str = "features",
) -> Features:
    """Return the features of all samples, `total` at most.

    Images are decoded by `workers` threads, a few batches ahead. Raises UserError for a sample without a
    label or one that cannot be decoded (the reader has checked its bytes, so it was never an image).
    """

    def load(sample: Sample) -> tuple[int, int, Tensor]:
        if sample.label < 0:
            raise UserError(
                f"Evaluation needs labels, and {sample.key!r} has none. Pack the dataset from a folder of "
                "class folders, or evaluate on another one."
            )
        try:
            return sample.index, sample.label, preprocess(sample.data)
        except DecodeError as error:
            raise UserError(
                f"The image {sample.key!r} cannot be decoded ({error}). Pack the dataset again: packing "
                "leaves out what it cannot decode."
            ) from error

    indices: list[int] = []
    labels: list[int] = []
    values_ND = torch.empty(0, 0)
    workers = max(1, workers)
    loaded = ordered_map(load, samples, workers, ahead=_AHEAD * workers)
    with torch.no_grad():
        for batch in _batches(progress(loaded, total, title), batch_size):
            values_BD = embed(torch.stack([image for _, _, image in batch]))
            if not indices:
                # One allocation: a list of parts and their concatenation would take twice the memory.
                values_ND = torch.empty(total, values_BD.shape[1])
            values_ND[len(indices) : len(indices) + len(batch)] = values_BD
            indices += [index for index, _, _ in batch]
            labels += [label for _, label, _ in batch]
    if not indices:
        raise UserError("Evaluation: the dataset is empty; pack at least one image of each class.")
    values_ND, labels_N = values_ND[: len(indices)], torch.tensor(labels)
    if indices != sorted(indices):
        order_N = torch.tensor(indices).argsort(stable=True)
        values_ND, labels_N = values_ND[order_N], labels_N[order_N]
    if not torch.isfinite(values_ND).all():
        raise UserError("Evaluation: the encoder returned features that are not finite; its training diverged.")
    return Features(values_ND, labels_N)


T = TypeVar("T")


def _batches(items: Iterable[T], size: int) -> Iterator[list[T]]:
    iterator = iter(items)
    while batch := list(islice(iterator, size)):
        yield batch
