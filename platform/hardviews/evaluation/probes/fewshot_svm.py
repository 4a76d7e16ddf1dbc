"""Few-shot classification by support vector machines: VISSL's low-shot protocol and the one on all training images.

For few shots VISSL takes the cost that is the best on the test set; that number is logged apart, as `peek`. Here the
cost of a draw is the best in cross-validation on its shots, over all classes together. On all training images each
class chooses for itself, as in VISSL.

Shape suffixes: S samples of a draw, M test samples, L classes, C costs.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import TypeVar

import numpy as np
from torch import Tensor

from hardviews.errors import UserError
from hardviews.evaluation.average_precision import interpolated_area, mean_precision
from hardviews.evaluation.features.extract import Features
from hardviews.evaluation.probe import Choice, Task
from hardviews.evaluation.probes import svm
from hardviews.evaluation.probes.low_shot import NEGATIVES, Draw, draw, everything, fewest
from hardviews.evaluation.probes.svm import COST, Plane
from hardviews.evaluation.probes.sweep import shared
from hardviews.progress import progress

T = TypeVar("T")


@dataclass(frozen=True, eq=False)
class Machines:
    """The classifiers of one draw, and the cost of each."""

    draw: Draw
    costs_L: Sequence[float]
    planes_L: Sequence[Plane]


@dataclass(frozen=True, eq=False)
class FittedSvm:
    """The draws of every number of shots; `full` is fitted on all training images."""

    task: Task
    costs: Sequence[float]
    draws: Mapping[int, Sequence[Machines]]
    full: Machines | None
    choice: Choice

    def predict(self, test: Features) -> Mapping[str, Tensor | Sequence[Tensor]]:
        rows_MD = svm.prepared(test.values_ND)
        found: dict[str, Tensor | Sequence[Tensor]] = {
            f"k{shots}": [svm.scores(one.planes_L, rows_MD) for one in draws] for shots, draws in self.draws.items()
        }
        if self.full is not None:
            found["full"] = svm.scores(self.full.planes_L, rows_MD)
            return {"": found["full"], **found}
        return {"": svm.scores(self.draws[max(self.draws)][0].planes_L, rows_MD), **found}

    def peeks(self, test: Features) -> Mapping[str, float]:
        """Return for each number of shots the best mean over draws of the precision on the test set, among all costs.

        This is the choice of the published low-shot protocol. Every rank calls this.
        """
        if test.sets_NL is None:
            return {}
        tested, rows_MD, classes = test.sets_NL, svm.prepared(test.values_ND), range(self.task.classes)
        found = {}
        for shots, draws in self.draws.items():
            jobs = [(one.draw, number, cost) for one in draws for cost in self.costs for number in classes]
            planes = _shared(jobs, lambda job: _fit(self.task, *job), self.task, "costs on the test set")
            groups = [planes[start : start + len(classes)] for start in range(0, len(planes), len(classes))]
            precision = [mean_precision(interpolated_area, svm.scores(some, rows_MD), tested) for some in groups]
            found[f"map_k{shots}"] = float(np.max(np.reshape(precision, (len(draws), len(self.costs))).mean(0)))
        return found


def fit_svm(
    task: Task, shots: Sequence[int], draws: int, costs: Sequence[float] = svm.COSTS, full: bool = False
) -> FittedSvm:
    """Draw the shots, choose a cost for each draw, and fit a classifier for each class.

    Raises:
        UserError: no class has enough images for any number of shots.
    """
    costs, least = sorted(costs), fewest(task.train, task.classes)
    wanted = sorted({k for k in shots if k <= least})
    if not wanted and not full:
        raise UserError(
            f"Few-shot: the smallest class has {least} training images, fewer than {min(shots)} shots. Give "
            "fewer --shots, or pack more images of each class."
        )
    remarks = [
        f"{k} shots are left out: the smallest class has {least} training images."
        for k in sorted(set(shots) - set(wanted))
    ]
    drawn = [(k, draw(task.train, task.names, task.classes, k, seed)) for k in wanted for seed in range(draws)]
    if any(_lacks_negatives(one, k, task) for k, one in drawn):
        remarks.append(
            f"Some classes have fewer than {NEGATIVES} images without them for each shot; all of them are taken."
        )
    # A draw chooses one cost for all classes.
    chosen = [_cost_of_all(task, one, k, costs) for k, one in drawn]
    jobs = [(one, number, cost) for (_, one), cost in zip(drawn, chosen, strict=True) for number in range(task.classes)]
    planes = _shared(jobs, lambda job: _fit(task, *job), task, "support vector machines")
    machines: dict[int, list[Machines]] = {}
    for place, ((k, one), cost) in enumerate(zip(drawn, chosen, strict=True)):
        own = planes[place * task.classes : (place + 1) * task.classes]
        machines.setdefault(k, []).append(Machines(one, [cost] * task.classes, own))
    settings = {f"cost_k{k}": median(one.costs_L[0] for one in some) for k, some in machines.items()}
    whole = _fit_everything(task, costs) if full else None
    if whole is not None:
        settings["cost_full"] = median(whole.costs_L)
    return FittedSvm(task, costs, machines, whole, Choice(settings, None, remarks))


def _lacks_negatives(one: Draw, shots: int, task: Task) -> bool:
    return task.train.sets_NL is not None and bool(((one.targets_SL == -1).sum(0) < NEGATIVES * shots).any())


def _cost_of_all(task: Task, one: Draw, shots: int, costs: Sequence[float]) -> float:
    """Return the cost of the best mean precision over classes; one shot leaves nothing to choose on."""
    if len(costs) == 1:
        return costs[0]
    if shots == 1:
        return COST
    found_LC = _shared(
        range(task.classes), lambda number: _validated(task, one, number, costs), task, f"costs for {shots} shots"
    )
    return costs[int(np.mean(found_LC, axis=0).argmax())]  # the first of equals: the tamer one


def _fit_everything(task: Task, costs: Sequence[float]) -> Machines:
    """Fit on all training images, each class with the cost that is the best for it in cross-validation."""
    one = everything(task.train, task.names, task.classes)

    def fitted(number: int) -> tuple[float, Plane]:
        cost = costs[int(_validated(task, one, number, costs).argmax())]
        return cost, _fit(task, one, number, cost)

    found_L = _shared(range(task.classes), fitted, task, "support vector machines on all images")
    return Machines(one, [cost for cost, _ in found_L], [plane for _, plane in found_L])


def _validated(task: Task, one: Draw, number: int, costs: Sequence[float]) -> svm.Rows:
    rows_SD = svm.prepared(task.train.values_ND[one.rows_S])
    return svm.cross_validated(rows_SD, one.targets_SL[:, number], one.folds_SL[:, number], costs)


def _fit(task: Task, one: Draw, number: int, cost: float) -> Plane:
    targets_S = one.targets_SL[:, number]
    taken = targets_S != 0
    rows_SD = svm.prepared(task.train.values_ND[one.rows_S[taken]])
    return svm.fit(rows_SD, targets_S[taken], cost)


def _shared(jobs: Sequence[object], work: Callable[..., T], task: Task, title: str) -> list[T]:
    """Return the outcome of each job in order, on every rank: each rank does every so many-th."""
    world = task.world
    mine = range(world.rank, len(jobs), world.size)
    done = {number: work(jobs[number]) for number in progress(mine, len(mine), title, show=world.leads)}
    done = shared(done, world)
    return [done[number] for number in range(len(jobs))]
