"""What people look at after a run: curves, overlaps, and a gallery of the views it was trained on.

Matplotlib is imported when the training is over: an installation that it cannot work in costs figures, not a training.
"""

from collections import deque
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from hardviews.batch import Batch, Selection, Term, View
from hardviews.data.reader import Reader
from hardviews.measures import MARGIN
from hardviews.objective import Losses, Objective
from hardviews.runs.history import History
from hardviews.strategies.adversarial import Adversarial
from hardviews.strategies.cutmix import CutMix
from hardviews.tracking.examples import Example, Tile
from hardviews.tracking.mlflow_run import Run
from hardviews.tracking.spare import spare
from hardviews.train.chosen_pairs import chosen_pairs
from hardviews.views.decode import decode
from hardviews.views.params import Column
from hardviews.views.plan import Slot

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_CURVES, _LIVES, _OVERLAP, _LEAST, _HISTOGRAM, _GALLERY = (
    f"figures/{name}.png" for name in ("curves", "lives", "overlap", "hardest_is_least", "margins", "gallery")
)
_DRAWN = ("loss", "hardness/chosen", "hardness/mean", "learning_rate", "spread")  # metrics in the figure of curves
_EXAMPLES = 4  # rows of the gallery
_STEPS = 64  # whose overlaps and margins the histograms show
_PASSED = 2  # views passed over that a row shows
_NOT_TRAINED = "not trained on"  # made for the picture alone
_MARKS = "abcdefgh"
_BOX = (Column.TOP, Column.LEFT, Column.HEIGHT, Column.WIDTH)

Image = npt.NDArray[np.uint8]


