"""Linear heads of a published protocol, trained on random crops: one pass of the encoder serves all heads.

Each process trains its share of the heads, every so many-th, on the whole of each batch. So no gradient is reduced, and
a head is the same, bit for bit, for any number of processes.

Shape suffixes: N training samples, K those that are fitted, M others, B a batch, S features of all readings, L classes.
"""

import hashlib
import logging
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import cached_property, partial

import torch
from torch import Tensor

from hardviews.elastic.worker import advanced
from hardviews.errors import UserError
from hardviews.evaluation.features.crops import Course, Images, central, encoded
from hardviews.evaluation.features.extract import Features
from hardviews.evaluation.features.readings import Readings
from hardviews.evaluation.linear_protocol import LinearProtocol, Reading
from hardviews.evaluation.probe import Choice, Task, ends_of, from_holder, top
from hardviews.evaluation.probes.head_states import HeadStates, Training
from hardviews.evaluation.probes.heads import HeadSettings, TrainedHead, height, one_thread
from hardviews.evaluation.probes.sweep import Classifier, shared
from hardviews.progress import progress
from hardviews.world import World

logger = logging.getLogger(__name__)

_LOOKS = 10  # times that heads are kept for `peek`, if the length is given in steps


@dataclass(eq=False)
class ReadClassifier:
    """A linear classifier of some columns of the features (M, S)."""

    columns: slice
    classifier: Classifier

    def scores(self, values_MS: Tensor, device: torch.device | None = None) -> Tensor:
        """Return the scores (M, L), on the host."""
        return self.classifier.scores(values_MS[:, self.columns], device)

    @property
    def finite(self) -> bool:
        """Whether no weight has overflowed."""
        both = (self.classifier.weight_DL, self.classifier.bias_L)
        return all(bool(torch.isfinite(value).all()) for value in both)


