"""The way in which candidates are encoded for scoring."""

from collections.abc import Collection
from dataclasses import dataclass

from hardviews.views.plan import Slot


@dataclass(frozen=True)
class Look:
    """Settings of scoring; by default candidates are encoded as in training.

    Attributes:
        size: lower resolution; None for the views' own.
        together: whether all candidates of one size are normalised as one batch.
        move_statistics: whether BatchNorm's running statistics move.
        plain: candidates that are only cropped and flipped.
        kept: slots whose views are trained on for any choice: inside a step they are encoded for training, and the
            score reads these encodings.
    """

    size: int | None = None
    together: bool = False
    move_statistics: bool = False
    plain: Collection[Slot] = ()
    kept: Collection[Slot] = ()


AS_TRAINED = Look()
