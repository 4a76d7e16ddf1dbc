"""Differences of two views of an image, computed from their rows.

Shape legend: B samples, C columns of a row. Rows may have any leading dimensions; the last is C.
"""

from torch import Tensor, stack
from torch.linalg import vector_norm

from hardviews.views.params import Column


def boxes(rows: Tensor) -> Tensor:
    """Return top, left, bottom and right of the source rectangle in source pixels: (..., C) to (..., 4)."""
    top, left = rows[..., Column.TOP], rows[..., Column.LEFT]
    return stack([top, left, top + rows[..., Column.HEIGHT], left + rows[..., Column.WIDTH]], dim=-1)


def iou(rows_a: Tensor, rows_b: Tensor) -> Tensor:
    """Return the intersection over union of two views' source rectangles: (..., C) twice to (...) in [0, 1]."""
    a, b = boxes(rows_a), boxes(rows_b)
    low = a[..., :2].maximum(b[..., :2])
    high = a[..., 2:].minimum(b[..., 2:])
    intersection = (high - low).clamp(min=0).prod(dim=-1)
    return intersection / (_area(rows_a) + _area(rows_b) - intersection)


def centre_distance(rows_a: Tensor, rows_b: Tensor) -> Tensor:
    """Return the distance of the rectangles' centres over the image's diagonal: (..., C) twice to (...) in [0, 1)."""
    a, b = boxes(rows_a), boxes(rows_b)
    offset = (a[..., :2] + a[..., 2:] - b[..., :2] - b[..., 2:]) / 2
    diagonal = vector_norm(rows_a[..., Column.SOURCE_HEIGHT : Column.SOURCE_WIDTH + 1], dim=-1)
    distance: Tensor = vector_norm(offset, dim=-1) / diagonal
    return distance


def colour_distance(rows_a: Tensor, rows_b: Tensor) -> Tensor:
    """Return the Euclidean distance of brightness, contrast, saturation and hue: (..., C) twice to (...)."""
    colours = slice(Column.BRIGHTNESS, Column.HUE + 1)
    distance: Tensor = vector_norm(rows_a[..., colours] - rows_b[..., colours], dim=-1)
    return distance


def _area(rows: Tensor) -> Tensor:
    return rows[..., Column.HEIGHT] * rows[..., Column.WIDTH]
