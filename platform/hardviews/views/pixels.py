"""Pixels of a batch of views: rendered in advance, or on demand from a canvas and parameters.

Shape legend: B samples, H height, W width, S side of a canvas, C columns of parameters.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import torch
from torch import Tensor

from hardviews.views import device
from hardviews.views.augmentation import Augmentation, Normalisation
from hardviews.views.halved import Halved
from hardviews.views.params import geometry


class Pixels(Protocol):
    """The pixels of a view."""

    def pixels(self, size: int | None = None) -> Tensor:
        """Return normalised float pixels (B, 3, H, W), at the view's own size by default."""
        ...

    def pick(self, others: Sequence["Pixels"], choice: Tensor) -> "Pixels":
        """Return the source whose row i is row i of others[choice[i]]."""
        ...

    def geometry(self) -> "Pixels":
        """Return the same crops and flips without colours, blur and solarisation."""
        ...


@dataclass(frozen=True, eq=False)
class Crops:
    """Pixels that were rendered in advance: uint8, or normalised float (B, 3, H, W).

    `plain` are the same views rendered without colours, at any size, for scoring.
    """

    tensor: Tensor
    normalisation: Normalisation
    plain: Tensor | None = None

    def pixels(self, size: int | None = None) -> Tensor:
        """Return normalised pixels, resized with antialiasing if another size is requested."""
        pixels = self.tensor
        if pixels.dtype == torch.uint8:
            pixels = self.normalisation.normalise(pixels)
        if size is not None and pixels.shape[-1] != size:
            pixels = torch.nn.functional.interpolate(pixels, (size, size), mode="bilinear", antialias=True)
        return pixels.contiguous(memory_format=torch.channels_last)

    def pick(self, others: Sequence[Pixels], choice: Tensor) -> "Crops":
        """Gather rows; all others must be crops of the same size."""
        tensors = [other.tensor for other in others if isinstance(other, Crops)]
        return Crops(pick_rows(tensors, choice), self.normalisation)

    def geometry(self) -> "Crops":
        """Return the crops that were rendered without colours.

        Raises:
            ValueError: there are none.
        """
        if self.plain is None:
            raise ValueError("These crops were rendered with colours alone; their pool's `geometry` is None.")
        return Crops(self.plain, self.normalisation)


@dataclass(frozen=True, eq=False)
class Canvas:
    """A canvas (B, 3, S, S) uint8 and the parameters (B, C) of the views to be cut from it.

    A choice among views of the same canvases moves parameters, not pixels: only the chosen views are rendered in full.
    `copies` are smaller copies of these canvases, which all views share; None renders every view from the canvas.
    """

    canvas: Tensor
    rows: Tensor
    augmentation: Augmentation
    copies: Halved | None = None

    def pixels(self, size: int | None = None) -> Tensor:
        """Render normalised pixels (B, 3, size, size); sizes below the view's own come from a smaller copy."""
        if self.copies is None or size is None or size >= self.augmentation.size:
            return device.render(self.canvas, self.rows, self.augmentation, size)
        copy, times = self.copies.for_views(self.augmentation, size)
        return device.render(copy, self.rows, self.augmentation, size, times)

    def pick(self, others: Sequence[Pixels], choice: Tensor) -> "Canvas":
        """Return the canvas with row i of others[choice[i]]'s parameters."""
        return replace(self, rows=pick_rows([other.rows for other in others if isinstance(other, Canvas)], choice))

    def geometry(self) -> "Canvas":
        """Return the canvas with rows that do not change colours."""
        return replace(self, rows=geometry(self.rows), augmentation=self.augmentation.geometry)


def pick_rows(tensors: Sequence[Tensor], choice: Tensor) -> Tensor:
    """Return the tensor whose row i is row i of tensors[choice[i]]."""
    out = tensors[0]
    choice = choice.to(out.device, non_blocking=True).reshape(-1, *[1] * (out.ndim - 1))
    for k, tensor in enumerate(tensors[1:], start=1):
        # Not by an index of the chosen rows, which would wait for the device.
        out = torch.where(choice == k, tensor, out)
    return out
