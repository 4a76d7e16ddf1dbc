"""The prediction of every test sample, kept with a run, so that runs can be compared sample by sample.

Shape suffixes: M test samples.
"""

import csv
import io

import numpy as np
from torch import Tensor

from hardviews.evaluation.statistics import Correct

FILE = "predictions.csv"
"""Artifact of an evaluation: a line for each test sample, in the order of the dataset's index."""
_COLUMNS = ("sample", "label", "prediction", "correct")


def to_csv(labels_M: Tensor, predictions_M: Tensor) -> str:
    """Return the lines: the sample's place in the index, its class, the predicted class, and whether they agree."""
    text = io.StringIO()
    lines = csv.writer(text, lineterminator="\n")
    lines.writerow(_COLUMNS)
    rows = zip(labels_M.tolist(), predictions_M.tolist(), strict=True)
    lines.writerows((place, label, found, int(label == found)) for place, (label, found) in enumerate(rows))
    return text.getvalue()


def correct_of(text: str) -> Correct:
    """Return which samples were predicted right, from the lines of `to_csv`.

    Raises:
        ValueError: the text is none of ours, or cut.
    """
    rows = list(csv.reader(io.StringIO(text)))
    if not rows or tuple(rows[0]) != _COLUMNS:
        raise ValueError("its columns are not columns of predictions")
    places = [int(row[0]) for row in rows[1:]]
    if places != list(range(len(places))):
        raise ValueError("samples are missing")
    return np.array([row[3] == "1" for row in rows[1:]], dtype=bool)
