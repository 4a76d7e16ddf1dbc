"""`hardviews estimate`: cost of a recipe, plain and on hard views, before it is run."""

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Annotated

import torch
import tyro

from hardviews.arguments import parse
from hardviews.data.shares import check_sizes
from hardviews.errors import UserError
from hardviews.estimate.config import Estimate
from hardviews.estimate.fake_step import FakeTrainer, StepCost
from hardviews.estimate.gpus import GPUS
from hardviews.estimate.report import Column, Refused, Report
from hardviews.estimate.ways import steps, ways
from hardviews.recipes import RECIPES, recipe_named
from hardviews.recipes.overrides import description, refuse_choice
from hardviews.recipes.table import in_short, table
from hardviews.train.epoch import too_small
from hardviews.train.recipe import Recipe
from hardviews.train.trainer import build_objective


def run_estimate(words: Sequence[str]) -> None:
    """Print the estimate that the words ask for."""
    config, recipe = read_estimate(words)
    report = estimate(recipe, config)
    print(report.json() if config.json else report.text())


def read_estimate(words: Sequence[str]) -> tuple[Estimate, Recipe]:
    """Return the machines, and the recipe with every value that the words name replaced.

    Raises:
        UserError: there is no such recipe, or a word that neither has.
    """
    if not words or words[0] in ("-h", "--help"):
        print("usage: hardviews estimate RECIPE [--gpu GPU --gpus N --images N --share S] [--SETTING VALUE ...]")
        print(f"\nGPUs: {', '.join(GPUS)}\n\nrecipes:\n{table()}")
        print("\nEvery option and its value: hardviews estimate RECIPE --help")
        if not words:
            raise UserError("Say which recipe to estimate, for example: hardviews estimate simsiam_r50_100")
        raise SystemExit(0)
    if words[0].startswith("-"):
        name = next((word for word in words if word in RECIPES), "simsiam_r50_100")
        raise UserError(f"The recipe comes first, before {words[0]}: hardviews estimate {name} {words[0]} ...")
    named = recipe_named(words[0])

    def both(
        config: Annotated[Estimate, tyro.conf.arg(name="")],
        recipe: Annotated[Recipe, tyro.conf.arg(name="")] = named,
    ) -> tuple[Estimate, Recipe]:
        return config, recipe

    refuse_choice(named, words[1:], f"hardviews estimate {named.name}")
    return parse(both, words[1:], f"estimate {named.name}", description(named))


def estimate(recipe: Recipe, config: Estimate, only: Sequence[str] = ()) -> Report:
    """Return the cost of a recipe under each way to choose and harden views; `only` names columns to leave in.

    Raises:
        UserError: the images do not fill a batch, or the recipe cannot be trained on so many GPUs, or its network looks
            at numbers.
    """
    training = recipe.training
    check_sizes(training.batch, training.group, training.accumulate, config.gpus)
    if config.images < training.batch:
        unit = training.group * training.accumulate
        raise UserError(too_small(config.images, config.images, training.batch, unit, "give more --images"))
    with torch.device("meta"):
        method = build_objective(recipe).method
    # The largest share: groups are not cut.
    groups = training.batch // training.accumulate // training.group
    samples = math.ceil(groups / config.gpus) * training.group
    columns: dict[str, Column | Refused] = {}
    for name, strategy in ways(method, recipe, config.candidates).items():
        if only and name not in only:
            continue
        own = strategy == recipe.strategy
        try:
            columns[name] = Column(in_short(strategy), _cost(replace(recipe, strategy=strategy), config, samples))
        except UserError as error:
            if own:
                raise
            columns[name] = Refused(in_short(strategy), str(error))
    return Report(recipe, config, samples, columns)


def _cost(recipe: Recipe, config: Estimate, samples: int) -> StepCost:
    trainer, numbers = FakeTrainer(recipe, config.images), steps(recipe.strategy)
    first, *others = [trainer.step(samples, number, config.gpus > 1) for number in numbers]
    return sum(others, first) / len(numbers)
