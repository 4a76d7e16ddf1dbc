"""Features of the views of an assignment and of their differences, for a regression, from their rows alone.

Shape legend: A assignments, B samples, C columns of a row, F features, Q pairs of candidates.
"""

from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from hardviews.views.geometry import centre_distance, iou
from hardviews.views.params import Column
from hardviews.views.plan import Pair, Plan, Slot, candidate_pairs

if TYPE_CHECKING:
    from hardviews.batch import View

_OF_A_VIEW = (
    "log of the share of the image's area",
    "brightness",
    "contrast",
    "saturation",
    "size of the hue's shift",
    "grey",
    "blur",
    "solarised",
)
_OF_A_PAIR = (
    "intersection over union",
    "distance of the centres",
    "difference in log area",
    "difference in log aspect ratio",
    "difference in brightness",
    "difference in contrast",
    "difference in saturation, if both have colours",
    "difference in hue, if both have colours",
    "one of them grey",
    "both grey",
    "difference in blur",
    "one of them solarised",
    "one of them mirrored",
)
#: Meaning of each feature, in order.
FEATURES = (
    *(f"{name} (first view)" for name in _OF_A_VIEW),
    *(f"{name} (second view)" for name in _OF_A_VIEW),
    *_OF_A_PAIR,
)


def global_pairs(plan: Plan, pairs: Sequence[Pair]) -> list[Pair]:
    """Return the method's pairs of two global views, each once; all pairs of global views if it has none.

    A pair keeps its direction if the method has only this direction. The list is empty if there is only one global
    view.
    """
    slots = [slot for slot in plan.slots if plan.pool(slot.pool).target]
    joined = {(p.online, p.target) for p in pairs if p.online != p.target and {p.online, p.target} <= set(slots)}
    once = {(a, b) for a, b in joined if (b, a) not in joined or a < b}
    return [Pair(a, b, 1.0) for a, b in sorted(once) or combinations(slots, 2)]


def pair_features(
    views: Mapping[Slot, "View"], slots: Sequence[Slot], pairs: Sequence[Pair], table: Tensor
) -> Tensor | None:
    """Return the features (A, B, F) of assignments (A, S): means over pairs of views; None if a view has no row."""
    found, within_AP = candidate_pairs(slots, pairs, table)
    sides: list[Tensor] = []
    for side in ("online", "target"):
        rows = [views[getattr(pair, side)].rows for pair in found]
        present = [row for row in rows if row is not None]
        if len(present) < len(rows):
            return None
        sides.append(torch.stack(present))
    features_QBF = _features(*sides)
    total_ABF = features_QBF.new_zeros(len(table), *features_QBF.shape[1:])
    for row_A in within_AP.T.to(features_QBF.device, non_blocking=True):
        total_ABF = total_ABF + features_QBF[row_A]
    return total_ABF / len(pairs)


def _features(first: Tensor, second: Tensor) -> Tensor:
    """Compare rows (..., C) of two views: (..., F) float64."""
    a, b = first.double(), second.double()

    def difference(column: Column) -> Tensor:
        return (a[..., column] - b[..., column]).abs()

    coloured = (1 - a[..., Column.GRAY]) * (1 - b[..., Column.GRAY])
    hue = difference(Column.HUE)
    aspects = [torch.log(rows[..., Column.WIDTH] / rows[..., Column.HEIGHT]) for rows in (a, b)]
    of_pair = [
        iou(a, b),
        centre_distance(a, b),
        (_log_area(a) - _log_area(b)).abs(),
        (aspects[0] - aspects[1]).abs(),
        difference(Column.BRIGHTNESS),
        difference(Column.CONTRAST),
        difference(Column.SATURATION) * coloured,
        torch.minimum(hue, 1 - hue) * coloured,  # the whole circle is one turn
        difference(Column.GRAY),
        a[..., Column.GRAY] * b[..., Column.GRAY],
        difference(Column.SIGMA),
        difference(Column.SOLARISE),
        difference(Column.FLIP),
    ]
    return torch.stack([*_of_view(a), *_of_view(b), *of_pair], dim=-1)


def _of_view(rows: Tensor) -> list[Tensor]:
    columns = (Column.BRIGHTNESS, Column.CONTRAST, Column.SATURATION)
    return [
        _log_area(rows),
        *(rows[..., column] for column in columns),
        rows[..., Column.HUE].abs(),
        *(rows[..., column] for column in (Column.GRAY, Column.SIGMA, Column.SOLARISE)),
    ]


def _log_area(rows: Tensor) -> Tensor:
    area = rows[..., Column.HEIGHT] * rows[..., Column.WIDTH]
    return torch.log(area / (rows[..., Column.SOURCE_HEIGHT] * rows[..., Column.SOURCE_WIDTH]))
