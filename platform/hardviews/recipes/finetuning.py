"""`hardviews finetune`: train an encoder of a run further, on all labels of a dataset or on some."""

import logging
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from typing import Annotated

import tyro

from hardviews.arguments import parse
from hardviews.checked import OPTION, above, at_least, each, require
from hardviews.data.index import Index
from hardviews.data.label_subset import Labels
from hardviews.elastic.environment import launched
from hardviews.errors import UserError
from hardviews.evaluation.subject import Subject
from hardviews.methods.supervised import SupervisedConfig
from hardviews.models.encoder import Encoder, Form
from hardviews.recipes import recipe_named
from hardviews.recipes.begun import Start, of_begun
from hardviews.recipes.drawn_labels import Draw
from hardviews.recipes.finetune_rates import candidates
from hardviews.recipes.label_division import Division
from hardviews.recipes.overrides import description, refuse_choice
from hardviews.recipes.rate_sweep import Sweep, check_swept
from hardviews.runs.record import Record
from hardviews.runs.waiting import Dataset, EncoderOfRun, wait_for
from hardviews.runs.where import Where, open_dataset, patience
from hardviews.storage.url import check_given
from hardviews.train.init import open_encoder
from hardviews.train.loop import live, together
from hardviews.train.recipe import Recipe
from hardviews.train.task import Task
from hardviews.train.tuning import Source, Tuning

logger = logging.getLogger(__name__)

Fit = Callable[["Finetuning", Recipe], Recipe]


@dataclass(frozen=True)
class Finetuning:
    """The encoder to fine-tune, and the labels.

    Attributes:
        run: the encoder: the output of a pretraining, an MLflow run id, an encoder's file, or `timm:NAME`.
        data: folder or URL of a packed dataset with labels.
        output: folder or URL for checkpoints and the tuned encoder; a run that is there already goes on.
        recipe: how: one of the recipes with a classifier, such as finetune_swav_r50_20_10pct or digits_finetune.
        labels: how many labels: 100%, 10%, 1% or 16-per-class, as many of each class; or simclr-1% or simclr-10%, the
            images in SimCLR's published lists of ImageNet.
        labels_seed: seed of their draw.
        labels_list: path or URL of the file of the published list, or of its folder; without it the file is fetched.
        sweep: choose the learning rates on held-out labels: train each candidate on the other labels, and with the best
            one on all of them.
        rates: values of optimizer.learning_rate to choose from; if given, they start a sweep. By default the values of
            the recipe's publication, or three around the recipe's own.
        head_rates: values of optimizer.head_rate to choose from, with each of the rates; given, they ask for a sweep.
        hold_out: share of the labels of each class that a sweep holds out, one at least.
        project: folder of the tracking record, if MLFLOW_TRACKING_URI does not name a server.
        accept_changes: go on with the run in the output although settings of its recipe are others now.
        wait: seconds to wait for a dataset that is still being packed, and for an encoder that is still trained.
    """

    run: str
    data: str
    output: str
    recipe: str
    labels: str = "100%"
    labels_seed: int = 0
    labels_list: str | None = None
    sweep: bool = False
    rates: tuple[float, ...] | None = None
    head_rates: tuple[float, ...] | None = None
    hold_out: float = 0.2
    project: str = ".hardviews"
    accept_changes: bool = False
    wait: float = 0.0

    def __post_init__(self) -> None:
        """Refuse places that are not named, and numbers of labels that are none."""
        check_given(run=self.run, data=self.data, output=self.output, labels_list=self.labels_list)
        require(
            self,
            OPTION,
            wait=at_least(0).note("seconds"),
            labels_seed=at_least(0),
            rates=each(above(0)).or_none(),
            head_rates=each(above(0)).or_none(),
            hold_out=above(0, below=1).note("a share of the labels"),
        )
        Labels.read(self.labels, self.labels_list)
        if self.output.rstrip("/") == self.run.rstrip("/"):
            raise UserError(
                f"--output {self.output} is the run that is fine-tuned, and a run has one recipe. Name another output."
            )

    @property
    def sweeps(self) -> bool:
        """Whether rates are chosen."""
        return self.sweep or self.rates is not None or self.head_rates is not None

    @property
    def seed(self) -> int | None:
        """The seed of the draw, None if no label is drawn at random."""
        asked = Labels.read(self.labels, self.labels_list)
        return None if asked.all or asked.listed is not None else self.labels_seed

    @property
    def draw(self) -> str:
        """The labels in words, such as `10% seed 0`."""
        asked = str(Labels.read(self.labels, self.labels_list))
        return asked if self.seed is None else f"{asked} seed {self.seed}"

    @property
    def division(self) -> Division:
        """How a sweep divides the labels."""
        return Division(self.labels_seed, self.hold_out)

    def where(self, data: str) -> Where:
        """Return the places of the training on a dataset."""
        return Where(data, self.output, self.project, self.accept_changes, self.wait, init=self.run)


