"""Figures of a run, as pure functions of plain numbers; drawn off screen.

Colours are from Okabe and Ito (2008), which colour-blind readers can distinguish.
"""

import math
from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter

from hardviews.tracking.text import drawable

CHOSEN, PASSED_OVER, NEUTRAL = "#D55E00", "#0072B2", "#595959"
ATTACKED, MIXED = "#CC79A7", "#009E73"
_KINDS = (PASSED_OVER, ATTACKED, MIXED, CHOSEN, "#E69F00", "#56B4E9")
_LINES = ("-", "--", "-.", ":")
Numbers = Sequence[float] | npt.NDArray[np.floating]
# Steps and values of one metric.
Curve = tuple[Sequence[float], Sequence[float]]


def learning_curves(curves: Mapping[str, Curve], title: str = "Learning curves", smooth: int = 15) -> Figure:
    """Return one panel for each metric over samples seen: pale values, and their running mean over `smooth` points.

    Values that are not finite leave a gap.
    """
    columns = min(3, max(1, len(curves)))
    rows = max(1, math.ceil(len(curves) / columns))
    figure = Figure(figsize=(4.2 * columns, 2.6 * rows + 0.5), dpi=110, layout="constrained")
    figure.suptitle(title, x=0.01, ha="left", fontweight="bold")
    for number, (name, (steps, values)) in enumerate(curves.items(), 1):
        axes = figure.add_subplot(rows, columns, number)
        x, y = np.asarray(steps, float), np.asarray(values, float)
        many = len(y) > 2 * smooth
        axes.plot(x, y, color=PASSED_OVER, alpha=0.3 if many else 1.0, linewidth=1.0 if many else 1.6)
        if many:
            axes.plot(x, running_mean(y, smooth), color=PASSED_OVER, linewidth=1.8)
        axes.set_title(name, loc="left", fontsize=10)
        tidy(axes)
        axes.xaxis.set_major_formatter(EngFormatter(sep=""))
        if number > len(curves) - columns:
            axes.set_xlabel("samples seen")
    return figure


def iou_histogram(chosen: Numbers, passed_over: Numbers, title: str = "Overlap of view pairs") -> Figure:
    """Return the distributions of the IoU (0 to 1) of chosen and passed-over pairs, with their means."""
    figure = Figure(figsize=(6.0, 3.6), dpi=110, layout="constrained")
    axes = figure.add_subplot()
    edges = np.linspace(0, 1, 26).tolist()
    means = []
    for name, values, colour in (
        ("passed-over pairs", passed_over, PASSED_OVER),
        ("chosen pairs", chosen, CHOSEN),
    ):
        array = np.asarray(values, float)
        array = array[np.isfinite(array)]
        if not len(array):
            continue
        means.append(array.mean())
        weights = np.full(len(array), 100 / len(array))
        label = f"{name}: mean {array.mean():.3f} (n = {len(array):,})"
        axes.hist(array, edges, weights=weights, color=colour, alpha=0.25)
        axes.hist(array, edges, weights=weights, color=colour, histtype="step", linewidth=1.6, label=label)
        axes.axvline(array.mean(), color=colour, linestyle="--", linewidth=1.4)
    axes.set_xlim(0, 1)
    axes.set_xlabel("IoU of the two crops")
    axes.set_ylabel("share of pairs (%)")
    axes.set_title(title, loc="left", fontweight="bold")
    if means:
        axes.set_ylim(0, 1.3 * axes.get_ylim()[1])  # room for the legend
        axes.legend(framealpha=1, edgecolor="none", fontsize=9, loc="upper right")
    tidy(axes)
    return figure


def least_overlap_share(steps: Sequence[float], shares: Numbers, chance: float) -> Figure:
    """Return the share of hardest pairs that overlap least, over samples seen, beside chance.

    `shares` are from 0 to 1; `chance` is 1 / number of pairs, so 1/6 for four views.
    """
    figure = Figure(figsize=(6.0, 3.4), dpi=110, layout="constrained")
    axes = figure.add_subplot()
    percent = 100 * np.asarray(shares, float)
    x = np.asarray(steps, float)
    many = len(percent) > 30
    axes.plot(x, percent, color=CHOSEN, alpha=0.35 if many else 1.0, linewidth=1.2)
    if many:
        axes.plot(x, running_mean(percent, 15), color=CHOSEN, linewidth=1.9)
    axes.axhline(100 * chance, color=NEUTRAL, linestyle="--", linewidth=1.3)
    axes.annotate(
        f"chance ({100 * chance:.1f} %)",
        (1, 100 * chance),
        xycoords=("axes fraction", "data"),
        xytext=(-4, 4),
        textcoords="offset points",
        ha="right",
        color=NEUTRAL,
        fontsize=9,
    )
    highest = float(np.max(percent[np.isfinite(percent)], initial=100 * chance))
    axes.set_ylim(0, min(100.0, 1.25 * highest))
    axes.xaxis.set_major_formatter(EngFormatter(sep=""))
    axes.set_xlabel("samples seen")
    axes.set_ylabel("share of images (%)")
    axes.set_title("Hardest pair is the least overlapping one", loc="left", fontweight="bold")
    tidy(axes)
    return figure


