"""The life of a run: its learning curve with every restart marked, and below it the number of processes."""

from itertools import pairwise

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, MaxNLocator

from hardviews.tracking.figures import CHOSEN, NEUTRAL, PASSED_OVER, Curve, Numbers, running_mean, tidy

# More restarts than this are only counted in the title.
_MARKED = 60


def life_of_the_run(loss: Curve, restarts: Numbers, world_size: Numbers, smooth: int = 15) -> Figure:
    """Return the loss over samples seen, with a line at each restart, above the number of processes.

    `restarts` is the number of restarts at each point of the loss; `world_size` is the number of processes there.
    """
    x, y = np.asarray(loss[0], float), np.asarray(loss[1], float)
    count, size = np.asarray(restarts, float), np.asarray(world_size, float)
    total = int(count.max(initial=0.0))
    figure = Figure(figsize=(8.4, 4.6), dpi=110, layout="constrained")
    figure.suptitle(
        f"Life of the run: {total} restart{'s' * (total != 1)}", x=0.01, ha="left", fontweight="bold", fontsize=12
    )
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    many = len(y) > 2 * smooth
    above.plot(x, y, color=PASSED_OVER, alpha=0.3 if many else 1.0, linewidth=1.0 if many else 1.6)
    if many:
        above.plot(x, running_mean(y, smooth), color=PASSED_OVER, linewidth=1.8)
    # The first report of a life comes a few steps after its begin: the line lies between.
    marks = [(x[i] + x[j]) / 2 for i, j in pairwise(range(len(x))) if count[j] > count[i]]
    for number, at in enumerate(marks[:_MARKED]):
        for axes in (above, below):
            axes.axvline(
                at, color=CHOSEN, linestyle="--", linewidth=1.2, label=None if number or axes is below else "restart"
            )
    if marks:
        above.legend(framealpha=1, edgecolor="none", fontsize=9, loc="upper right")
    above.set_title("loss", loc="left", fontsize=10)
    below.step(x, size, where="mid", color=NEUTRAL, linewidth=1.6)
    below.fill_between(x, size, step="mid", color=NEUTRAL, alpha=0.15)
    below.set_ylim(0, size.max(initial=1.0) + 0.5)
    below.yaxis.set_major_locator(MaxNLocator(integer=True, nbins=4))
    below.set_title("processes", loc="left", fontsize=10)
    below.set_xlabel("samples seen")
    below.xaxis.set_major_formatter(EngFormatter(sep=""))
    for axes in (above, below):
        tidy(axes)
    return figure
