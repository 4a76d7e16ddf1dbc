"""How an encoded image becomes the input of a frozen encoder.

Shape suffixes: C channels, H rows, W columns; HWC an image as it is decoded.
"""

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from hardviews.checked import OPTION, at_least, require
from hardviews.errors import UserError
from hardviews.views.decode import decode

# An image whose longer side exceeds this many short sides is cropped before its resize: otherwise a strip of one pixel
# by 30000 would take gigabytes.
_LONGEST = 16
# Encoders of images up to this side see them whole; larger ones see the centre, 7/8 of the short side.
_SMALL_SIDE = 96


@dataclass(frozen=True)
class Preprocess:
    """The encoder's input from an image: short side to `resize` pixels, then the central `crop` square.

    `interpolation` is the filter of the antialiased resize.
    """

    resize: int = 256
    crop: int = 224
    interpolation: Literal["bilinear", "bicubic"] = "bicubic"

    def __post_init__(self) -> None:
        require(self, OPTION, resize=at_least(1), crop=at_least(1))
        if self.crop > self.resize:
            raise UserError(
                f"Evaluation: the crop ({self.crop} pixels) must be at most the resized short side ({self.resize}); "
                "give --crop and --resize accordingly."
            )

    @staticmethod
    def of(
        image_size: int,
        resize: int | None = None,
        crop: int | None = None,
        interpolation: Literal["bilinear", "bicubic"] = "bicubic",
    ) -> "Preprocess":
        """Return the usual settings for an encoder of that size (224: resize 256), unless they are given."""
        crop = image_size if crop is None else crop
        if resize is None:
            resize = crop if crop <= _SMALL_SIDE else round(crop * 8 / 7)
        return Preprocess(resize, crop, interpolation)

    def __call__(self, data: bytes) -> Tensor:
        """Decode bytes to a uint8 image (3, crop, crop); raise DecodeError."""
        return self.of_pixels(decode(data))

    def of_pixels(self, pixels_HWC: npt.NDArray[np.uint8]) -> Tensor:
        """Pixels (H, W, 3) to a uint8 image (3, crop, crop)."""
        height, width = pixels_HWC.shape[:2]
        scale = self.resize / min(height, width)
        size = (max(round(height * scale), self.crop), max(round(width * scale), self.crop))
        top, left = (size[0] - self.crop) // 2, (size[1] - self.crop) // 2
        if max(size) > _LONGEST * self.resize:
            return _resized_crop(pixels_HWC, size, top, left, self)
        image_1CHW = torch.from_numpy(pixels_HWC).permute(2, 0, 1)[None]
        if size != (height, width):
            image_1CHW = F.interpolate(image_1CHW, size, mode=self.interpolation, antialias=True, align_corners=False)
        return image_1CHW[0, :, top : top + self.crop, left : left + self.crop].contiguous()


def _resized_crop(
    pixels_HWC: npt.NDArray[np.uint8], size: tuple[int, int], top: int, left: int, how: Preprocess
) -> Tensor:
    """Return the square (3, crop, crop) at (top, left) of the image resized to `size`, which is never made as a whole.

    Pillow's filters equal torch's, so only rounding differs from a resize of the whole image: by 2 of 255 at most.
    """
    crop, filter_ = how.crop, Image.Resampling[how.interpolation.upper()]
    window, box = [], []
    for length, resized, start in zip(pixels_HWC.shape[:2], size, (top, left), strict=True):
        step = length / resized  # pixels of the image for a pixel of the result
        reach = math.ceil(2 * max(step, 1.0)) + 1  # reach of the filter, which must not end at the window's edges
        first = max(0, math.floor(start * step) - reach)
        window.append(slice(first, min(length, math.ceil((start + crop) * step) + reach)))
        box.append((start * step - first, min((start + crop) * step, length) - first))
    image = Image.fromarray(np.ascontiguousarray(pixels_HWC[window[0], window[1]]))
    (upper, lower), (before, after) = box
    cut = image.resize((crop, crop), filter_, box=(before, upper, after, lower))
    return torch.from_numpy(np.array(cut)).permute(2, 0, 1).contiguous()
