"""The reference renderer: one view of one image on the host, in uint8.

Crop, antialiased resize, flip, colour, grayscale, blur, solarise, in this order (DINO's; the flip commutes
with what follows).

Difference from torchvision's transforms.v2.functional with the same numbers, as mean absolute difference out of 255
over photographs (tests/views/test_host.py has these bounds):

* crop and resize (the same kernel), flip, solarise: 0; blur: 0.1, nowhere above 1;
* brightness, contrast, saturation or grayscale alone: 0.6, nowhere above 1 (torchvision truncates, this rounds);
* hue alone: 0.6 (OpenCV's 8-bit HSV);
* a whole view of MoCo v2 or DINO: 2.2, of SimCLR with its strong colours: 3.5. The linear colour operations before the
  hue shift are one matrix, and so are the operations after it, without torchvision's clamps in between. If a strong
  contrast or brightness drives a view into the clamps, it differs by up to 25.
"""

import math
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import torch

from hardviews.views.augmentation import Augmentation
from hardviews.views.params import ORDERS, Column

Image = npt.NDArray[np.uint8]

# ITU-R 601 luma as torchvision rounds it.
LUMA = (0.2989, 0.587, 0.114)


def render(image: Image, row: npt.NDArray[Any], augmentation: Augmentation) -> Image:
    """Render the view `row` (C,) of `image` (H, W, 3): uint8 (3, size, size), contiguous."""
    top, left, height, width = (int(row[c]) for c in (Column.TOP, Column.LEFT, Column.HEIGHT, Column.WIDTH))
    crop = image[top : top + height, left : left + width]
    view = _resize(crop, augmentation.size, augmentation.size, augmentation.interpolation)
    if row[Column.FLIP]:
        view = np.asarray(cv2.flip(view, 1), np.uint8)
    view = _jitter(view, row)
    if row[Column.GRAY]:
        view = _transform(view, np.tile(LUMA, (3, 1)), np.zeros(3))
    if row[Column.SIGMA]:
        sigma = float(row[Column.SIGMA])
        side = 2 * math.ceil(3 * sigma) + 1
        blurred = cv2.GaussianBlur(view, (side, side), sigma, borderType=cv2.BORDER_REFLECT_101)
        view = np.asarray(blurred, np.uint8)
    if row[Column.SOLARISE]:
        view = np.where(view >= augmentation.threshold, 255 - view, view)
    return _planes(view)


def lay(image: Image, height: int, width: int) -> Image:
    """Lay a whole image (H, W, 3) at the top left of a canvas (3, height, width), for the device renderer.

    An image that is too large is shrunk in its proportions.
    """
    h, w = image.shape[:2]
    scale = min(1.0, height / h, width / w)
    h, w = max(1, round(h * scale)), max(1, round(w * scale))  # views/device.py computes the same numbers
    canvas = np.zeros((3, height, width), np.uint8)
    canvas[:, :h, :w] = _planes(_resize(image, h, w, "bilinear"))
    return canvas


def _resize(image: Image, height: int, width: int, interpolation: str) -> Image:
    if image.shape[:2] == (height, width):
        return image
    # torch's vectorised uint8 kernel needs channels last.
    batch = torch.from_numpy(np.ascontiguousarray(image)).permute(2, 0, 1)[None]
    resized = torch.nn.functional.interpolate(batch, size=(height, width), mode=interpolation, antialias=True)
    return resized[0].permute(1, 2, 0).numpy()


def _jitter(view: Image, row: npt.NDArray[Any]) -> Image:
    """Apply brightness, contrast, saturation and hue in the row's order; linear neighbours are one matrix."""
    matrix, offset = np.eye(3), np.zeros(3)
    mean = cv2.mean(view)[:3] if row[Column.CONTRAST] != 1 else (0.0, 0.0, 0.0)
    for operation in ORDERS[int(row[Column.ORDER])]:
        value = float(row[operation])
        if operation == Column.HUE and value != 0:
            view = _shift_hue(_transform(view, matrix, offset), value)
            matrix, offset = np.eye(3), np.zeros(3)
            mean = cv2.mean(view)[:3] if row[Column.CONTRAST] != 1 else mean
        elif operation == Column.BRIGHTNESS:
            matrix, offset = value * matrix, value * offset
        elif operation == Column.CONTRAST:
            grey = np.dot(LUMA, matrix @ mean + offset)
            matrix, offset = value * matrix, value * offset + (1 - value) * grey
        elif operation == Column.SATURATION:
            mixing = value * np.eye(3) + (1 - value) * np.tile(LUMA, (3, 1))
            matrix, offset = mixing @ matrix, mixing @ offset
    return _transform(view, matrix, offset)


def _transform(view: Image, matrix: npt.NDArray[Any], offset: npt.NDArray[Any]) -> Image:
    if not offset.any() and (matrix == np.eye(3)).all():
        return view
    affine = np.column_stack([matrix, offset]).astype(np.float32)
    return np.asarray(cv2.transform(view, affine), np.uint8)


def _shift_hue(view: Image, turns: float) -> Image:
    hsv = np.asarray(cv2.cvtColor(view, cv2.COLOR_RGB2HSV_FULL), np.uint8)
    # uint8 wraps round like the colour circle, whose turn is 256 steps here.
    hsv[..., 0] += np.uint8(round(turns * 256) % 256)
    return np.asarray(cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB_FULL), np.uint8)


def _planes(view: Image) -> Image:
    """Return (H, W, 3) as (3, H, W), several times faster than numpy's copy of the transpose."""
    planes = np.empty((3, *view.shape[:2]), np.uint8)
    cv2.split(view, list(planes))
    return planes
