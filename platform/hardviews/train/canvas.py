"""Views rendered on the device, from one canvas an image."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from torch import Tensor

from hardviews.batch import Source, pick_rows
from hardviews.views import device
from hardviews.views.augmentation import Augmentation


@dataclass(frozen=True, eq=False)
class Canvas:
    """A canvas (B, 3, S, S) uint8 and the parameters (B, C) of the views to be cut from it.

    Choosing among views of the same canvases moves parameters, not pixels: only the winners are rendered in full.
    """

    canvas: Tensor
    rows: Tensor
    augmentation: Augmentation

    def pixels(self, size: int | None = None) -> Tensor:
        """Render normalised pixels (B, 3, size, size)."""
        return device.render(self.canvas, self.rows, self.augmentation, size)

    def pick(self, others: Sequence[Source], choice: Tensor) -> "Canvas":
        """Return the canvas with row i of others[choice[i]]'s parameters."""
        return replace(self, rows=pick_rows([other.rows for other in others if isinstance(other, Canvas)], choice))