def margin_histogram(
    margins: Mapping[str, Numbers], title: str = "How near views lie to the decision boundary"
) -> Figure:
    """Return the distributions of margins (in logits) by kind of view, the boundary at 0, with their medians.

    Kinds differ in colour and line. Margins that are not finite are left out; the axis shows all but the outermost 0.5
    % of each kind.
    """
    figure = Figure(figsize=(7.0, 4.2), dpi=110, layout="constrained")
    axes = figure.add_subplot()
    arrays = {name: np.asarray(values, float) for name, values in margins.items()}
    arrays = {name: values[np.isfinite(values)] for name, values in arrays.items()}
    arrays = {name: values for name, values in arrays.items() if len(values)}
    ends = [np.quantile(values, [0.005, 0.995]) for values in arrays.values()] or [np.array([-1.0, 1.0])]
    low, high = min(0.0, *(end[0] for end in ends)), max(0.0, *(end[1] for end in ends))
    room = 0.04 * (high - low or 1.0)
    # An edge lies on the boundary, so that no bar has views of both sides.
    width = (high - low + 2 * room) / 44
    edges = (width * np.arange(math.floor((low - room) / width), math.ceil((high + room) / width) + 1)).tolist()
    for number, (name, values) in enumerate(arrays.items()):
        colour, line = _KINDS[number % len(_KINDS)], _LINES[number % len(_LINES)]
        weights = np.full(len(values), 100 / len(values))
        shown = np.clip(values, edges[0], edges[-1])
        median, wrong = float(np.median(values)), 100 * float((values < 0).mean())
        label = f"{name}: median {median:.2f}, {wrong:.0f} % below 0 (n = {len(values):,})"
        axes.hist(shown, edges, weights=weights, color=colour, alpha=0.16)
        axes.hist(
            shown, edges, weights=weights, color=colour, histtype="step", linewidth=1.8, linestyle=line, label=label
        )
        axes.plot(
            [median], [0], marker="^", markersize=9, color=colour, clip_on=False, zorder=5, markeredgecolor="white"
        )
    axes.axvline(0, color="black", linewidth=1.4)
    axes.set_xlim(edges[0], edges[-1])
    headroom = 1.2 + 0.11 * max(1, len(arrays))  # room for the legend, and the text below it
    axes.set_ylim(0, max(1.0, headroom * axes.get_ylim()[1]))
    left = -edges[0] / (edges[-1] - edges[0])
    for text, side, space in (("\u2190 another label  ", "right", left), ("  its own label \u2192", "left", 1 - left)):
        if space > 0.18:
            axes.annotate(
                *(text, (0, 1.03 / headroom)), xycoords=("data", "axes fraction"), ha=side, color=NEUTRAL, fontsize=9
            )
    axes.set_xlabel("margin: logit of the own label less the best other one (triangles: medians)")
    axes.set_ylabel("share of views (%)")
    axes.set_title(title, loc="left", fontweight="bold")
    if arrays:
        axes.legend(framealpha=1, edgecolor="none", fontsize=9, loc="upper left")
    tidy(axes)
    return figure


def confusion_matrix(counts: npt.NDArray[np.integer], classes: Sequence[str], title: str) -> Figure:
    """Return a matrix of true classes (rows) against predicted ones, as shares of each row in per cent.

    Cells and names are written out for up to 20 classes. A name may be any text.
    """
    classes = [drawable(name) for name in classes]
    total = counts.sum(1, keepdims=True)
    percent = 100 * counts / np.maximum(total, 1)
    few = len(classes) <= 20
    side = 2.6 + 0.42 * len(classes) if few else 7.0
    figure = Figure(figsize=(side + 1.0, side), dpi=110, layout="constrained")
    axes = figure.add_subplot()
    image = axes.imshow(percent, cmap="Blues", vmin=0, vmax=100)
    accuracy = 100 * np.trace(counts) / max(1, counts.sum())
    axes.set_title(f"{title}: {accuracy:.1f} % correct", loc="left", fontsize=10, fontweight="bold")
    axes.set_xlabel("predicted")
    axes.set_ylabel("true")
    if few:
        long = max(map(len, classes), default=0) > 3
        axes.set_xticks(range(len(classes)), classes, rotation=45 if long else 0, ha="right" if long else "center")
        axes.set_yticks(range(len(classes)), classes)
        for (row, column), value in np.ndenumerate(percent):
            if value >= 0.5:
                colour = "white" if value > 55 else "black"
                axes.text(column, row, f"{value:.0f}", ha="center", va="center", fontsize=7, color=colour)
    figure.colorbar(image, label="share of the true class (%)", shrink=0.8)
    return figure


def running_mean(values: npt.NDArray[np.float64], width: int) -> npt.NDArray[np.float64]:
    """Return the mean of the finite values among `width` points around each point, fewer at the ends."""
    finite = np.isfinite(values)
    total = np.concatenate([[0.0], np.cumsum(np.where(finite, values, 0.0))])
    count = np.concatenate([[0], np.cumsum(finite)])
    at = np.arange(len(values))
    first, last = np.maximum(at - width // 2, 0), np.minimum(at + width // 2 + 1, len(values))
    number = count[last] - count[first]
    mean: npt.NDArray[np.float64] = np.where(number > 0, (total[last] - total[first]) / np.maximum(number, 1), np.nan)
    return mean


def tidy(axes: Axes) -> None:
    """Remove the useless frame, and draw a pale grid behind."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(alpha=0.25, linewidth=0.6)
    axes.set_axisbelow(True)
