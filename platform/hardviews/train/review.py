"""Figures of a run: curves, overlaps, margins, and galleries of the views that it was trained on.

Some are drawn at checkpoints, as pictures with a slider over steps, so a killed run has some too. All are drawn at the
end. Matplotlib is imported only then: if it does not work, figures are lost, not the training.
"""

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from hardviews.batch import Batch
from hardviews.data.reader import Reader
from hardviews.objective.losses import Losses
from hardviews.objective.measures import MARGIN
from hardviews.objective.objective import Objective
from hardviews.runs.history import History
from hardviews.tracking.examples import Example, Tile
from hardviews.tracking.mlflow_run import Run
from hardviews.tracking.spare import spare
from hardviews.train.beside import Beside
from hardviews.train.chosen_pairs import chosen_pairs
from hardviews.train.shots import Shot, hardest, made_besides, shots, trained_on

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_CURVES, _LIVES, _LEAST = (f"figures/{name}.png" for name in ("curves", "lives", "hardest_is_least"))
# Figures with a picture at checkpoints too: file at the end, and key of the pictures.
_OVERLAP, _HISTOGRAM, _GALLERY, _HARDEST = (
    (f"figures/{name}.png", f"views/{name}") for name in ("overlap", "margins", "gallery", "hardest")
)
# Metrics in the figure of curves.
_DRAWN = ("loss", "accuracy/top1", "hardness/chosen", "hardness/mean", "learning_rate", "spread")
_STEPS = 64  # number of steps whose overlaps and margins the histograms show
_MOMENTS = 11  # pictures of a key before the end: MLflow's pages get slow with more
_LAST_PICTURE = 30.0  # seconds that the end of a training waits for a picture that is being drawn

Draw = Callable[[], "Figure | None"]