class Review:
    """Remembers the last steps and draws them at the end."""

    def __init__(self, reader: Reader, objective: Objective, run: Run, show: bool) -> None:
        """Every rank remembers (attacks need all of them); only the one that shows draws."""
        self.reader, self.objective, self.run, self.show = reader, objective, run, show
        self._overlaps: deque[tuple[Tensor, Tensor]] = deque(maxlen=_STEPS)
        self._margins: dict[str, deque[Tensor]] = {}
        self._last: Losses | None = None
        self._most = 0

    def see(self, losses: Losses) -> None:
        """Remember a step."""
        # The pictures are of the last step of those that show most: a selection or an attack may leave out some steps.
        shown = sum(bool(term.batch.hard) for term, _ in losses.terms) + (losses.selecting.selection is not None)
        if shown >= self._most:
            self._last, self._most = losses, shown
        for name, values in losses.measures.items() if self.show else ():
            if name.startswith(MARGIN):
                kept = self._margins.setdefault(name.removeprefix(MARGIN), deque(maxlen=_STEPS))
                kept.append(values)
        selection = losses.selecting.selection
        if self.show and selection is not None:
            measured = chosen_pairs(selection, self.objective.pairs)
            if measured is not None:
                self._overlaps.append((measured.overlap.chosen.cpu(), measured.overlap.passed_over.cpu()))

    def finish(self, history: History) -> None:
        """Draw everything and log it; every rank calls this.

        A figure that fails is left out, with a warning. A life that had no step left to take draws what the history
        alone shows.
        """
        hard: Mapping[str, Batch] = {}
        if self._last is not None:
            with spare(_GALLERY):
                hard = self._hard(self._last)
        if not self.show or not history.rows:
            return
        for path, draw in (
            (_CURVES, self._curves),
            (_LIVES, self._lives),
            (_OVERLAP, self._overlap),
            (_LEAST, self._least_overlap),
            (_HISTOGRAM, self._histogram),
            (_GALLERY, partial(self._gallery, hard)),
        ):
            with spare(path):
                figure = draw(history)
                if figure is not None:
                    self.run.log_figure(figure, path)

    def _curves(self, history: History) -> "Figure | None":
        from hardviews.tracking.figures import learning_curves

        curves = {name: history.curve(name) for name in _DRAWN}
        return learning_curves({name: curve for name, curve in curves.items() if curve[0]})

    def _lives(self, history: History) -> "Figure | None":
        from hardviews.tracking.lives import life_of_the_run

        loss = history.curve("loss")
        restarts, world_size = history.curve("restarts")[1], history.curve("world_size")[1]
        if max(restarts, default=0) > 0 and len(restarts) == len(world_size) == len(loss[0]):
            return life_of_the_run(loss, restarts, world_size)
        return None

    def _overlap(self, history: History) -> "Figure | None":
        from hardviews.tracking.figures import iou_histogram

        if not self._overlaps:
            return None
        chosen, passed = (torch.cat(list(values)).numpy() for values in zip(*self._overlaps, strict=True))
        return iou_histogram(chosen, passed)

    def _least_overlap(self, history: History) -> "Figure | None":
        from hardviews.tracking.figures import least_overlap_share

        if not self._overlaps:
            return None
        steps, shares = history.curve("overlap/hardest_is_least")
        return least_overlap_share(steps, shares, history.curve("overlap/chance")[1][-1])

    def _histogram(self, history: History) -> "Figure | None":
        from hardviews.tracking.figures import margin_histogram

        if not self._margins:
            return None
        kept = self._margins.items()
        return margin_histogram({name: torch.cat(list(values)).float().cpu().numpy() for name, values in kept})

    def _gallery(self, hard: Mapping[str, Batch], history: History) -> "Figure | None":
        from hardviews.tracking.gallery import gallery

        if self._last is None:
            return None
        batch = self._last.selecting
        return gallery([self._example(batch, hard, i) for i in range(min(_EXAMPLES, len(batch)))])

    def _hard(self, losses: Losses) -> Mapping[str, Batch]:
        """Return attacked and mixed versions of a step's views: those trained on, else made for the picture where the
        method can train on such.
        """
        found = {term.name: term.batch for term, _ in losses.terms if term.batch.hard}
        plain = replace(losses.selecting, hard={}, mixes={}, clock=replace(losses.batch.clock, step=0))
        device = next(self.objective.parameters()).device
        with torch.random.fork_rng([device] if device.type == "cuda" else []):
            for kind, strategy in (("adversarial", Adversarial(8 / 255, branch="main")), ("cutmix", CutMix())):
                if kind == "cutmix" and plain.group == 1:
                    continue  # nobody to mix with
                if not any(kind in name for name in found) and strategy.refuses(self.objective.method) is None:
                    made: list[Term] = strategy(plain, self.objective)
                    found[f"{kind}, {_NOT_TRAINED}"] = made[0].batch
        return found

    def _example(self, batch: Batch, hard: Mapping[str, Batch], i: int) -> Example:
        """Describe one image of the batch as a row of the gallery."""
        sample = self.reader.read([int(batch.index[i])])[0]
        slots = [slot for slot in self.objective.plan.slots if batch.views[slot].target]
        shown = tuple(_tile(batch.views[slot], i, _MARKS[k]) for k, slot in enumerate(slots))
        attacked, mixed = [], []
        for name, made in hard.items():
            view = made.hard.get(slots[0])
            if view is None:
                continue
            if slots[0] in made.mixes:
                weight = f"{float(made.mixes[slots[0]].weight[i]):.2f}"
                caption = f"{weight}, {_NOT_TRAINED}" if _NOT_TRAINED in name else f"{name} {weight}"
                mixed.append(Tile(picture(view, i), caption))
            else:
                caption = _NOT_TRAINED if _NOT_TRAINED in name else name
                # The view that was attacked: terms of one sum may look at different ones.
                attacked.append((Tile(picture(made.views[slots[0]], i)), Tile(picture(view, i), caption)))
        return Example(
            decode(sample.data),
            sample.key,
            random=shown if batch.selection is None else (),
            chosen=() if batch.selection is None else shown,
            passed_over=() if batch.selection is None else self._passed_over(batch.selection, i),
            attacked=tuple(attacked),
            mixed=tuple(mixed),
        )

    def _passed_over(self, selection: Selection, i: int) -> tuple[Tile, ...]:
        """Return the candidates of the global slots that were not chosen for image i."""
        row = selection.table[int(selection.choice[i])].tolist()
        chosen = {Slot(slot.pool, number) for slot, number in zip(selection.slots, row, strict=True)}
        others = [view for slot, view in selection.views.items() if slot not in chosen and view.target]
        return tuple(_tile(view, i, "") for view in others[:_PASSED])


def _tile(view: View, i: int, mark: str) -> Tile:
    box = None
    if view.rows is not None:
        top, left, height, width = (float(view.rows[i, c]) for c in _BOX)
        box = (top, left, height, width)
    return Tile(picture(view, i), "", box, mark)


def picture(view: View, i: int) -> Image:
    """Return row i of a view as uint8 (H, W, 3)."""
    pixels = view.normalisation.denormalise(view.pixels()[i : i + 1].detach().float())[0]
    shown: Image = (pixels.clamp(0, 1) * 255).round().to(torch.uint8).permute(1, 2, 0).cpu().numpy()
    return shown
