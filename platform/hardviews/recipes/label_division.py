"""Drawn labels, divided once more: those that trials are trained on, and those that they are judged on.

A share of each class is held out, one image at least, by another hash than the draw's (`evaluation.held_out`). A class
with one label keeps it.

Shape suffixes: N images.
"""

from collections import Counter
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from hardviews.data.index import Index, is_dataset
from hardviews.data.pack import pack
from hardviews.data.packed_source import PackedSource
from hardviews.data.source import Subset
from hardviews.errors import UserError
from hardviews.evaluation.held_out import held_out
from hardviews.runs.waiting import Dataset, wait_for
from hardviews.runs.where import patience
from hardviews.world import World

MOST = 200_000
"""Images that are divided at most: they are copied."""
FEW = 4
"""Labels of a class up to which a choice by the held-out ones is called a hint."""
_PATIENCE = 3600.0  # seconds in which the first process has packed both parts


@dataclass(frozen=True)
class Division:
    """How labels are divided. seed: of the hash. share: of each class that is held out."""

    seed: int
    share: float

    def check(self, drawn: Index, batch: int) -> None:
        """Refuse labels that cannot be divided, or are too many to be copied.

        Raises:
            UserError: the division is impossible; the message has an alternative.
        """
        give = "give the rates: --optimizer.learning-rate, --optimizer.head-rate."
        if len(drawn) > MOST:
            raise UserError(
                f"--sweep copies the images that it trains on, and {len(drawn):,} are more than {MOST:,}. Choose the "
                f"rates with fewer labels (--labels 10% --sweep, into another output). Then {give}"
            )
        held = int(self._held_N(drawn).sum())
        if not held:
            raise UserError(
                "--sweep holds out a label of each class, and no class has two: none would be left to train on. Take "
                f"2-per-class or more, or {give}"
            )
        if len(drawn) - held < batch:
            raise UserError(
                f"--sweep holds out {held} of {len(drawn)} labels, and the other {len(drawn) - held} are fewer than a "
                f"batch of {batch}: take more labels, or lower --training.batch and --training.group. Or {give}"
            )

    def judged(self, drawn: Index) -> Index:
        """Return the images that are held out."""
        return replace(drawn, samples=drawn.samples[self._held_N(drawn)])

    def packed(self, drawn: Index, folder: str, world: World) -> tuple[Index, Index]:
        """Return the images to train on and those to judge by, packed once into a folder; every rank calls this."""
        places = [f"{folder}/{part}/train" for part in ("fitted", "held-out")]
        if world.leads:
            held_N = self._held_N(drawn)
            for place, rows_N in zip(places, (~held_N, held_N), strict=True):
                if not is_dataset(place, patience()):
                    pack(Subset(PackedSource(drawn), tuple(np.flatnonzero(rows_N).tolist())), place, progress=False)
        wait_for([Dataset(place) for place in places], _PATIENCE)
        fitted, judged = (Index.load(place, patience()) for place in places)
        return fitted, judged

    def _held_N(self, drawn: Index) -> npt.NDArray[np.bool_]:
        held_N: npt.NDArray[np.bool_] = held_out(drawn, self.seed, self.share).numpy()
        return held_N & (drawn.labels >= 0)


def hint(drawn: Index, judged: int) -> str:
    """Return a sentence of caution if labels are few, empty otherwise. judged: number of held-out images."""
    counts = Counter(label for label in drawn.labels.tolist() if label >= 0).values()
    if min(counts) > FEW:
        return ""
    labels = f"{min(counts)} label{'s' if min(counts) > 1 else ''}"
    return (
        f"With {labels} of a class, few are held out: the choice rests on {judged:,} images, one of which is "
        f"{100 / judged:.2g} points of top-1. Take it for a hint."
    )