@dataclass(frozen=True, eq=False)
class Sweep:
    """The heads of a protocol on one kind of features.

    Attributes:
        protocol: as published, or changed.
        readings: readings of the network.
        images: images of the training set.
        classes: their number.
        world: the processes that work together.
        states: the stored heads.
        seed: seed of first weights, crops and order.
        peek: keep the heads after each epoch.
    """

    protocol: LinearProtocol
    readings: Readings
    images: Images
    classes: int
    world: World
    states: HeadStates
    seed: int = 0
    peek: bool = False

    @cached_property
    def width(self) -> int:
        """S: the encoder is asked with an empty image."""
        side = self.images.preprocess.crop
        return self.images.embedding.embed(torch.zeros(1, 3, side, side, dtype=torch.uint8)).shape[1]

    @property
    def settings(self) -> list[tuple[HeadSettings, dict[str, float]]]:
        """Return the heads' settings at a batch of 256, and the same as numbers by name; the tamest are first."""
        protocol, several = self.protocol, len(self.readings.readings) > 1
        rates = protocol.pooled_rates if self.readings.pooled and protocol.pooled_rates else protocol.rates
        found = []
        for reading in self.readings.readings:
            for decay in sorted(protocol.weight_decays, reverse=True):
                for rate in sorted(rates):
                    numbers = {"lr": rate, "weight_decay": decay}
                    if several:
                        numbers |= {"blocks": float(reading.blocks), "patches": float(reading.patches)}
                    found.append((HeadSettings(reading, rate, decay), numbers))
        return found

    def course(self, rows_K: Tensor) -> Course:
        """Return the batches of a training on some rows."""
        return Course(self.images.index.counts, rows_K.numpy(), self.protocol, self.seed)

    def train(self, heads: Sequence[HeadSettings], rows_K: Tensor, title: str) -> "Trained":
        """Train heads on some rows, from the state of an earlier process; every rank calls this.

        Raises:
            UserError: a sample cannot be read or decoded, or the encoder returns features that are not finite.
        """
        world, course = self.world, self.course(rows_K)
        scale = course.batch / 256 if self.protocol.scaled else 1.0
        training = self.states.training(**self._identity(heads, rows_K))
        trained = {
            number: self._begin(HeadSettings(one.reading, one.rate * scale, one.weight_decay))
            for number, one in enumerate(heads)
            if number % world.size == world.rank
        }
        start, kept = training.resume()
        if start:
            logger.info("%s: going on from step %d of %d", title, start, course.steps)
            for number, head in trained.items():
                head.restore(kept[number])
        labels_N = torch.from_numpy(self.images.index.labels)
        looks = _looks(course) if self.peek else []
        batches = encoded(
            self.images, course.batches(start), course.batches(start), self.protocol.crops, self.seed, world
        )
        with _mapper(world.device, len(trained)) as map_heads:
            shown = progress(batches, course.steps - start, title, show=world.leads)
            for step, (batch, values_BS) in enumerate(shown, start):
                advanced()
                if not torch.isfinite(values_BS).all():
                    raise UserError(
                        "Evaluation: the encoder returned features that are not finite; its training diverged."
                    )
                factor = height(self.protocol, step, course.steps, course.epoch_steps)
                labels_B1 = labels_N[batch.places_B].to(world.device)[:, None]
                self._step(trained, values_BS.to(world.device), labels_B1, factor, map_heads)
                state = {number: head.state() for number, head in trained.items()}
                if step + 1 in looks:
                    training.keep_epoch(looks.index(step + 1), state)
                if step + 1 == course.steps or training.due():
                    training.keep(step + 1, state)
        mine = {number: self.classifier_of(head) for number, head in trained.items()}
        return Trained(self, mine, trained, training, len(looks))

    def classifier_of(self, head: TrainedHead) -> ReadClassifier:
        """Return a copy of a head as it is now."""
        return ReadClassifier(self.readings.columns(head.settings.reading, self.width), head.classifier())

    def _begin(self, settings: HeadSettings) -> TrainedHead:
        columns = self.readings.columns(settings.reading, self.width)
        return TrainedHead.begin(
            settings, self.protocol, columns.stop - columns.start, self.classes, self.seed, self.world.device
        )

    def _step(
        self,
        trained: Mapping[int, TrainedHead],
        values_BS: Tensor,
        labels_B1: Tensor,
        factor: float,
        map_heads: Callable[..., Iterable[None]],
    ) -> None:
        """Take a step of all heads of this rank; heads of one reading share its columns."""
        wanted = {head.settings.reading for head in trained.values()}
        # A copy: its place in memory is then that of a head alone.
        parts = {one: values_BS[:, self.readings.columns(one, self.width)].clone() for one in wanted}
        step = partial(_step, parts=parts, labels_B1=labels_B1, factor=factor)
        with one_thread(self.world.device):
            for _ in map_heads(step, trained.values()):
                pass

    def _identity(self, heads: Sequence[HeadSettings], rows_K: Tensor) -> dict[str, object]:
        """Return all that the heads depend on."""
        return {
            "protocol": asdict(self.protocol),
            "heads": [asdict(one) for one in heads],
            "embedding": self.images.embedding.digest,
            "data": self.images.index.digest,
            "rows": hashlib.sha256(rows_K.numpy().tobytes()).hexdigest(),
            "crop": self.images.preprocess.crop,
            "micro_batch": self.images.micro_batch,
            "device": self.world.device.type,
            "seed": self.seed,
        }


@dataclass(frozen=True, eq=False)
class Trained:
    """The heads of this rank after a training, by number.

    Attributes:
        sweep: settings of their training.
        mine: the classifiers after the last step.
        heads: the same, which other states can be read into.
        training: holds the heads after each of `epochs` epochs.
    """

    sweep: Sweep
    mine: Mapping[int, ReadClassifier]
    heads: Mapping[int, TrainedHead]
    training: Training
    epochs: int = 0

    def accuracies(self, samples: Features) -> dict[int, float]:
        """Return the accuracy in per cent of every rank's heads; one whose weights overflow has none."""
        world = self.sweep.world
        return shared({number: _accuracy(one, samples, world) for number, one in self.mine.items()}, world)

    def best(self, samples: Features) -> float:
        """Return the accuracy of the best head, after the last epoch or, if they were kept, after any."""
        found = list(self.accuracies(samples).values())
        for epoch in range(self.epochs):
            kept = self.training.epoch(epoch)
            mine = {}
            for number, head in self.heads.items():
                if number in kept:
                    head.restore(kept[number])
                    mine[number] = _accuracy(self.sweep.classifier_of(head), samples, self.sweep.world)
            found += shared(mine, self.sweep.world).values()
        return max(found)


