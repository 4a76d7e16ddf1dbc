"""The recipes as a table, and one with all its values."""

from dataclasses import MISSING, Field, fields
from typing import Any

from hardviews.extras import TRAIN, MissingExtra, install
from hardviews.methods.joint import JointConfig
from hardviews.methods.method import MethodConfig
from hardviews.recipes import RECIPES, recipe_named
from hardviews.recipes.header import header
from hardviews.strategies.candidates import Candidates
from hardviews.strategies.compose import Chain, Sum
from hardviews.strategies.in_turn import InTurn
from hardviews.strategies.strategy import Clean, Strategy
from hardviews.tracking.flatten import flatten
from hardviews.train.recipe import Recipe
from hardviews.train.trainer import without_numbers

_COLUMNS = ("recipe", "method", "backbone", "strategy", "epochs", "published")


def table() -> str:
    """Return one line for each recipe: method, network, views, epochs and published number."""
    rows = [_COLUMNS]
    for name, function in RECIPES.items():
        recipe = function()
        method = method_in_short(recipe.method)
        published = header(function).facts.get("number", "-").partition(" (")[0]
        strategy = in_short(recipe.strategy)
        rows.append((name, method, recipe.backbone.name, strategy, str(recipe.training.epochs), published))
    widths = [max(len(row[i]) for row in rows) for i in range(len(_COLUMNS))]
    return "\n".join(
        "  " + "  ".join(f"{text:{width}}" for text, width in zip(row, widths, strict=True)).rstrip() for row in rows
    )


def method_in_short(method: MethodConfig) -> str:
    """Return a method's name, or the names of the methods that it adds."""
    if isinstance(method, JointConfig):
        return "+".join(method_in_short(part.method) for part in method.parts)
    return type(method).__name__.removesuffix("Config")


def in_short(strategy: Strategy) -> str:
    """Return a strategy's parts in a few words, with every setting of a part that differs from its default.

    The number of candidates always stands first: `HardViews(4, size=64)`. Weights of a sum are left out.
    """
    if isinstance(strategy, Chain):
        parts = (f"({in_short(link)})" if isinstance(link, Sum) else in_short(link) for link in strategy.links)
        return " > ".join(parts)
    if isinstance(strategy, Sum):
        return " + ".join(in_short(part.strategy) for part in strategy.parts)
    if isinstance(strategy, InTurn):
        return f"({' | '.join(in_short(part) for part in strategy.parts)})"
    settings = [str(strategy.candidates)] if isinstance(strategy, Candidates) else []
    for field in fields(strategy):  # type: ignore[arg-type]
        value = getattr(strategy, field.name)
        if field.name != "candidates" and value != _default(field):
            settings.append(f"{field.name}={_word(value)}")
    return type(strategy).__name__ + (f"({', '.join(settings)})" if settings else "")


def _default(field: Field[Any]) -> Any:
    return field.default if field.default_factory is MISSING else field.default_factory()


def _word(value: Any) -> str:
    """Return a setting's value without quotes, a fraction by three digits."""
    if isinstance(value, tuple):
        return "+".join(map(_word, value))
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def shown(name: str) -> str:
    """Return a recipe's header, facts that follow from its values, and every value by its name on the command line.

    Raises:
        UserError: there is no recipe of that name.
    """
    recipe = recipe_named(name)
    training, schedule = recipe.training, recipe.schedule
    follows = [
        f"learning rate  {recipe.optimizer.peak(training.batch):g} at its peak, with {training.batch} images a step",
        f"warm-up        {schedule.warmup * training.epochs:g} of {training.epochs} epochs",
        *_passes(recipe),
    ]
    values = [f"{key} = {value}" for key, value in flatten(recipe).items()]
    return "\n".join([f"{name}: {header(RECIPES[name]).text()}", "", *follows, "", *values])


def _passes(recipe: Recipe) -> list[str]:
    try:
        ratio = _ratio(recipe)
    except MissingExtra:
        return [f"passes         not counted: this needs torch, {install(TRAIN)}"]
    return [f"passes         {ratio:.2f} times those of a step without a choice of views"] if ratio else []


def _ratio(recipe: Recipe) -> float | None:
    """Return the passes of a step as a multiple of one without a choice; None if the recipe chooses nothing."""
    if not isinstance(recipe.strategy, Candidates):
        return None
    objective = without_numbers(recipe)
    if objective is None:
        return None
    return recipe.strategy.passes(objective.method).units / Clean().passes(objective.method).units
