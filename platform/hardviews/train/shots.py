"""The content of a step's pictures: its images, the chosen, attacked and mixed views, and the hardest pairs.

Pixels are copied here, between two steps. Originals are read from the dataset later, when the picture is drawn.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import torch

from hardviews.batch import Batch, Selection, Term, View
from hardviews.data.reader import Reader
from hardviews.objective.losses import Losses
from hardviews.objective.objective import Objective
from hardviews.strategies.adversarial import Adversarial
from hardviews.strategies.cutmix import CutMix
from hardviews.tracking.examples import Example, Tile
from hardviews.views.decode import decode
from hardviews.views.params import Column
from hardviews.views.plan import Slot

EXAMPLES = 4
"""Rows of the gallery."""

_HARDEST = 8  # number of images on the sheet of the hardest pairs
_PASSED = 2  # number of views in a row that were not chosen
_NOT_TRAINED = "not trained on"  # made for the picture alone
_MARKS = "abcdefgh"
_BOX = (Column.TOP, Column.LEFT, Column.HEIGHT, Column.WIDTH)

Image = npt.NDArray[np.uint8]


@dataclass(frozen=True, eq=False)
class Shot:
    """A row of the gallery before its original is read: the sample's index, and the views."""

    index: int
    example: Example

    def developed(self, reader: Reader) -> Example:
        """Return the row with the original and its name."""
        sample = reader.read([self.index])[0]
        return replace(self.example, original=decode(sample.data), name=sample.key)


def trained_on(losses: Losses) -> dict[str, Batch]:
    """Return the attacked and mixed views that a step was trained on, by term."""
    return {term.name: term.batch for term, _ in losses.terms if term.batch.hard}


def made_besides(losses: Losses, objective: Objective) -> dict[str, Batch]:
    """Return attacked and mixed versions of a step's views; versions that it was not trained on are made here.

    Every rank calls this, because an attack needs all ranks.
    """
    found = trained_on(losses)
    plain = replace(losses.selecting, hard={}, mixes={}, clock=replace(losses.batch.clock, step=0))
    device = next(objective.parameters()).device
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        for kind, strategy in (("adversarial", Adversarial(8 / 255, branch="main")), ("cutmix", CutMix())):
            if kind == "cutmix" and plain.group == 1:
                continue  # no other image to mix with
            if not any(kind in name for name in found) and strategy.refuses(objective.method) is None:
                made: list[Term] = strategy(plain, objective)
                found[f"{kind}, {_NOT_TRAINED}"] = made[0].batch
    return found


def shots(losses: Losses, objective: Objective, hard: Mapping[str, Batch]) -> list[Shot]:
    """Return the rows of the gallery: the first images of the batch of a step."""
    batch = losses.selecting
    slots = [slot for slot in objective.plan.slots if batch.views[slot].target]
    return [Shot(int(batch.index[i]), _example(batch, hard, slots, i)) for i in range(min(EXAMPLES, len(batch)))]


def hardest(losses: Losses, objective: Objective) -> list[tuple[Tile, ...]]:
    """Return the first two views of the images with the highest loss of the first term, the highest first."""
    term, losses_B = losses.terms[0]
    batch = term.batch
    slots = [slot for slot in objective.plan.slots if slot in batch.views][:2]
    values_B = losses_B.detach().float().cpu()
    order = values_B.argsort(descending=True, stable=True)[:_HARDEST].tolist()
    return [
        tuple(
            Tile(picture(batch.hard.get(slot, batch.views[slot]), i), "" if k else f"loss {values_B[i]:.2f}")
            for k, slot in enumerate(slots)
        )
        for i in order
    ]


def _example(batch: Batch, hard: Mapping[str, Batch], slots: Sequence[Slot], i: int) -> Example:
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
            # The view that was attacked: terms of one sum may use different views.
            attacked.append((Tile(picture(made.views[slots[0]], i)), Tile(picture(view, i), caption)))
    return Example(
        np.zeros((1, 1, 3), np.uint8),
        random=shown if batch.selection is None else (),
        chosen=() if batch.selection is None else shown,
        passed_over=() if batch.selection is None else _passed_over(batch.selection, i),
        attacked=tuple(attacked),
        mixed=tuple(mixed),
    )


def _passed_over(selection: Selection, i: int) -> tuple[Tile, ...]:
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
