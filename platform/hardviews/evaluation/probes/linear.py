"""Linear classification of frozen features.

`cached`: features of the central crop are computed once; SGD as MoCo and SimSiam do it, or logistic regression.
Published protocols: heads are trained on random crops (`on_crops.py`), which gives about a point more.

Settings are chosen on a held-out part of the training set, never on the test set.

Shape suffixes: N training samples, K some of them, M test samples, D features, L classes.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, ClassVar, Literal, Self

import torch
from torch import Tensor

from hardviews.checked import OPTION, above, at_least, each, one_of, require
from hardviews.errors import UserError
from hardviews.evaluation.evaluation import Evaluation
from hardviews.evaluation.features.extract import Features
from hardviews.evaluation.features.preprocess import Preprocess
from hardviews.evaluation.features.readings import readings_of
from hardviews.evaluation.features.sources import Embedding
from hardviews.evaluation.label import Label
from hardviews.evaluation.linear_protocol import LinearProtocol
from hardviews.evaluation.probe import Choice, Fitted, Task, ends_of, from_holder, top
from hardviews.evaluation.probes.head_states import HeadStates, open_states
from hardviews.evaluation.probes.linear_protocols import PROTOCOLS, Name
from hardviews.evaluation.probes.logistic import solve
from hardviews.evaluation.probes.on_crops import FittedOnCrops, Sweep, fit_on_crops
from hardviews.evaluation.probes.sweep import Classifier, Head, Schedule, Standard, shared, train_heads
from hardviews.evaluation.protocol import evaluate
from hardviews.evaluation.result import Announce, Result, silent
from hardviews.models.encoder import Interpolation

# `auto` takes L-BFGS up to this many products of one pass (N * D * L): a minute on two CPU cores.
_SMALL = 200_000_000
# Training sets below this size are fitted again as a whole, once the settings are chosen.
_REFITTED = 100_000


@dataclass(frozen=True)
class Linear(Evaluation):
    """How to score an encoder by a linear classifier on its frozen features.

    Missing options are taken from the protocol.

    Attributes:
        protocol: `cached` computes features of the central crop once; the others are published ones on random crops, by
            the names of the papers (docs/evaluation.md). If an option of a published one is given, its name in the
            record is for example "simsiam, changed".
        solver: of `cached`: `lbfgs` solves logistic regression exactly, `sgd` trains as the papers do, `auto` takes
            lbfgs if the features are few.
        rates: SGD's learning rates to choose from, for a batch of 256 (scaled linearly; not of moco and swav).
        weight_decays: SGD's weight decays to choose from, with each of the rates.
        penalties: of `cached`: L2 weights to choose from for lbfgs.
        epochs: of SGD.
        steps: number of steps of SGD in place of epochs, for the published protocols.
        sgd_batch: of SGD.
        momentum: of SGD.
        standardise: of `cached`: scale each feature to mean 0 and deviation 1 over the training set.
        refit: fit all training samples once the settings are chosen; `auto` does if they are fewer than 100,000.
        peek: for the published protocols: test the heads of every epoch too, for `linear/peek_best_top1`.
        save_every: seconds between two times that heads in training are kept, to go on from if the process is killed; 0
            for every step.
    """

    protocol: Name = "cached"
    solver: Literal["auto", "lbfgs", "sgd"] = "auto"
    rates: tuple[float, ...] | None = None
    weight_decays: tuple[float, ...] | None = None
    penalties: tuple[float, ...] = (1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1)
    epochs: int | None = None
    steps: int | None = None
    sgd_batch: int | None = None
    momentum: float | None = None
    standardise: bool = True
    refit: Literal["auto", "yes", "no"] = "auto"
    peek: bool = False
    save_every: float = 60.0

    takes_label_sets: ClassVar[bool] = False

    def __post_init__(self) -> None:
        """Refuse choices of nothing, numbers that no solver can use, and options of another protocol."""
        super().__post_init__()
        require(
            self,
            OPTION,
            protocol=one_of(*PROTOCOLS),
            rates=each(above(0)).or_none(),
            weight_decays=each(at_least(0)).or_none(),
            penalties=each(above(0)),
            epochs=at_least(1).or_none(),
            steps=at_least(1).or_none(),
            sgd_batch=at_least(1).or_none(),
            momentum=at_least(0, below=1).or_none(),
            save_every=at_least(0).note("seconds"),
        )
        wrong = ("steps", "peek") if self.protocol == "cached" else ("solver", "penalties", "standardise", "stage")
        for field in fields(self):
            if field.name in wrong and getattr(self, field.name) != field.default:
                whose = "a published protocol" if self.protocol == "cached" else "--protocol cached"
                raise UserError(f"Linear: --{field.name} is an option of {whose}. Leave it out, or change --protocol.")
        if self.steps is not None and self.epochs is not None:
            raise UserError("Linear: give --epochs or --steps, not both: each is the length of the training.")

    @property
    def used(self) -> LinearProtocol:
        """Return the protocol with the options that were given."""
        published = PROTOCOLS[self.protocol]
        given: dict[str, Any] = {new: getattr(self, old) for old, new in _OVERRIDES if getattr(self, old) is not None}
        if "rates" in given:
            given["pooled_rates"] = ()
        if "epochs" in given:
            given["steps"] = None
        return replace(published, **given)

    @property
    def label(self) -> Label:
        """Return the name of the published protocol, and the options that differ from it; else the stage."""
        if not self.on_crops:
            return super().label
        published, used = PROTOCOLS[self.protocol], self.used
        texts = [
            f"{old.replace('_', '-')} {_text(getattr(self, old))}"
            for old, new in _OVERRIDES
            if getattr(self, old) is not None and getattr(used, new) != getattr(published, new)
        ]
        if published.steps and self.epochs is not None:
            texts.append(f"epochs {self.epochs}")
        texts += [f"{side} {value}" for side in ("resize", "crop") if (value := getattr(self, side)) is not None]
        name = f"{published.name}, changed" if texts else published.name
        return Label(name, published.version, ", ".join(dict.fromkeys(texts)))

    @property
    def on_crops(self) -> bool:
        """Return whether the protocol trains on random crops."""
        return PROTOCOLS[self.protocol].crops is not None

    @property
    def chooses(self) -> bool:
        """Return whether there are several settings to choose from."""
        used = self.used
        return not self.on_crops or len(used.rates) * len(used.weight_decays) * len(used.readings) > 1

    def preprocess(self, image_size: int, interpolation: Interpolation = "bicubic") -> Preprocess:
        """Return the protocol's central crop; a published one has its own filter."""
        return super().preprocess(image_size, self.used.test if self.on_crops else interpolation)

    def read(self, kind: Embedding) -> Embedding:
        """Return the map to all features that the protocol's heads read."""
        return readings_of(self.used, kind).embedding(kind) if self.on_crops else super().read(kind)

    def resolved(self) -> Self:
        """Return the same with the values of its protocol in the options that were left out, for the record."""
        used = self.used
        return replace(
            self,
            rates=used.rates,
            weight_decays=used.weight_decays,
            sgd_batch=used.batch,
            momentum=used.momentum,
            epochs=None if used.steps else used.epochs,
            steps=used.steps,
        )


