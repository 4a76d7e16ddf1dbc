"""The choice of learning rates on held-out labels: all processes train each candidate in turn.

A trial is an ordinary training on the labels that are not held out, in a folder of its own. It continues from its
checkpoints. A judged trial leaves its history and one small file, and is not trained again. A sweep of other rates does
not train it again either if all other settings are equal. The test set is not read.

If other rates change the choice, the training in the output begins again.

In the output: `sweep/data/` until the choice is made, `sweep/TRIAL/` with the history of a trial, `sweep/TRIAL.json`
with its score, and `sweep/choice.json`, which is written last.

Shape suffixes: M held-out images, L classes.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import Any

import torch

from hardviews.clock import Calendar
from hardviews.data.index import Index
from hardviews.data.reader import Reader
from hardviews.elastic.worker import Phase, doing
from hardviews.errors import UserError
from hardviews.evaluation.calibration import negative_log_likelihood
from hardviews.evaluation.classifier_scores import logits
from hardviews.evaluation.features.extract import NotFinite, extract
from hardviews.evaluation.features.preprocess import Preprocess
from hardviews.evaluation.features.sources import embedding
from hardviews.evaluation.held_out import names_of
from hardviews.evaluation.probe import top
from hardviews.models.encoder import load
from hardviews.recipes.label_division import Division, hint
from hardviews.runs.record import Record
from hardviews.runs.rival import await_turn
from hardviews.runs.where import Where, patience
from hardviews.storage.store import Store, open_store
from hardviews.train.epoch import epoch_samples
from hardviews.train.init import open_encoder
from hardviews.train.loop import live
from hardviews.train.nonfinite import Diverged
from hardviews.train.rate_table import RateTable, Trial
from hardviews.train.recipe import Recipe
from hardviews.train.stop import StopFlag
from hardviews.train.task import Task
from hardviews.world import World

SWEEP = "sweep"
"""Folder in the output."""
_CHOICE, _DATA = "choice.json", "data"
_ANEW = "to choose rates, give another --output."
_LEFT = ("checkpoints", "encoder")  # folders that are removed after a trial is judged
_RATES = ("optimizer.learning_rate", "optimizer.head_rate")  # the settings that a sweep chooses


@dataclass(frozen=True)
class Sweep:
    """The settings of a sweep.

    Attributes:
        recipe: all settings except the rates.
        where: the places of the final training; `data` is the dataset of the drawn labels.
        encoder: digest of the encoder that all trainings begin from.
        candidates: pairs of learning rate and the classifier's multiple of it.
        division: division of the labels.
    """

    recipe: Recipe
    where: Where
    encoder: str
    candidates: Sequence[tuple[float, float]]
    division: Division

    def check_choice(self, drawn: Index) -> None:
        """Refuse another choice for the run in the output, unless only the candidates differ.

        Raises:
            UserError: a sweep over other labels or with other settings chose its rates.
        """
        known = _read(open_store(self._folder, patience()), _CHOICE)
        if known is None or Record.read(self.where.output, patience()) is None:
            return
        table = RateTable.from_dict(known["table"])
        if known.get("key") == self._key(drawn, [(trial.learning_rate, trial.head_rate) for trial in table.trials]):
            return
        tried = ", ".join(f"{trial.learning_rate:g} x {trial.head_rate:g}" for trial in table.trials)
        raise UserError(
            f"{self.where.output} holds a run whose rates another sweep chose (learning rate x head rate: {tried}), "
            f"with another hold-out or other settings. To continue the run, repeat its command; {_ANEW}"
        )

    def choose(self, world: World, stop: StopFlag) -> RateTable:
        """Train and judge the trials that no earlier life has judged; every rank calls this.

        Raises:
            UserError: the labels cannot be divided, or every trial diverged. SystemExit: a request to leave came.
        """
        store = open_store(self._folder, patience())
        drawn = Index.load(self.where.data, patience())
        key = self._key(drawn, self.candidates)
        known = world.together(partial(_read, store, _CHOICE))[0]
        if known is not None and known.get("key") == key:
            return RateTable.from_dict(known["table"])
        self.division.check(drawn, self.recipe.training.batch)
        judged = self.division.judged(drawn)
        names = [self._name(pair, drawn) for pair in self.candidates]
        held = world.together(lambda: [_read(store, f"{name}.json") for name in names])[0]
        trials = f"{len(self.candidates)} trials" if len(self.candidates) > 1 else "1 trial"
        if any(held):
            trials += f", {sum(one is not None for one in held)} of them known already,"
        if len(self.candidates) == 1:
            world.say("the sweep has one candidate, so there is nothing to choose; its trial only measures it")
        world.say(
            f"choosing the learning rates: {trials} on {len(drawn) - len(judged):,} labels, judged on "
            f"{len(judged):,} that are held out. {hint(drawn, len(judged))}".rstrip()
        )
        judgements = [Trial(**one) for one in held if one is not None]
        if None in held:
            with doing(Phase.EPOCH):
                parts = self.division.packed(drawn, store.name(f"{_DATA}/{self._of_data(drawn)[:8]}"), world)
            judgements = [
                self._trial(store, number, name, parts, world, stop) if known is None else Trial(**known)
                for number, (name, known) in enumerate(zip(names, held, strict=True))
            ]
        if all(trial.nll is None for trial in judgements):
            raise UserError(
                f"--sweep: every trial diverged; give lower --rates. The first one: {judgements[0].diverged}"
            )
        table = RateTable(tuple(judgements), len(judged), len(drawn) - len(judged), tuple(names_of(judged)))
        world.together(lambda: self._make_room(table, world, stop))
        _write(store, _CHOICE, {"key": key, "table": table.to_dict()}, world)
        if world.leads:
            store.remove_folder(_DATA)
        return table

    def applied(self, table: RateTable) -> Recipe:
        """Return the recipe with the chosen rates."""
        return _with_rates(self.recipe, table.chosen.learning_rate, table.chosen.head_rate)

    @property
    def _folder(self) -> str:
        return f"{self.where.output.rstrip('/')}/{SWEEP}"

    def _key(self, drawn: Index, candidates: Sequence[tuple[float, float]]) -> str:
        """Return a digest of everything that the choice among the candidates depends on."""
        return _digest([self._own(pair, drawn) for pair in candidates])

    def _of_data(self, drawn: Index) -> str:
        """Return a digest of both parts of the labels."""
        return _digest([drawn.digest, asdict(self.division)])

    def _own(self, pair: tuple[float, float], drawn: Index) -> str:
        """Return a digest of everything that a trial's score depends on, which excludes the other candidates."""
        return _digest([_with_rates(self.recipe, *pair).digest(), self._of_data(drawn), self.encoder])

    def _name(self, pair: tuple[float, float], drawn: Index) -> str:
        rate, head = pair
        return f"rate-{rate:g}-head-{head:g}-{self._own(pair, drawn)[:8]}"

    def _make_room(self, table: RateTable, world: World, stop: StopFlag) -> None:
        """Remove the training in the output if its rates differ from the chosen ones.

        `run.json` is removed last, so that a next life can complete an interrupted removal.

        Raises:
            UserError: another job trains it, or the encoder of a new training is missing.
        """
        if not world.leads:
            return
        output = self.where.output
        record = Record.read(output, patience())
        chosen = self.applied(table).settings()
        if record is None or all(record.settings.get(name) == chosen.get(name) for name in _RATES):
            return
        assert self.where.init is not None  # the encoder of a fine-tuning
        open_encoder(self.where.init, self.where.project)
        await_turn(output, patience(), lambda: stop.raised)
        if stop.raised:
            raise stop.departure()
        tracked = f" Its run {record.run_id} stays in the tracking." if record.run_id else ""
        world.say(
            f"other rates are the best now: {table.chosen.rates}. The training in {output} is removed and begins "
            f"again.{tracked}"
        )
        store = open_store(output, patience())
        for folder in ("encoder", "checkpoints", "lives"):
            store.remove_folder(folder)
        store.remove("history.jsonl")
        Record.remove(output)

    def _trial(
        self, store: Store, number: int, name: str, parts: tuple[Index, Index], world: World, stop: StopFlag
    ) -> Trial:
        """Train and judge a trial."""
        rate, head = self.candidates[number]
        world.say(f"trial {number + 1} of {len(self.candidates)}: learning rate {rate:g}, classifier {rate * head:g}")
        trial = self._trained(f"{self._folder}/{name}", number, parts, world, stop)
        _write(store, f"{name}.json", asdict(trial), world)
        if world.leads:
            for folder in _LEFT:
                store.remove_folder(f"{name}/{folder}")
        return trial

    def _trained(self, output: str, number: int, parts: tuple[Index, Index], world: World, stop: StopFlag) -> Trial:
        """Train one candidate, from its last checkpoint if it has one, and judge it."""
        (rate, head), (fitted, judged) = self.candidates[number], parts
        recipe = _with_rates(self.recipe, rate, head)
        recipe = replace(recipe, monitor=replace(recipe.monitor, steps=0, data=None))
        training = recipe.training
        samples = epoch_samples(Reader(fitted, recipe.loader.reader), training)
        calendar = Calendar(training.seed, training.batch, samples, training.epochs)
        steps = calendar.step(calendar.total)
        where = replace(self.where, data=fitted.url, output=output, wait=0.0, accept_changes=False)
        try:
            live(recipe, where, world, stop, Task(trial=True, before=number * steps))
            with doing(Phase.EPOCH):
                world.together(lambda: None)  # the first process has written the encoder
                top1, nll = _judged(output, judged, world)
        except (Diverged, NotFinite) as error:
            what = error.what if isinstance(error, Diverged) else "Features are not finite."
            world.say(f"it diverged: {what}")
            return Trial(rate, head, 0.0, None, steps, what)
        world.say(f"held-out top-1 {top1:.1f} %, loss {nll:.3f}")
        return Trial(rate, head, top1, nll, steps)


