"""`hardviews finetune`: train an encoder of a run further, on all labels of a dataset or on some."""

from collections.abc import Sequence
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
from hardviews.methods.supervised import SupervisedConfig
from hardviews.models.encoder import Encoder
from hardviews.recipes import recipe_named
from hardviews.recipes.overrides import description
from hardviews.runs.waiting import Dataset, wait_for
from hardviews.runs.where import Where, open_dataset, patience
from hardviews.storage.url import check_given
from hardviews.train.init import open_encoder
from hardviews.train.recipe import Recipe

LABELLED = "labelled"
"""Folder in the output with the images that were drawn."""
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
        wait: seconds to wait for a dataset that is still being packed.
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

    def where(self, data: str) -> Where:
        """Return the places of the training on a dataset."""
        return Where(data, self.output, self.project, self.accept_changes, self.wait, init=self.run)


def read_finetune(words: Sequence[str]) -> tuple[Where, Recipe]:
    """Return what the words name, after the images were drawn; if they ask for help, print it and end the process.

    Raises:
        UserError: the encoder, the dataset or the recipe is not there, or they do not fit.
    """
    given = ["--run", words[0], *words[1:]] if words and not words[0].startswith("-") else list(words)
    own, rest = _apart(given)
    told = next((own[i + 1] for i, word in enumerate(own[:-1]) if word == "--recipe"), None)
    if told is None or {"-h", "--help"} & set(rest):
        return _help(own, rest, told)
    finetuning = parse(Finetuning, own, "finetune")
    wait_for([Dataset(finetuning.data)], finetuning.wait)
    encoder, index = open_encoder(finetuning.run, finetuning.project), open_dataset(finetuning.data)
    recipe = of_encoder(recipe_named(finetuning.recipe), encoder, len(index.classes))

    def settings(recipe: Annotated[Recipe, tyro.conf.arg(name="")] = recipe) -> Recipe:
        return recipe

    made = parse(settings, rest, f"finetune {recipe.name}", description(recipe))
    return finetuning.where(drawn(finetuning, index, made.training.batch)), made


def of_encoder(recipe: Recipe, encoder: Encoder, classes: int) -> Recipe:
    """Return a recipe for an encoder's network and pixels, and for so many classes.

    Raises:
        UserError: the recipe trains no classifier.
    """
    method = recipe.method
    if not isinstance(method, SupervisedConfig):
        raise UserError(
            f"The recipe {recipe.name} trains without labels, so it does not fine-tune. Choose one with a classifier, "
            "such as finetune_swav_r50_20_10pct or digits_finetune; `hardviews recipes` lists them all."
        )
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


def _help(own: Sequence[str], rest: Sequence[str], recipe: str | None) -> tuple[Where, Recipe]:
    if recipe is not None:
        print(f"usage: hardviews finetune RUN --recipe {recipe} --data SHARDS --output TUNED [--SETTING VALUE ...]\n")
        named = recipe_named(recipe)

        def settings(recipe: Annotated[Recipe, tyro.conf.arg(name="")] = named) -> Recipe:
            return recipe

        parse(settings, ["--help"], f"finetune {recipe}", description(named))
    parse(Finetuning, ["--help"] if {"-h", "--help"} & set(rest) else own, "finetune")
    raise UserError("Say by which recipe to fine-tune: --recipe, for example digits_finetune.")