# Options, and the protocol's values that they replace.
_OVERRIDES = (
    ("epochs", "epochs"),
    ("steps", "steps"),
    ("sgd_batch", "batch"),
    ("rates", "rates"),
    ("weight_decays", "weight_decays"),
    ("momentum", "momentum"),
)


def _text(value: object) -> str:
    return "/".join(f"{one:g}" for one in value) if isinstance(value, tuple) else f"{value}"


def evaluate_linear(config: Linear, announce: Announce = silent) -> Result:
    """Score an encoder and its baselines by a linear probe; log a child run of its pretraining run.

    Metrics, in per cent: `linear/top1` and `linear/top5` of the choice, `linear/held_out_top1` of the choice before it
    was fitted again. `linear/peek_best_top1` is the best candidate on the test set, which several papers print and is
    optimistic; it is logged and never shown.
    """
    opened: list[HeadStates] = []

    def fit(task: Task) -> Fitted:
        if not config.on_crops:
            return fit_linear(config, task)
        if not opened:
            opened.append(open_states(config.place, task.world, config.save_every))
        return fit_published(config, task, opened[0])

    result = evaluate(config, "linear", fit, announce)
    for states in opened:
        states.clear()
    return result


def fit_published(config: Linear, task: Task, states: HeadStates) -> FittedOnCrops:
    """Fit the heads of a published protocol on random crops of the images of a task."""
    assert task.images is not None
    readings = readings_of(config.used, task.images.embedding)
    sweep = Sweep(config.used, readings, task.images, task.classes, task.world, states, config.seed, config.peek)
    return fit_on_crops(sweep, task, config.refit == "yes" or (config.refit == "auto" and len(task.train) < _REFITTED))