class Review:
    """Keeps the last steps, and draws them at some checkpoints and at the end."""

    def __init__(
        self, reader: Reader, objective: Objective, run: Run, show: bool, total: int = 0, done: int = 0
    ) -> None:
        """Keep steps on every rank, because attacks need all ranks; draw only if `show` is set.

        `total` is the number of samples of the whole run, `done` the number seen by earlier lives.
        """
        self.reader, self.objective, self.run, self.show = reader, objective, run, show
        self._total = total
        # The first checkpoint of a run has pictures, and then the first one in each eleventh of it.
        self._moment = self._moment_of(done) if done else -1
        self._beside = Beside()
        # Pictures of the first step, whose views an untrained network has chosen: MLflow's slider begins at 0.
        self._first: dict[tuple[str, str], Draw] = {}
        self._fresh = show and bool(total) and not done
        self._overlaps: deque[tuple[Tensor, Tensor]] = deque(maxlen=_STEPS)
        self._margins: dict[str, deque[Tensor]] = {}
        self._last: Losses | None = None
        self._most = 0

    def see(self, losses: Losses) -> None:
        """Remember a step."""
        # The pictures show the last step with the most content: a selection or an attack may leave out some steps.
        shown = sum(bool(term.batch.hard) for term, _ in losses.terms) + (losses.selecting.selection is not None)
        if shown >= self._most:
            self._last, self._most = losses, shown
        for name, values in losses.measures.items() if self.show else ():
            if MARGIN in name:
                kept = self._margins.setdefault(name.replace(MARGIN, "", 1), deque(maxlen=_STEPS))
                kept.append(values)
        selection = losses.selecting.selection
        if self.show and selection is not None:
            measured = chosen_pairs(selection, self.objective.pairs)
            if measured is not None:
                self._overlaps.append((measured.overlap.chosen.cpu(), measured.overlap.passed_over.cpu()))
        if self._fresh:
            self._fresh, self._first = False, self._pictures(trained_on(losses))

    def at_checkpoint(self, samples: int) -> bool:
        """Draw pictures beside the steps, if this checkpoint is to have some; return whether it is.

        Views that the step was not trained on are not made here, because they would cost the time of a step.
        """
        moment = self._moment_of(samples)
        if not self.show or self._last is None or moment <= self._moment or not self._beside.free:
            return False
        self._moment = moment
        with spare("the pictures of a checkpoint"):
            pictures = [(0, self._first), (samples, self._pictures(trained_on(self._last)))]
            self._first = {}
            self._beside.run(partial(self._log_pictures, pictures))
        return True

    def finish(self, history: History) -> None:
        """Draw everything and log it; every rank calls this.

        A figure that fails is left out, with a warning. A life without a step draws only the figures of the history.
        """
        hard: Mapping[str, Batch] = {}
        if self._last is not None:
            with spare(_GALLERY[0]):
                hard = made_besides(self._last, self.objective)
        if not self.show or not history.rows:
            return
        self._beside.wait(_LAST_PICTURE)
        self._log_pictures([(0, self._first)])
        samples = int(history.rows[-1]["samples"])
        for path, draw in ((_CURVES, self._curves), (_LIVES, self._lives), (_LEAST, self._least_overlap)):
            with spare(path):
                figure = draw(history)
                if figure is not None:
                    self.run.log_figure(figure, path)
        for (path, key), make in self._pictures(hard).items():
            with spare(path):
                picture = make()
                if picture is not None:
                    if key != _HARDEST[1]:
                        self.run.log_figure(picture, path)
                    self.run.log_image(picture, key, samples)

    def _moment_of(self, samples: int) -> int:
        return _MOMENTS * samples // self._total if self._total else -1

    def _log_pictures(self, drawn: Sequence[tuple[int, Mapping[tuple[str, str], Draw]]]) -> None:
        for samples, pictures in drawn:
            for (_, key), make in pictures.items():
                with spare(f"the picture {key}"):
                    picture = make()
                    if picture is not None:
                        self.run.log_image(picture, key, samples)

    def _pictures(self, hard: Mapping[str, Batch]) -> dict[tuple[str, str], Draw]:
        """Return the functions that draw the pictures of the steps so far; pixels and numbers are copied now."""
        overlaps = [torch.cat(list(values)) for values in zip(*self._overlaps, strict=True)]
        margins = {name: torch.cat(list(values)).float().cpu() for name, values in self._margins.items()}
        rows: list[Shot] = []
        pairs: list[tuple[Tile, ...]] = []
        if self._last is not None:
            with spare(_GALLERY[1]):
                rows = shots(self._last, self.objective, hard)
            with spare(_HARDEST[1]):
                pairs = hardest(self._last, self.objective)
        return {
            _OVERLAP: partial(_draw_overlap, overlaps),
            _HISTOGRAM: partial(_draw_margins, margins),
            _GALLERY: partial(self._draw_gallery, rows),
            _HARDEST: partial(_draw_hardest, pairs),
        }

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

    def _least_overlap(self, history: History) -> "Figure | None":
        from hardviews.tracking.figures import least_overlap_share

        if not self._overlaps:
            return None
        steps, shares = history.curve("overlap/hardest_is_least")
        if not steps:
            return None  # no loss was scored, so the hardest pair is unknown
        return least_overlap_share(steps, shares, history.curve("overlap/chance")[1][-1])

    def _draw_gallery(self, rows: list[Shot]) -> "Figure | None":
        from hardviews.tracking.gallery import gallery

        if not rows:
            return None
        # A reader of its own: the training's reader may be in use. It reads sample by sample, without the cache.
        reader = Reader(self.reader.index, replace(self.reader.config, cache_bytes=0, ahead=0))
        try:
            examples: list[Example] = [row.developed(reader) for row in rows]
        finally:
            reader.close()
        return gallery(examples)


def _draw_overlap(overlaps: list[Tensor]) -> "Figure | None":
    from hardviews.tracking.figures import iou_histogram

    return iou_histogram(overlaps[0].numpy(), overlaps[1].numpy()) if overlaps else None


def _draw_margins(margins: Mapping[str, Tensor]) -> "Figure | None":
    from hardviews.tracking.figures import margin_histogram

    return margin_histogram({name: values.numpy() for name, values in margins.items()}) if margins else None


def _draw_hardest(pairs: list[tuple[Tile, ...]]) -> "Figure | None":
    from hardviews.tracking.contact_sheet import contact_sheet

    return contact_sheet(pairs, "Hardest pairs of the batch") if pairs else None
