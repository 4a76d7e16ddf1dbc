"""A verdict on a run from the course of its metrics: ok, unfinished, collapsing, collapsed or diverged, and why.

The bounds below separate small runs that are healthy from runs that were made to collapse or to diverge;
`tests/health/test_verdict.py` holds their metrics. An untrained network looks collapsed: its features nearly point in
one direction. So the first measurement is only compared with, and a run that goes on is judged after some measurements.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from statistics import median
from typing import Literal

from hardviews.health.course import Course, Point

Kind = Literal["ok", "unfinished", "collapsing", "collapsed", "diverged"]

_ENOUGH = 3  # measurements after the start until a run that goes on is judged
# Of evenly spread features the spread is 1. Healthy small runs had 0.4 to 0.7, and 0.7 to 0.95 behind the projector.
_FLAT, _LOW = 0.05, 0.3
_FALLEN = 0.6  # share of the highest value before
_NO_HIGHER = 1.25  # times the rank of the untrained network
_WORSE = 0.8  # share of the accuracy of the untrained network
_KEPT = 0.95  # share of the highest accuracy
_GAINED, _AT_BEST = 1.05, 0.98  # shares of the accuracy of the untrained network, and of the highest one
_TRAINED_FLAT, _ALONE = 0.1, 0.05  # spread in training, beside another sign and if nothing else is measured
_SETTLED = 20  # reports until it counts
_RECOVERING = 1.5  # times the lowest value: a method with a predictor begins with a low spread in training
_RISE, _LEAST_RISE = 0.5, 0.3  # rise as a share of the loss's fall, or of its size; and the least rise
_SMOOTH = 3  # reports whose median counts

_PROJECTOR = "health/projector/"
_SPREADS = {
    "health/spread": "spread of the features",
    f"{_PROJECTOR}spread": "spread of the projector's features",
}
_ACCURACIES = ("online/knn_top1_k20", "online/fewshot_top1_k10")
_BY_LABELS = "accuracy/top1"  # reported by trainings on labels alone


@dataclass(frozen=True)
class Verdict:
    """The state of a run, or its end.

    Attributes:
        kind: `ok` is trained to its end, `unfinished` is not yet, both without a sign of trouble.
        evidence: sentences with the numbers that speak for it.
    """

    kind: Kind
    evidence: tuple[str, ...]

    @property
    def alarming(self) -> bool:
        """Whether somebody should look at the run."""
        return self.kind in ("collapsing", "collapsed", "diverged")

    def text(self) -> str:
        """Return all of it as one line."""
        return f"{self.kind}. {' '.join(self.evidence)}"


@dataclass(frozen=True)
class _Sign:
    """A sentence that speaks for a collapse.

    One that is certain is enough. Of the others it takes two, and an accuracy that is not known to be kept. If the
    accuracy rises, only a certain sign of the exported features counts.

    Attributes:
        words: the sentence, with its numbers.
        certain: whether it is enough by itself.
        behind: whether it is of features behind the projector, which are not exported.
    """

    words: str
    certain: bool = False
    behind: bool = False


def verdict(course: Course, finished: bool, not_finite: str = "") -> Verdict:
    """Return the verdict on a run.

    `finished`: whether it was trained to its end. `not_finite`: a sentence that says which number was not finite, if
    the run stopped for that reason.
    """
    signs = [*_spread(course, finished), *_rank(course, finished), *_accuracy(course, finished)]
    signs += _in_training(course, bool(signs))
    if course.of(_BY_LABELS):
        # Labels let the features of a class contract, and a fine-tuning begins with a network that is trained.
        signs = [sign for sign in signs if sign.certain]
    rises, kept = _accuracy_rises(course, finished), _accuracy_kept(course)
    if rises and not any(sign.certain and not sign.behind for sign in signs):
        doubts, signs = signs, []
    else:
        doubts = []
    collapsed = any(sign.certain for sign in signs) or (len(signs) > 1 and not kept)
    diverged = (*((not_finite,) if not_finite else ()), *_not_finite(course))
    # A loss says little after a collapse.
    diverged = diverged or (() if collapsed else tuple(_risen(course)))
    if diverged:
        return Verdict("diverged", diverged)
    if signs:
        words = (*(sign.words for sign in signs), *((kept,) if kept else ()))
        return Verdict("collapsed" if collapsed else "collapsing", words)
    fine = (rises, *(sign.words for sign in doubts)) if doubts else (_fine(course),)
    return Verdict("ok" if finished else "unfinished", fine)


def _not_finite(course: Course) -> Iterator[str]:
    """Return the step at which the loss was not finite first, in words."""
    broken = [point for point in course.of("loss") if not math.isfinite(point.value)]
    if broken:
        yield f"The loss is {broken[0].value} at step {broken[0].step}."


def _risen(course: Course) -> Iterator[str]:
    """Say by how much the loss rose, if by much. Losses have different zeros: only the fall of the loss counts."""
    points = course.of("loss")
    if len(points) <= 2 * _SMOOTH:
        return
    start = median(point.value for point in points[:_SMOOTH])
    last = median(point.value for point in points[-_SMOOTH:])
    lowest = min(point.value for point in points)
    if last - start > max(_RISE * (start - lowest), _RISE * abs(start), _LEAST_RISE):
        yield f"The loss rose from {start:.3g} to {last:.3g} at step {points[-1].step}."


def _spread(course: Course, finished: bool) -> Iterator[_Sign]:
    """Look for features that point in one direction."""
    for name, words in _SPREADS.items():
        points = _judged(course, name, finished)
        if not points:
            continue
        last, peak = points[-1], _highest(points)
        if last.value < _FLAT:
            yield _Sign(
                f"The {words} ({name}) is {_number(last)}; evenly spread features have 1.",
                certain=True,
                behind=name.startswith(_PROJECTOR),
            )
        elif last.value < _LOW and last.value < _FALLEN * peak.value:
            yield _Sign(f"The {words} ({name}) fell from {_number(peak)} to {_number(last)}.")


def _rank(course: Course, finished: bool) -> Iterator[_Sign]:
    """Look for features that fill few directions."""
    name = "health/rankme"
    points, start = _judged(course, name, finished), course.of(name)[:1]
    if not points:
        return
    last, peak = points[-1], _highest(points)
    # After a few measurements it should be clearly higher; before, a rise of any size is no sign.
    bound = _NO_HIGHER if len(course.of(name)) > _ENOUGH else 1.0
    if start and start[0].step == 0 and last.value < bound * start[0].value:
        yield _Sign(
            f"The rank of the features ({name}) is {_number(last)}; that of the untrained network was "
            f"{start[0].value:.3g}{'' if bound == 1 else f', and training should bring {bound:g} times as much'}."
        )
    elif last.value < _FALLEN * peak.value:
        yield _Sign(f"The rank of the features ({name}) fell from {_number(peak)} to {_number(last)}.")


def _accuracy(course: Course, finished: bool) -> Iterator[_Sign]:
    """Look for features with less information about the images than the untrained network's."""
    if _accuracy_kept(course):
        return  # they disagree: a few test images make one of them fall
    for name in _ACCURACIES:
        points, start = _judged(course, name, finished), course.of(name)[:1]
        if points and start[0].step == 0 and points[-1].value < _WORSE * start[0].value:
            yield _Sign(
                f"The accuracy {name} is {points[-1].value:.1f} % at step {points[-1].step}; that of the untrained "
                f"network was {start[0].value:.1f} %."
            )
            return  # the two of them are one sign


