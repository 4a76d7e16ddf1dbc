"""Views side by side in groups, readable at a small size."""

import math
from collections.abc import Sequence

from matplotlib.figure import Figure

from hardviews.tracking.examples import Tile
from hardviews.tracking.figures import CHOSEN

_GROUPS = 4  # number in a row
_CELL, _TITLE = 1.3, 0.34  # inches


def contact_sheet(groups: Sequence[Sequence[Tile]], title: str) -> Figure:
    """Return groups of tiles, four in a row, all with as many tiles as the first."""
    together = len(groups[0]) if groups else 1
    columns = min(_GROUPS, max(1, len(groups)))
    rows = max(1, math.ceil(len(groups) / columns))
    # A gap of a sixth of a tile between groups.
    ratios = ([1.0] * together + [0.16]) * columns
    height = rows * _CELL * 1.16 + _TITLE
    figure = Figure(figsize=(max(3.5, _CELL * sum(ratios)), height), dpi=110)
    figure.suptitle(title, x=0.012, y=1 - 0.08 / height, ha="left", va="top", fontweight="bold", fontsize=12)
    grid = figure.add_gridspec(
        *(rows, len(ratios)),
        width_ratios=ratios,
        left=0.012,
        right=0.988,
        top=1 - (_TITLE + 0.2) / height,
        bottom=0.02,
        wspace=0.05,
        hspace=0.22,
    )
    for number, group in enumerate(groups):
        row, place = divmod(number, columns)
        for offset, tile in enumerate(group):
            axes = figure.add_subplot(grid[row, place * (together + 1) + offset])
            axes.imshow(tile.pixels, interpolation="nearest" if min(tile.pixels.shape[:2]) < 64 else "antialiased")
            axes.set_xticks([])
            axes.set_yticks([])
            for spine in axes.spines.values():
                spine.set(color=CHOSEN, linewidth=1.6)
            if tile.caption:
                axes.set_title(tile.caption, fontsize=8, pad=3, loc="left")
    return figure
