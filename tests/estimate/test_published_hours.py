"""Hours in the headers of the recipes, against those that an estimate finds on the hardware of the publication."""

import re

import pytest

from hardviews.estimate.command import estimate
from hardviews.estimate.config import IMAGENET as IMAGES
from hardviews.estimate.config import Estimate
from hardviews.estimate.report import Column
from hardviews.recipes import IMAGENET, RECIPES, recipe_named
from hardviews.recipes.header import header
from hardviews.strategies.strategy import Clean


def numbers(name: str) -> tuple[float, int, int]:
    """Return the hours of a header, the number of GPUs, and the number of images: all, or 1 or 10 of 100."""
    facts = header(RECIPES[name]).facts
    hours = float(facts["hours"].split()[0]) if "hours" in facts else float(facts["time"].split()[0]) / 60
    part = re.search(r" x (10?)/100\)", facts.get("hours") or facts["time"]) if name.startswith("finetune") else None
    return hours, int(facts["hardware"].split()[0]), IMAGES * int(part[1] if part else 100) // 100


def hours(name: str) -> float:
    recipe = recipe_named(name)
    column = "plain" if recipe.strategy == Clean() else "exact HVS"
    _, gpus, images = numbers(name)
    report = estimate(recipe, Estimate("v100", gpus, images=images), (column, "recipe"))
    cost = report.columns["recipe" if "recipe" in report.columns else column]
    assert isinstance(cost, Column)
    return report.hours(cost.cost)


@pytest.mark.recipes
@pytest.mark.timeout(1800)  # a minute of one quiet core
@pytest.mark.parametrize("name", [function.__name__ for function in IMAGENET])
def test_hours_of_every_header(name: str) -> None:
    stated, found = numbers(name)[0], hours(name)
    assert stated / 1.5 <= found <= stated * 1.5, f"{name}: {stated} in its header, {found:.1f} by the estimate"