def _accuracy_kept(course: Course) -> str:
    """Return a sentence if the features are still better than the untrained network's and hardly worse than ever.

    Empty if they are not, or if it is not known. Features may contract and still say more about the images.
    """
    points = course.of(_ACCURACIES[0])
    if len(points) < 2 or points[0].step > 0:
        return ""
    last, peak = points[-1], _highest(points)
    if last.value <= points[0].value or last.value < _KEPT * peak.value:
        return ""
    return f"The accuracy {_ACCURACIES[0]} is not lost: {last.value:.1f} %, {points[0].value:.1f} % at the start."


def _accuracy_rises(course: Course, finished: bool) -> str:
    """Say that the features say clearly more about the images than the untrained network's, and as much as ever.

    Empty if they do not, or if too little is measured. Features that contract and improve are no collapse: labels that
    were held out weigh more than the shape of the features.
    """
    name = _ACCURACIES[0]
    points, start = _judged(course, name, finished), course.of(name)[:1]
    if len(points) < 2 or start[0].step > 0:
        return ""
    last, peak = points[-1], _highest(points)
    if not last.value > start[0].value or last.value < max(_GAINED * start[0].value, _AT_BEST * peak.value):
        return ""
    return (
        f"No collapse, since the accuracy {name} rose from {start[0].value:.1f} % to {last.value:.1f} % at step "
        f"{last.step}, which outweighs these signs."
    )


def _in_training(course: Course, others: bool) -> Iterator[_Sign]:
    """Look for encodings in training that point in one direction, and stay so.

    Methods differ in what they encode. So this sign counts beside others, or if nothing else is measured.
    """
    points, measured = course.of("spread"), bool(course.of("health/spread"))
    if len(points) < _SETTLED or (measured and not others):
        return
    recent = [point.value for point in points[-_SETTLED // 2 :]]
    last, lowest = median(recent[-_SMOOTH:]), min(point.value for point in points)
    if max(recent) < (_TRAINED_FLAT if measured else _ALONE) and last < max(_RECOVERING * lowest, 1e-3):
        yield _Sign(
            f"The spread in training (spread) is {last:.3g} at step {points[-1].step}; evenly spread encodings have 1.",
            certain=not measured,
        )


def _judged(course: Course, name: str, finished: bool) -> list[Point]:
    """Return the measurements after the start; none as long as there are too few to judge."""
    points = [point for point in course.of(name) if point.step > 0]
    return points if finished or len(points) >= _ENOUGH else []


def _highest(points: list[Point]) -> Point:
    return max(points, key=lambda point: point.value)


def _number(point: Point) -> str:
    return f"{point.value:.3g} at step {point.step}"


def _fine(course: Course) -> str:
    """Return the evidence that a run is healthy, or that nothing is known."""
    names = {"loss": "loss", "spread": "spread", "health/spread": "health/spread", "health/rankme": "health/rankme"}
    known = [f"{words} {point.value:.3g}" for name, words in names.items() if (point := course.last(name))]
    if not known:
        return "Nothing was measured yet."
    return f"No sign of a collapse or a divergence up to step {course.step}: {', '.join(known)}."
