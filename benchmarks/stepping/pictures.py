"""Pictures that are made up, with the spectrum of photographs: rough at every scale, and coloured.

Shape legend: B images, H and W height and width, S side of a canvas, C columns of parameters.
"""

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn.functional import interpolate

from hardviews.train.loader import RawBatch
from hardviews.views import device, host
from hardviews.views.params import draw
from hardviews.views.plan import Plan, Slot
from stepping.stepper import raw_batch

# As the photographs of ImageNet are, many of them.
SIDES = ((375, 500), (500, 375), (333, 500), (400, 400))
_CHUNK = 16  # views that are rendered at once


def picture(number: int, height: int, width: int) -> npt.NDArray[np.uint8]:
    """Return a picture (H, W, 3); the number is its seed."""
    generator = torch.Generator().manual_seed(number)
    total = torch.zeros(1, 3, height, width)
    cells = 2
    while cells < max(height, width):
        # Octaves of equal strength for each doubling of the frequency: the spectrum falls as that of photographs.
        grey, colour = (torch.randn(1, depth, cells, cells, generator=generator) for depth in (1, 3))
        octave = interpolate(grey + 0.3 * colour, (height, width), mode="bicubic")
        total += octave * cells**-0.5
        cells *= 2
    unit = torch.sigmoid(1.2 * (total - total.mean()) / total.std())
    pixels: npt.NDArray[np.uint8] = (unit[0] * 255).round().byte().permute(1, 2, 0).contiguous().numpy()
    return pixels


def pictures(batch: int, side: int) -> list[npt.NDArray[np.uint8]]:
    """Return B pictures of the proportions of photographs, at most `side` pixels a side."""
    shapes = [(side * h // 500, side * w // 500) for h, w in SIDES]
    return [picture(number, *shapes[number % len(shapes)]) for number in range(batch)]


def on_canvases(plan: Plan, images: list[npt.NDArray[np.uint8]], side: int) -> RawBatch:
    """Return a batch of canvases (B, 3, S, S), and rows (B, C) of every candidate, as the loader ships them."""
    canvas = torch.from_numpy(np.stack([host.lay(image, side, side) for image in images]))
    return raw_batch(_rows(plan, images), {None: canvas})


def rendered(plan: Plan, images: list[npt.NDArray[np.uint8]], side: int, where: torch.device) -> RawBatch:
    """Return a batch of views, rendered on a device and left there as uint8."""
    shipped = on_canvases(plan, images, side)
    canvas = shipped.pixels[None].to(where)
    pixels: dict[Slot | None, Tensor] = {}
    for slot, rows in shipped.rows.items():
        augmentation = plan.pool(slot.pool).augmentation
        parts = [
            device.render(some, some_rows, augmentation)
            for some, some_rows in zip(canvas.split(_CHUNK), rows.to(where).split(_CHUNK), strict=True)
        ]
        unit = augmentation.normalisation.denormalise(torch.cat(parts))
        pixels[slot] = (unit * 255).round().clamp(0, 255).byte()
    return raw_batch(shipped.rows, pixels)


def _rows(plan: Plan, images: list[npt.NDArray[np.uint8]]) -> dict[Slot, Tensor]:
    height, width = (np.array([image.shape[axis] for image in images]) for axis in (0, 1))
    position = np.arange(len(images))
    return {
        slot: torch.from_numpy(
            draw(plan.pool(slot.pool).augmentation, 0, 0, position, plan.view_number(slot), height, width)
        )
        for slot in plan.candidates
    }