def read_words(words: Sequence[str], fitted: Fit | None = None) -> tuple[Finetuning, Recipe]:
    """Return the configuration in the words; if they ask for help, print it and end the process.

    `fitted`: makes the recipe that the settings are read for; by default it is as it is named.

    Raises:
        UserError: they name no recipe, or something that it does not have.
    """
    given = ["--run", words[0], *words[1:]] if words and not words[0].startswith("-") else list(words)
    own, rest = _apart(given)
    recipe_name = next((own[i + 1] for i, word in enumerate(own[:-1]) if word == "--recipe"), None)
    if recipe_name is None or {"-h", "--help"} & set(rest):
        return _help(own, rest, recipe_name)
    finetuning = parse(Finetuning, own, "finetune")
    _check_rates(finetuning, rest)
    named = with_classifier(recipe_named(finetuning.recipe))
    refuse_choice(named, rest, f"hardviews finetune {finetuning.run} --recipe {named.name}")
    named = named if fitted is None else fitted(finetuning, named)

    def settings(recipe: Annotated[Recipe, tyro.conf.arg(name="")] = named) -> Recipe:
        return recipe

    return finetuning, parse(settings, rest, f"finetune {named.name}", description(named))


@dataclass(frozen=True)
class Prepared:
    """A fine-tuning whose images were drawn.

    Attributes:
        where: places of the training.
        recipe: for the encoder's network and the classes of the data.
        tuning: its facts.
        sweep: sweep before it, if rates are to be chosen.
        opened: gives away the encoder; a run that has a checkpoint does not call it.
    """

    where: Where
    recipe: Recipe
    tuning: Tuning
    sweep: Sweep | None
    opened: Callable[[], Encoder]

    def run(self) -> None:
        """Choose the rates if requested, then train, from the end of an earlier life.

        Raises:
            As `pretrain`.
        """
        with together(self.recipe) as (world, stop):
            recipe, task = self.recipe, Task(tuning=self.tuning, opened=self.opened)
            if self.sweep is not None:
                table = self.sweep.choose(world, stop)
                recipe, best = self.sweep.applied(table), table.chosen
                world.say(f"chosen: {best.rates}; held-out top-1 {best.top1:.1f} %")
                steps = sum(trial.steps for trial in table.trials)
                task = replace(task, before=steps, tuning=replace(self.tuning, rates=table))
            live(recipe, self.where, world, stop, task)


def read_finetune(words: Sequence[str]) -> Prepared:
    """Return the configuration in the words, after the images were drawn.

    Raises:
        UserError: the encoder, the dataset or the recipe is not there, or they do not fit.
    """
    starts: list[Start] = []

    def fit(finetuning: Finetuning, recipe: Recipe) -> Recipe:
        begun = Record.read(finetuning.output, patience())
        if begun is not None and begun.encoder and begun.source:
            wait_for([Dataset(finetuning.data)], finetuning.wait)
            start = of_begun(finetuning.output, begun, finetuning.run, finetuning.project, finetuning.draw)
        else:
            subject = Subject(encoder=finetuning.run)
            awaited = [Dataset(finetuning.data), *([EncoderOfRun(finetuning.run)] if subject.waits else [])]
            wait_for(awaited, finetuning.wait)
            start = Start.of(open_encoder(finetuning.run, finetuning.project), finetuning.run, finetuning.draw)
        starts.append(start)
        return of_encoder(recipe, start.form, len(open_dataset(finetuning.data).classes))

    finetuning, recipe = read_words(words, fit)
    (start,) = starts
    source, finetuning = start.source, replace(finetuning, run=start.place)
    rates = candidates(recipe, finetuning.rates, finetuning.head_rates)
    if finetuning.sweeps:
        check_swept(finetuning.output)
    index = open_dataset(finetuning.data)
    finetuning.where(finetuning.data).check_apart(index.url)
    drawn = Draw(finetuning.labels, finetuning.labels_list, finetuning.labels_seed, finetuning.output, finetuning.data)
    division = finetuning.division if finetuning.sweeps else None
    where = finetuning.where(drawn.packed(index, recipe.training.batch, division))
    labels = Index.load(where.data, patience())
    sweep = None
    if finetuning.sweeps:
        sweep = Sweep(recipe, where, source.digest, rates, finetuning.division)
        sweep.check_choice(labels)
    facts = _facts(finetuning, source, labels)
    if facts.scarce and not launched().rank:
        fewest, most = facts.per_class
        each = f"{fewest}" if fewest == most else f"{fewest} to {most}"
        logger.warning("--labels %s: classes have fewer images; each gives %s.", finetuning.labels, each)
    return Prepared(where, recipe, facts, sweep, start.opened)