@dataclass(frozen=True, eq=False)
class FittedLinear:
    """The classifier that was chosen, and all candidates of this rank."""

    chosen: Classifier
    candidates: Mapping[int, Classifier]
    choice: Choice
    task: Task

    def predict(self, test: Features) -> Mapping[str, Tensor]:
        return {"": self.chosen.scores(test.values_ND, self.task.world.device)}

    def peek(self, test: Features) -> float:
        """Return the accuracy of the best candidate on the test set itself."""
        return max(_accuracies(self.candidates, test, self.task).values())


def fit_linear(config: Linear, task: Task) -> FittedLinear:
    """Choose learning rate and weight decay, or the penalty, on the held-out samples; fit the classifier."""
    small = task.train.values_ND.numel() * task.classes <= _SMALL
    solver = config.solver if config.solver != "auto" else "lbfgs" if small else "sgd"
    used = config.used
    settings: list[dict[str, float]]
    if solver == "lbfgs":
        settings = [{"penalty": penalty} for penalty in sorted(config.penalties, reverse=True)]
    else:
        pairs = [(rate, decay) for decay in sorted(used.weight_decays, reverse=True) for rate in sorted(used.rates)]
        settings = [{"lr": rate, "weight_decay": decay} for rate, decay in pairs]
    if len(settings) > 1 and not len(task.chosen_on_K):
        raise UserError(
            f"Linear: {len(task.train)} training samples are too few to hold some out. Give two of a class, or one "
            "setting instead of several to choose from."
        )
    candidates = _fit(config, settings, task, task.fitted_K)
    held_out = _accuracies(candidates, task.train.rows(task.chosen_on_K), task)
    best = max(sorted(held_out), key=lambda number: held_out[number])  # the first of equals: the tamer one
    every = torch.arange(len(task.train))
    refit = config.refit == "yes" or (config.refit == "auto" and len(task.train) < _REFITTED)
    mine = _fit(config, [settings[best]], task, every).get(0) if refit else candidates.get(best)
    chosen = from_holder(mine, task.world)
    if not (torch.isfinite(chosen.weight_DL).all() and torch.isfinite(chosen.bias_L).all()):
        raise UserError(f"Linear: the weights overflow at every learning rate of {used.rates}; give lower --rates.")
    remarks = [remark for name in settings[best] for remark in ends_of(name, settings, held_out, best)]
    return FittedLinear(chosen, candidates, Choice(settings[best], held_out[best], remarks), task)


def _fit(config: Linear, settings: Sequence[Mapping[str, float]], task: Task, rows_K: Tensor) -> dict[int, Classifier]:
    """Return this rank's share of the classifiers, by the numbers of their settings."""
    standard = Standard.of(task.train.values_ND, rows_K, config.standardise)
    if "penalty" in settings[0]:
        return solve([one["penalty"] for one in settings], task.train, rows_K, task.classes, standard, task.world)
    heads = [Head(one["lr"], one["weight_decay"]) for one in settings]
    used = config.used
    schedule = Schedule(used.epochs, used.batch, used.momentum, config.seed)
    return train_heads(heads, task.train, rows_K, task.classes, schedule, standard, task.world)


def _accuracies(candidates: Mapping[int, Classifier], samples: Features, task: Task) -> dict[int, float]:
    """Return the accuracy of every rank's candidates; one whose weights overflow has none."""
    found = {}
    for number, classifier in candidates.items():
        scores_ML = classifier.scores(samples.values_ND, task.world.device)
        finite = bool(torch.isfinite(scores_ML).all())
        found[number] = top(1, scores_ML, samples.labels_N) if finite and len(samples) else 0.0
    return shared(found, task.world)
