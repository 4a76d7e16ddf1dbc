"""The accuracy of each class, and the class that it is mistaken for most.

Shape suffixes: M test samples.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text
from torch import Tensor

CLASSES = "tables/classes.json"
"""Artifact: a row for each class."""

_SHOWN = 20  # classes in the terminal's table


@dataclass(frozen=True)
class ClassScore:
    """One class: its number of images, its accuracy in per cent, and its most frequent mistake.

    Attributes:
        mistaken_for: name of a class, empty if there is no mistake.
        share: share of the images that are mistaken so, in per cent.
    """

    name: str
    images: int
    accuracy: float
    mistaken_for: str
    share: float

    def row(self) -> dict[str, Any]:
        """Return the row of the artifact."""
        return {
            "class": self.name,
            "images": self.images,
            "accuracy (%)": round(self.accuracy, 2),
            "most often mistaken for": self.mistaken_for,
            "share (%)": round(self.share, 2),
        }


def per_class(predictions_M: Tensor, labels_M: Tensor, names: Sequence[str]) -> tuple[ClassScore, ...]:
    """Return the scores of all classes that have images, in the order of their numbers.

    Of equally frequent mistakes the class of the lowest number is named.
    """
    found = []
    for label in labels_M.unique().tolist():
        counts_L = torch.bincount(predictions_M[labels_M == label], minlength=len(names))
        images, right = int(counts_L.sum()), int(counts_L[label])
        counts_L[label] = 0
        mistake = int(counts_L.argmax())
        wrong = int(counts_L[mistake])
        name = names[mistake] if wrong else ""
        found.append(ClassScore(names[label], images, 100 * right / images, name, 100 * wrong / images))
    return tuple(found)


def class_table(scores: Sequence[ClassScore]) -> Table:
    """Return a table of the classes, the worst first; of many classes only the worst."""
    shown = sorted(scores, key=lambda one: one.accuracy)[:_SHOWN]
    title = f"The {len(shown)} worst of {len(scores)} classes" if len(shown) < len(scores) else "Classes"
    view = Table(title=title, title_justify="left", box=SIMPLE_HEAD)
    view.add_column("class")
    view.add_column("images", justify="right")
    view.add_column("accuracy (%)", justify="right")
    view.add_column("most often mistaken for")
    for one in shown:
        mistake = f"{one.mistaken_for} ({one.share:.1f} %)" if one.mistaken_for else ""
        view.add_row(Text(one.name), str(one.images), f"{one.accuracy:.1f}", Text(mistake))
    return view
