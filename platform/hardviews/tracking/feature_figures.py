"""Pictures of features: the spectrum of their covariance, and maps of attention as colours."""

from collections.abc import Mapping, Sequence

import matplotlib
import numpy as np
import numpy.typing as npt
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, NullFormatter

from hardviews.tracking.figures import CHOSEN, PASSED_OVER, tidy

_LEAST = -8.0  # log10 of the smallest drawn share
_COLOURS = (PASSED_OVER, CHOSEN)


def spectra(shares: Mapping[str, Sequence[float]]) -> Figure:
    """Return curves of the eigenvalues of a covariance over their rank, by the name of the features.

    `shares` are shares of the features' mean squared length, the largest first. The axis of shares is the same in every
    picture.
    """
    figure = Figure(figsize=(6.4, 4.0), dpi=110, layout="constrained")
    axes = figure.add_subplot()
    for (name, values), colour in zip(shares.items(), _COLOURS, strict=False):
        height = np.log10(np.clip(np.asarray(values, float), 10.0**_LEAST, None))
        axes.plot(np.arange(1, len(height) + 1), height, color=colour, linewidth=2.0, label=name)
    axes.set_xscale("log")
    # Matplotlib's own labels are markup, which is switched off in figures.
    axes.xaxis.set_major_formatter(EngFormatter(sep=""))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.set_ylim(_LEAST - 0.2, 0.1)
    axes.set_xlabel("rank of the eigenvalue")
    axes.set_ylabel("log10 of the share")
    axes.set_title("Eigenvalues of the features' covariance", loc="left", fontweight="bold")
    axes.legend(frameon=False, loc="lower left")
    tidy(axes)
    return figure


def heat(values_RK: npt.NDArray[np.floating]) -> npt.NDArray[np.uint8]:
    """Return a map of non-negative numbers as colours (R, K, 3), from black for 0 to pale for the map's maximum."""
    scaled = values_RK / max(float(values_RK.max(initial=0.0)), 1e-30)
    shown: npt.NDArray[np.uint8] = (matplotlib.colormaps["inferno"](scaled)[..., :3] * 255).round().astype(np.uint8)
    return shown
