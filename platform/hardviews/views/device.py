"""The batched renderer: one view of every image of a batch, each with parameters of its own, on any device.

It makes the same operations in the same order as the host, in float32 without rounding in between. Operations along the
height or the width are matrices built from the row: crop with antialiased resize and flip, and blur. Each costs two
batched products. Operations on colours are a 3x4 matrix before the hue shift and one after it. Nothing here waits for
the device.

If the canvas is at least as large as its source, the picture differs little from the host's. The mean absolute
difference out of 255 is 0.35 for geometry, 0.45 with linear colours, and 0.75 with a hue shift, which the host makes in
8 bits. No single view differs by 2 (tests/views/test_device.py has these bounds). On a smaller canvas the source is
shrunk first, and also loses detail.

Shape legend: B samples, C columns of a row, H and W height and width of the canvas, N side of the view, T
taps of the blur.
"""

import functools
import math

import torch
from torch import Tensor

from hardviews.views.augmentation import Augmentation
from hardviews.views.host import LUMA
from hardviews.views.params import ORDERS, Column


def render(canvas: Tensor, rows: Tensor, augmentation: Augmentation, size: int | None = None, times: int = 1) -> Tensor:
    """Render rows (B, C) drawn from `augmentation` on canvases (B, 3, H, W): normalised float32 (B, 3, N, N).

    A canvas is uint8 and holds the whole source image in the layout of `host.lay`. With `size` the same view is
    rendered at that side instead of the augmentation's own, with a blur that shrinks too. A pixel of the given canvas
    is `times` pixels of the original canvas (`hardviews.views.halved`). The result is channels_last.
    """
    side = size or augmentation.size
    rows = rows.to(canvas.device, torch.float32, non_blocking=True)
    # Autocast would make the products in bfloat16, which has only 256 levels, like the canvas.
    with torch.autocast(canvas.device.type, enabled=False):
        return _render(canvas, rows, augmentation, side, times)


def _render(canvas: Tensor, rows: Tensor, augmentation: Augmentation, side: int, times: int) -> Tensor:
    pixels = _crop(canvas.to(torch.float32) / 255, rows, side, augmentation.interpolation, times)
    pixels = _jitter(pixels, rows, hue=augmentation.jitter.hue > 0)
    if augmentation.grayscale > 0:
        grey = (pixels * _luma(pixels.device).reshape(3, 1, 1)).sum(dim=1, keepdim=True)
        pixels = torch.where(_per_sample(rows[:, Column.GRAY]) > 0, grey, pixels)
    if augmentation.blur > 0:
        blur = _blur_matrices(rows[:, Column.SIGMA] * (side / augmentation.size), augmentation.sigma[1], side)
        pixels = blur @ pixels @ blur.mT
    if augmentation.solarise > 0:
        # Values that 8 bits would round to the threshold or above.
        bright = pixels >= (augmentation.threshold - 0.5) / 255
        pixels = torch.where(bright & (_per_sample(rows[:, Column.SOLARISE]) > 0), 1 - pixels, pixels)
    return augmentation.normalisation.normalise(pixels).contiguous(memory_format=torch.channels_last)


def _crop(pixels: Tensor, rows: Tensor, side: int, interpolation: str, times: int) -> Tensor:
    """Crop, resize and flip (B, 3, H, W) to (B, 3, N, N)."""
    height, width = pixels.shape[-2:]
    sources = rows[:, Column.SOURCE_HEIGHT], rows[:, Column.SOURCE_WIDTH]
    to_height, to_width = (ratio_B / times for ratio_B in laid(*sources, height * times, width * times))
    vertical_BNH = _resize_matrices(
        rows[:, Column.TOP] * to_height, rows[:, Column.HEIGHT] * to_height, height, side, interpolation
    )
    horizontal_BNW = _resize_matrices(
        rows[:, Column.LEFT] * to_width, rows[:, Column.WIDTH] * to_width, width, side, interpolation
    )
    flipped = rows[:, Column.FLIP, None, None] > 0
    horizontal_BNW = torch.where(flipped, horizontal_BNW.flip(1), horizontal_BNW)
    cropped = vertical_BNH[:, None] @ pixels @ horizontal_BNW[:, None].mT
    # The cubic filter overshoots.
    return cropped.clamp(0, 1) if interpolation == "bicubic" else cropped


def laid(high_B: Tensor, wide_B: Tensor, height: int, width: int) -> tuple[Tensor, Tensor]:
    """Return the factors (B,) by which heights and widths of images changed on a canvas."""
    sides = high_B.double(), wide_B.double()
    scale_B = torch.minimum(height / sides[0], width / sides[1]).clamp(max=1)
    first, second = (((side * scale_B).round().clamp(min=1) / side).float() for side in sides)
    return first, second


def _resize_matrices(start: Tensor, length: Tensor, pixels: int, side: int, interpolation: str) -> Tensor:
    """Return weights (B, N, pixels) of torch's antialiased resize of [start, start + length) to N = side pixels.

    start and length (B,) are in pixels and may be fractions: a pixel counts by its part that lies inside.
    """
    scale = (length / side)[:, None, None]
    stretch = scale.clamp(min=1)
    ahead = torch.arange(side, device=start.device, dtype=torch.float32)[None, :, None] + 0.5
    edges = torch.arange(pixels, device=start.device, dtype=torch.float32)[None, None] - start[:, None, None]
    inside = torch.minimum(edges + 1, length[:, None, None]) - edges.clamp(min=0)
    distance = ((edges + 0.5 - ahead * scale) / stretch).abs()
    weight = _cubic(distance) if interpolation == "bicubic" else (1 - distance).clamp(min=0)
    weight = weight * inside.clamp(0, 1)
    return weight / weight.sum(dim=-1, keepdim=True)


