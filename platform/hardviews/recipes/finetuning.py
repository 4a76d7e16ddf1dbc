"""`hardviews finetune`: train an encoder of a run further, on all labels of a dataset or on some."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from typing import Annotated

import tyro

from hardviews.arguments import parse
from hardviews.checked import OPTION, at_least, require
from hardviews.data.index import Index, is_dataset
from hardviews.data.label_subset import Labels
from hardviews.data.pack import pack
from hardviews.data.packed_source import PackedSource
from hardviews.data.source import Subset
from hardviews.elastic.environment import launched
from hardviews.errors import UserError
from hardviews.evaluation.subject import Subject
from hardviews.methods.supervised import SupervisedConfig
from hardviews.models.encoder import Encoder, Form
from hardviews.recipes import recipe_named
from hardviews.recipes.overrides import description
from hardviews.runs.record import Record
from hardviews.runs.waiting import Dataset, EncoderOfRun, wait_for
from hardviews.runs.where import Where, open_dataset, patience
from hardviews.storage.url import check_given
from hardviews.train.init import open_encoder
from hardviews.train.recipe import Recipe

LABELLED = "labelled"
"""Folder in the output with the images that were drawn."""
Fit = Callable[["Finetuning", Recipe], Recipe]

_PATIENCE = 3600.0  # seconds in which the first process has drawn them


@dataclass(frozen=True)
class Finetuning:
    """What is fine-tuned, and on which labels.

    Attributes:
        run: the encoder: the output of a pretraining, an MLflow run id, an encoder's file, or `timm:NAME`.
        data: folder or URL of a packed dataset with labels.
        output: folder or URL for checkpoints and the tuned encoder; a run that is there already goes on.
        recipe: how: one of the recipes with a classifier, such as finetune_swav_r50_20_10pct or digits_finetune.
        labels: how many labels: 100%, 10%, 1% or 16-per-class; as many of each class.
        labels_seed: of their draw.
        project: folder of the tracking record, where MLFLOW_TRACKING_URI names no server.
        accept_changes: go on with the run in the output although settings of its recipe are others now.
        wait: seconds to wait for a dataset that is still being packed, and for an encoder that is still trained.
    """

    run: str
    data: str
    output: str
    recipe: str
    labels: str = "100%"
    labels_seed: int = 0
    project: str = ".hardviews"
    accept_changes: bool = False
    wait: float = 0.0

    def __post_init__(self) -> None:
        """Refuse places that are not named, and numbers of labels that are none."""
        check_given(run=self.run, data=self.data, output=self.output)
        require(self, OPTION, wait=at_least(0).note("seconds"), labels_seed=at_least(0))
        Labels.read(self.labels)
        if self.output.rstrip("/") == self.run.rstrip("/"):
            raise UserError(
                f"--output {self.output} is the run that is fine-tuned, and a run has one recipe. Name another output."
            )

    def where(self, data: str) -> Where:
        """Return the places of the training on a dataset."""
        return Where(data, self.output, self.project, self.accept_changes, self.wait, init=self.run)


def read_words(words: Sequence[str], fitted: Fit | None = None) -> tuple[Finetuning, Recipe]:
    """Return what the words name; if they ask for help, print it and end the process.

    fitted: makes the recipe that the settings are read for; by default it is as it is named.

    Raises:
        UserError: they name no recipe, or something that it does not have.
    """
    given = ["--run", words[0], *words[1:]] if words and not words[0].startswith("-") else list(words)
    own, rest = _apart(given)
    told = next((own[i + 1] for i, word in enumerate(own[:-1]) if word == "--recipe"), None)
    if told is None or {"-h", "--help"} & set(rest):
        return _help(own, rest, told)
    finetuning = parse(Finetuning, own, "finetune")
    named = with_classifier(recipe_named(finetuning.recipe))
    named = named if fitted is None else fitted(finetuning, named)

    def settings(recipe: Annotated[Recipe, tyro.conf.arg(name="")] = named) -> Recipe:
        return recipe

    return finetuning, parse(settings, rest, f"finetune {named.name}", description(named))


def read_finetune(words: Sequence[str]) -> tuple[Where, Recipe, Callable[[], Encoder] | None]:
    """Return what the words name, after the images were drawn.

    The last one gives away the encoder, which was read; it is None if the run was begun before.

    Raises:
        UserError: the encoder, the dataset or the recipe is not there, or they do not fit.
    """
    opened: list[Encoder] = []

    def fit(finetuning: Finetuning, recipe: Recipe) -> Recipe:
        begun = Record.read(finetuning.output, patience())
        if begun is not None and begun.encoder:
            wait_for([Dataset(finetuning.data)], finetuning.wait)
            return of_encoder(recipe, Form.of(begun.encoder), len(open_dataset(finetuning.data).classes))
        subject = Subject(encoder=finetuning.run)
        awaited = [Dataset(finetuning.data), *([EncoderOfRun(finetuning.run)] if subject.waits else [])]
        wait_for(awaited, finetuning.wait)
        opened.append(open_encoder(finetuning.run, finetuning.project))
        return of_encoder(recipe, opened[0].form, len(open_dataset(finetuning.data).classes))

    finetuning, recipe = read_words(words, fit)
    index = open_dataset(finetuning.data)
    where = finetuning.where(drawn(finetuning, index, recipe.training.batch))
    return where, recipe, opened.pop if opened else None


def with_classifier(recipe: Recipe) -> Recipe:
    """Return a recipe that trains a classifier.

    Raises:
        UserError: it trains none.
    """
    if isinstance(recipe.method, SupervisedConfig):
        return recipe
    raise UserError(
        f"The recipe {recipe.name} trains without labels, so it does not fine-tune. Choose one with a classifier, "
        "such as finetune_swav_r50_20_10pct or digits_finetune; `hardviews recipes` lists them all."
    )


def of_encoder(recipe: Recipe, encoder: Form, classes: int) -> Recipe:
    """Return a recipe for an encoder's network and pixels, and for so many classes."""
    method = recipe.method
    assert isinstance(method, SupervisedConfig)
    view = replace(method.view, normalisation=encoder.normalisation, size=encoder.image_size)
    backbone = replace(encoder.backbone, drop_path=recipe.backbone.drop_path)
    return replace(recipe, backbone=backbone, method=replace(method, classes=max(2, classes), view=view))