def check_swept(output: str) -> None:
    """Refuse to choose rates for a run that began without a sweep.

    Raises:
        UserError: the output holds such a run.
    """
    if Record.read(output, patience()) is None:
        return
    store = open_store(f"{output.rstrip('/')}/{SWEEP}", patience())
    if store.size(_CHOICE) is None:
        raise UserError(
            f"{output} holds a run that began without a sweep, so its rates cannot be chosen now. To continue "
            f"the run, leave out --sweep, --rates and --head-rates; {_ANEW}"
        )


def _digest(parts: list[Any]) -> str:
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def _with_rates(recipe: Recipe, rate: float, head: float) -> Recipe:
    return replace(recipe, optimizer=replace(recipe.optimizer, learning_rate=rate, head_rate=head))


def _judged(output: str, judged: Index, world: World) -> tuple[float, float]:
    """Return the accuracy in per cent and the negative log-likelihood of a trial's classifier.

    Raises:
        NotFinite: features or logits are not finite.
    """
    encoder = load(output).to(world.device).to(memory_format=torch.channels_last)
    assert encoder.classifier is not None  # the recipe trains one
    preprocess = Preprocess.of(encoder.image_size, interpolation=encoder.interpolation)
    kind = embedding("pretrained", encoder)
    found = extract(judged, kind, preprocess, world, title="features of held-out images")
    logits_ML = logits(encoder.classifier, found.values_ND, world.device)
    if not torch.isfinite(logits_ML).all():
        raise NotFinite("The classifier returned logits that are not finite; its training diverged.")
    return top(1, logits_ML, found.labels_N), negative_log_likelihood(logits_ML, found.labels_N)


def _read(store: Store, file: str) -> dict[str, Any] | None:
    """Return the content of a file of the sweep, None if the file is missing."""
    try:
        held: dict[str, Any] = json.loads(store.read(file))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except ValueError as error:
        raise UserError(f"{store.name(file)} is damaged. Remove it: its content is computed again.") from error
    return held


def _write(store: Store, file: str, held: dict[str, Any], world: World) -> None:
    """Write a file of the sweep; every rank calls this, and returns after the write."""
    if world.leads:
        store.write(file, json.dumps(held, indent=1).encode())
    world.together(lambda: None)