def _facts(finetuning: Finetuning, source: Source, labels: Index) -> Tuning:
    asked = Labels.read(finetuning.labels, finetuning.labels_list)
    counts = Counter(label for label in labels.labels.tolist() if label >= 0).values()
    return Tuning(
        encoder=finetuning.run,
        source=source,
        data=finetuning.data,
        labels=str(asked),
        seed=finetuning.seed,
        images=len(labels),
        per_class=(min(counts, default=0), max(counts, default=0)),
    )


def with_classifier(recipe: Recipe) -> Recipe:
    """Return a recipe that trains a classifier.

    Raises:
        UserError: it trains none.
    """
    if isinstance(recipe.method, SupervisedConfig):
        return recipe
    raise UserError(
        f"The recipe {recipe.name} does not train by labels alone, so it does not fine-tune. Choose one that does, "
        "such as finetune_swav_r50_20_10pct or digits_finetune; `hardviews recipes` lists them all."
    )


def of_encoder(recipe: Recipe, encoder: Form, classes: int) -> Recipe:
    """Return a recipe for an encoder's network and pixels, and for so many classes."""
    method = recipe.method
    assert isinstance(method, SupervisedConfig)
    view = replace(method.view, normalisation=encoder.normalisation, size=encoder.image_size)
    backbone = replace(encoder.backbone, drop_path=recipe.backbone.drop_path)
    return replace(recipe, backbone=backbone, method=replace(method, classes=max(2, classes), view=view))


def _apart(words: Sequence[str]) -> tuple[list[str], list[str]]:
    """Return the words of `Finetuning`, and those of the recipe."""
    names = {f"--{field.name}".replace("_", "-") for field in fields(Finetuning)}
    own: list[str] = []
    rest: list[str] = []
    into = rest
    for word in words:
        if word.startswith("--"):
            name, equals, value = word.partition("=")
            mine = name.replace("_", "-").replace("--no-", "--") in names
            into = own if mine else rest
            into.extend([name, value] if equals and mine else [word])
        else:
            into.append(word)
    return own, rest


def _check_rates(finetuning: Finetuning, words: Sequence[str]) -> None:
    """Refuse a rate in the words of the recipe that the sweep would not use."""
    given = {word.partition("=")[0].replace("_", "-") for word in words if word.startswith("--")}
    if finetuning.sweeps and "--optimizer.learning-rate" in given:
        raise UserError(
            "--optimizer.learning-rate gives the learning rate, and a sweep chooses it. Name the candidates by --rates "
            "alone; or train at one rate, without --sweep, --rates and --head-rates."
        )
    if finetuning.head_rates is not None and "--optimizer.head-rate" in given:
        raise UserError(
            "--optimizer.head-rate gives the rate of the classifier, and --head-rates names the candidates for it. "
            "Give one of both."
        )


def _help(own: Sequence[str], rest: Sequence[str], recipe: str | None) -> tuple[Finetuning, Recipe]:
    if recipe is not None:
        print(f"usage: hardviews finetune RUN --recipe {recipe} --data SHARDS --output TUNED [--SETTING VALUE ...]\n")
        named = recipe_named(recipe)

        def settings(recipe: Annotated[Recipe, tyro.conf.arg(name="")] = named) -> Recipe:
            return recipe

        parse(settings, ["--help"], f"finetune {recipe}", description(named))
    parse(Finetuning, ["--help"] if {"-h", "--help"} & set(rest) else own, "finetune")
    raise UserError("Say by which recipe to fine-tune: --recipe, for example digits_finetune.")