def _cubic(distance: Tensor) -> Tensor:
    """Return the cubic convolution with a = -1/2 (Keys 1981), which Pillow and torch use for antialiasing."""
    near = (1.5 * distance - 2.5) * distance * distance + 1
    far = ((-0.5 * distance + 2.5) * distance - 4) * distance + 2
    return torch.where(distance < 1, near, torch.where(distance < 2, far, torch.zeros_like(distance)))


def _jitter(pixels: Tensor, rows: Tensor, hue: bool) -> Tensor:
    """Apply brightness, contrast, saturation and hue in each sample's own order to (B, 3, N, N) in [0, 1]."""
    order = _orders(rows.device)[rows[:, Column.ORDER].long()]
    hue_at = (order == Column.HUE).int().argmax(dim=1)
    if not hue:
        # Nothing separates the linear operations.
        return _colour(pixels, rows, order, [hue_at != place for place in range(4)])
    pixels = _colour(pixels, rows, order, [hue_at > place for place in range(4)])
    pixels = _shift_hue(pixels, rows[:, Column.HUE])
    return _colour(pixels, rows, order, [hue_at < place for place in range(4)])


def _colour(pixels: Tensor, rows: Tensor, order: Tensor, active: list[Tensor]) -> Tensor:
    """Apply the linear operations of the places of `order` that are `active` (B,), as one product; clamp."""
    batch = len(pixels)
    luma = _luma(pixels.device)
    identity = torch.eye(3, device=pixels.device, dtype=pixels.dtype)
    matrix, offset = identity.expand(batch, 3, 3), pixels.new_zeros(batch, 3, 1)
    mean = pixels.mean(dim=(2, 3))[..., None]
    for place, here in enumerate(active):
        operation = order[:, place]
        value = torch.where(here, rows.gather(1, operation[:, None])[:, 0], 1.0)[:, None, None]
        to_grey = torch.where((operation == Column.SATURATION)[:, None, None], 1 - value, 0.0) * luma
        mixing = value * identity + to_grey
        grey = luma @ (matrix @ mean + offset)
        constant = torch.where((operation == Column.CONTRAST)[:, None, None], (1 - value) * grey, 0.0)
        matrix, offset = mixing @ matrix, mixing @ offset + constant
    return torch.baddbmm(offset, matrix, pixels.flatten(2)).clamp(0, 1).reshape(pixels.shape)


def _shift_hue(pixels: Tensor, turns: Tensor) -> Tensor:
    """Turn the hue of (B, 3, N, N) in [0, 1] by turns (B,) in HSV."""
    red, green, blue = pixels.unbind(1)
    low, value = torch.aminmax(pixels, dim=1)
    chroma = value - low
    # Grey has no hue; any value works, since its chroma is 0.
    divisor = torch.where(chroma > 0, chroma, 1.0)
    sixth = torch.where(
        value == red,
        (green - blue) / divisor,
        torch.where(value == green, (blue - red) / divisor + 2, (red - green) / divisor + 4),
    )
    sixth = sixth + 6 * turns[:, None, None]
    channels = []
    for shift in (5, 3, 1):
        wedge = torch.remainder(sixth + shift, 6)
        channels.append(value - chroma * torch.minimum(wedge, 4 - wedge).clamp(0, 1))
    return torch.stack(channels, dim=1)


def _blur_matrices(sigma: Tensor, largest: float, side: int) -> Tensor:
    """Return Gaussian blurs along an axis, mirrored at the edge pixels: sigma (B,), 0 for none, to (B, 1, N, N)."""
    radius = math.ceil(3 * largest)
    taps_T = torch.arange(-radius, radius + 1, device=sigma.device)
    sigma_B1 = sigma[:, None]
    weight_BT = torch.exp(-0.5 * (taps_T / sigma_B1.clamp(min=1e-3)) ** 2)
    weight_BT = weight_BT * (taps_T.abs() <= (3 * sigma_B1).ceil())
    weight_BT = weight_BT / weight_BT.sum(dim=1, keepdim=True)
    # The place of a tap of output pixel n: fold the line at 0 and at N - 1, several times if it is short.
    period = max(1, 2 * (side - 1))
    folded_TN = (torch.arange(side, device=sigma.device) + taps_T[:, None]) % period
    landing_TN = torch.minimum(folded_TN, period - folded_TN) if side > 1 else folded_TN
    basis_TNN = (landing_TN[..., None] == torch.arange(side, device=sigma.device)).to(weight_BT.dtype)
    return torch.einsum("bt,tnm->bnm", weight_BT, basis_TNN)[:, None]


# Constants are copied to a device once: every such copy waits for it.
@functools.cache
def _luma(device: torch.device) -> Tensor:
    with torch.inference_mode(False):
        return torch.tensor([LUMA], device=device, dtype=torch.float32)


@functools.cache
def _orders(device: torch.device) -> Tensor:
    with torch.inference_mode(False):
        return torch.tensor(ORDERS, device=device)


def _per_sample(values: Tensor) -> Tensor:
    return values[:, None, None, None]