def drawn(finetuning: Finetuning, index: Index, batch: int) -> str:
    """Return the address of the labelled images: the dataset itself, or those that were drawn into the output.

    The first process draws them, once; the others wait.

    Raises:
        UserError: they are fewer than a batch; nothing was written then.
    """
    labels = Labels.read(finetuning.labels)
    if labels.all:
        return index.url
    rows = labels.draw(index, finetuning.labels_seed)
    if len(rows) < batch:
        raise UserError(
            f"--labels {finetuning.labels} are {len(rows)} images, fewer than a batch of {batch}: take more labels, or "
            "lower --training.batch and --training.group."
        )
    amount = finetuning.labels.replace("%", "pct")
    out = f"{finetuning.output.rstrip('/')}/{LABELLED}/{amount}-seed{finetuning.labels_seed}/train"
    if launched().rank:
        wait_for([Dataset(out)], _PATIENCE)
    elif not is_dataset(out, patience()):
        pack(Subset(PackedSource(index), tuple(rows)), out)
    return out


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


def _help(own: Sequence[str], rest: Sequence[str], recipe: str | None) -> tuple[Finetuning, Recipe]:
    if recipe is not None:
        print(f"usage: hardviews finetune RUN --recipe {recipe} --data SHARDS --output TUNED [--SETTING VALUE ...]\n")
        named = recipe_named(recipe)

        def settings(recipe: Annotated[Recipe, tyro.conf.arg(name="")] = named) -> Recipe:
            return recipe

        parse(settings, ["--help"], f"finetune {recipe}", description(named))
    parse(Finetuning, ["--help"] if {"-h", "--help"} & set(rest) else own, "finetune")
    raise UserError("Say by which recipe to fine-tune: --recipe, for example digits_finetune.")
