"""How candidates are looked at when they are scored."""

from collections.abc import Collection
from dataclasses import dataclass

from hardviews.views.plan import Slot


@dataclass(frozen=True)
class Look:
    """Settings of scoring; by default candidates are seen as they would be trained on.

    Attributes:
        size: a lower resolution; None for the views' own.
        together: normalise all candidates of one size as one batch.
        move_statistics: let BatchNorm's running statistics move.
        plain: candidates that are seen as cropped and flipped alone.
        kept: slots whose views are trained on whatever is chosen: inside a step they are encoded for training, as they
            are, and the score reads that.
    """

    size: int | None = None
    together: bool = False
    move_statistics: bool = False
    plain: Collection[Slot] = ()
    kept: Collection[Slot] = ()


AS_TRAINED = Look()