@dataclass(frozen=True, eq=False)
class FittedOnCrops:
    """The head that was chosen, and all candidates."""

    chosen: ReadClassifier
    trained: Trained
    choice: Choice

    def predict(self, test: Features) -> Mapping[str, Tensor]:
        return {"": self.chosen.scores(test.values_ND, self.trained.sweep.world.device)}

    def peek(self, test: Features) -> float:
        """Return the accuracy of the best head on the test set itself."""
        return self.trained.best(test)


def fit_on_crops(sweep: Sweep, task: Task, refit: bool) -> FittedOnCrops:
    """Train all heads without the held-out samples, and choose the one that is the best on these at the end.

    Of equals the one of fewer blocks, then of the smaller rate, is chosen. A protocol of one head has no choice: it is
    trained on all samples.

    `refit`: train the chosen head again, on all samples.
    """
    heads, numbers = [list(part) for part in zip(*sweep.settings, strict=True)]
    every = torch.arange(len(task.train))
    if len(heads) == 1:
        _say(sweep, heads, every)
        trained = sweep.train(heads, every, sweep.protocol.name)
        return FittedOnCrops(_chosen(trained.mine.get(0), sweep), trained, Choice(numbers[0]))
    if not len(task.chosen_on_K):
        raise UserError(
            f"Linear: {len(task.train)} training samples are too few to hold some out. Give two of a class, or one "
            "rate instead of several to choose from."
        )
    _say(sweep, heads, task.fitted_K)
    trained = sweep.train(heads, task.fitted_K, sweep.protocol.name)
    held_out = trained.accuracies(central(sweep.images, task.chosen_on_K, sweep.world))
    best = max(sorted(held_out), key=lambda number: held_out[number])
    mine = trained.mine.get(best)
    if refit:
        mine = sweep.train([heads[best]], every, f"{sweep.protocol.name}, all images").mine.get(0)
    remarks = [remark for name in ("lr", "weight_decay") for remark in ends_of(name, numbers, held_out, best)]
    return FittedOnCrops(_chosen(mine, sweep), trained, Choice(numbers[best], held_out[best], remarks))


def _chosen(mine: ReadClassifier | None, sweep: Sweep) -> ReadClassifier:
    chosen = from_holder(mine, sweep.world)
    if not chosen.finite:
        raise UserError(
            f"Linear: the weights overflow at every learning rate of {sweep.protocol.name}; give lower --rates."
        )
    return chosen


def _say(sweep: Sweep, heads: Sequence[HeadSettings], rows_K: Tensor) -> None:
    """Say how much is to be done."""
    course = sweep.course(rows_K)
    count = f"{len(heads)} heads" if len(heads) > 1 else "one head"
    sweep.world.say(
        f"{sweep.protocol.name}: {count}, {course.steps:,} steps of {course.batch:,} images, "
        f"{course.images / len(rows_K):.3g} passes of the encoder over {len(rows_K):,} images"
    )


def _accuracy(one: ReadClassifier, samples: Features, world: World) -> float:
    return top(1, one.scores(samples.values_ND, world.device), samples.labels_N) if one.finite and len(samples) else 0.0


def _looks(course: Course) -> list[int]:
    """Return the steps at which an epoch ends; of a length in steps, each tenth of it."""
    count = _LOOKS if course.protocol.steps else math.ceil(course.steps / course.epoch_steps)
    return sorted({max(1, round(course.steps * (number + 1) / count)) for number in range(count)})


def _step(head: TrainedHead, parts: Mapping[Reading, Tensor], labels_B1: Tensor, factor: float) -> None:
    head.step(parts[head.settings.reading], labels_B1, factor)


@contextmanager
def _mapper(device: torch.device, heads: int) -> Iterator[Callable[..., Iterable[None]]]:
    """Yield `map`, on a CPU with several heads at a time, each of them in one thread."""
    threads = min(torch.get_num_threads(), heads)
    if device.type != "cpu" or threads < 2:
        yield map
        return
    with ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(1,)) as pool:
        yield pool.map
