"""A picture of training views: images with their chosen, rejected, attacked and mixed views."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from hardviews.tracking.examples import Example, Image, Tile
from hardviews.tracking.figures import ATTACKED, CHOSEN, MIXED, NEUTRAL, PASSED_OVER
from hardviews.tracking.text import drawable


@dataclass(frozen=True, eq=False)
class _Cell:
    tile: Tile
    colour: str


def gallery(examples: Sequence[Example], title: str = "Hard views") -> Figure:
    """Return the examples one a row: the original with the boxes of its views, then the views group by group.

    A perturbation is shown amplified around mid-grey, with the factor above it.
    """
    factor = _amplification(examples)
    table = [_groups(example, factor) for example in examples]
    # The width of each group is its width in the longest row.
    names = list(dict.fromkeys(name for groups in table for name in groups))
    order = [name for name in _ORDER if any(n.startswith(name) for n in names)]
    titles = {key: next(name for name in names if name.startswith(key)) for key in order}
    widths = {key: max(len(groups.get(titles[key], ())) for groups in table) for key in order}
    columns = 1 + sum(widths.values())
    # A gap of a sixth of a tile between groups.
    ratios = [1.25] + [ratio for key in order for ratio in [0.14] + [1.0] * widths[key]]
    cell = 1.25
    height = cell * 1.22 * max(1, len(examples)) + 0.85
    figure = Figure(figsize=(max(4.5, cell * sum(ratios) + 0.3), height), dpi=110)
    top = 1 - 0.78 / height
    grid = figure.add_gridspec(
        max(1, len(examples)),
        columns + len(order),
        width_ratios=ratios,
        left=0.012,
        right=0.988,
        top=top,
        bottom=0.02,
        wspace=0.1,
        hspace=0.24,
    )
    figure.suptitle(title, x=0.012, y=1 - 0.08 / height, ha="left", va="top", fontweight="bold", fontsize=12)
    for row, (example, groups) in enumerate(zip(examples, table, strict=True)):
        axes = figure.add_subplot(grid[row, 0])
        _draw_original(axes, example)
        if row == 0:
            _heading(figure, axes, axes, "original", NEUTRAL)
        column = 1
        for key in order:
            column += 1
            cells = groups.get(titles[key], ())
            drawn = []
            for offset in range(widths[key]):
                axes = figure.add_subplot(grid[row, column + offset])
                drawn.append(axes)
                if offset < len(cells):
                    _draw(axes, cells[offset])
                else:
                    axes.set_axis_off()
            if row == 0:
                _heading(figure, drawn[0], drawn[-1], titles[key], _ORDER[key])
            column += widths[key]
    return figure


# Groups in the order of columns, with the colour of their frames.
_ORDER = {
    "random views": PASSED_OVER,
    "chosen": CHOSEN,
    "passed over": PASSED_OVER,
    "adversarial": ATTACKED,
    "mixed": MIXED,
}


def amplified(clean: Image, attacked: Image, factor: float) -> Image:
    """Return the difference of two views of one size, times `factor`, around mid-grey."""
    difference = attacked.astype(np.float32) - clean.astype(np.float32)
    shown: Image = np.clip(128 + factor * difference, 0, 255).astype(np.uint8)
    return shown


def _amplification(examples: Sequence[Example]) -> float:
    """Return the largest factor for which all perturbations fit, a power of two at most 64."""
    largest = max(
        (
            float(np.abs(attacked.pixels.astype(np.float32) - clean.pixels.astype(np.float32)).max())
            for example in examples
            for clean, attacked in example.attacked
        ),
        default=0.0,
    )
    return float(2 ** int(np.clip(np.log2(127 / max(largest, 1.0)), 0, 6)))


def _groups(example: Example, factor: float) -> dict[str, tuple[_Cell, ...]]:
    attacked = []
    for clean, hard in example.attacked:
        shown = amplified(clean.pixels, hard.pixels, factor)
        attacked += [
            _Cell(Tile(clean.pixels, clean.caption or "clean"), NEUTRAL),
            _Cell(Tile(hard.pixels, hard.caption or "attacked"), ATTACKED),
            _Cell(Tile(shown, f"difference x {factor:.0f}"), ATTACKED),
        ]
    groups = {
        "random views": tuple(_Cell(tile, PASSED_OVER) for tile in example.random),
        "chosen (hardest pair)": tuple(_Cell(tile, CHOSEN) for tile in example.chosen),
        "passed over": tuple(_Cell(tile, PASSED_OVER) for tile in example.passed_over),
        "adversarial": tuple(attacked),
        "mixed": tuple(_Cell(tile, MIXED) for tile in example.mixed),
    }
    return {name: cells for name, cells in groups.items() if cells}


def _draw_original(axes: Axes, example: Example) -> None:
    axes.imshow(example.original, interpolation="nearest" if min(example.original.shape[:2]) < 64 else "antialiased")
    height, width = example.original.shape[:2]
    marked = [(tile, PASSED_OVER, "--", 1.1) for tile in (*example.random, *example.passed_over)]
    marked += [(tile, CHOSEN, "-", 1.8) for tile in example.chosen]
    for tile, colour, line, thickness in marked:
        if tile.box is not None:
            top, left, box_height, box_width = tile.box
            corner = (left - 0.5, top - 0.5)
            # A white line below keeps the box visible on any picture.
            for shade, extra in (("white", 1.4), (colour, 0.0)):
                axes.add_patch(
                    Rectangle(
                        *(corner, box_width, box_height),
                        fill=False,
                        edgecolor=shade,
                        linestyle="-" if shade == "white" else line,
                        linewidth=thickness + extra,
                        clip_on=False,
                    )
                )
            if tile.mark:
                axes.text(
                    *(left, top, tile.mark),
                    fontsize=6,
                    color="white",
                    va="top",
                    ha="left",
                    bbox={"boxstyle": "square,pad=0.15", "facecolor": colour, "edgecolor": "none"},
                )
    axes.set_xlim(-0.5, width - 0.5)
    axes.set_ylim(height - 0.5, -0.5)
    axes.set_axis_off()
    if example.name:
        axes.set_title(drawable(example.name), fontsize=7, pad=2)


def _draw(axes: Axes, cell: _Cell) -> None:
    pixels = cell.tile.pixels
    axes.imshow(pixels, interpolation="nearest" if min(pixels.shape[:2]) < 64 else "antialiased")
    axes.set_xticks([])
    axes.set_yticks([])
    for spine in axes.spines.values():
        spine.set(color=cell.colour, linewidth=2.0)
    if cell.tile.caption:
        axes.set_title(cell.tile.caption, fontsize=7, pad=3)


def _heading(figure: Figure, first: Axes, last: Axes, text: str, colour: str) -> None:
    left, right = first.get_position().x0, last.get_position().x1
    y = 1 - 0.56 / figure.get_size_inches()[1]
    figure.text((left + right) / 2, y, text, ha="center", va="bottom", fontsize=9, fontweight="bold", color=colour)
