"""Hours in the headers of the recipes, against those that an estimate finds on the hardware of the publication."""

import pytest

from hardviews.estimate.command import estimate
from hardviews.estimate.config import Estimate
from hardviews.estimate.report import Column
from hardviews.recipes import IMAGENET, RECIPES, recipe_named
from hardviews.recipes.header import header
from hardviews.strategies.strategy import Clean


def numbers(name: str) -> tuple[float, int]:
    """Return the hours of a header, and the number of GPUs."""
    facts = header(RECIPES[name]).facts
    return float(facts["hours"].split()[0]), int(facts["hardware"].split()[0])


def hours(name: str) -> float:
    recipe = recipe_named(name)
    column = "plain" if recipe.strategy == Clean() else "exact HVS"
    report = estimate(recipe, Estimate("v100", numbers(name)[1]), (column, "recipe"))
    cost = report.columns["recipe" if "recipe" in report.columns else column]
    assert isinstance(cost, Column)
    return report.hours(cost.cost)


@pytest.mark.recipes
@pytest.mark.timeout(1800)  # a minute of one quiet core
@pytest.mark.parametrize("name", [function.__name__ for function in IMAGENET])
def test_hours_of_every_header(name: str) -> None:
    stated, found = numbers(name)[0], hours(name)
    assert stated / 1.5 <= found <= stated * 1.5, f"{name}: {stated} in its header, {found:.1f} by the estimate"
