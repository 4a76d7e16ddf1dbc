"""A recipe as the numbers that train: its resolved values."""

from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from functools import cache
from typing import Any

import torch

from hardviews.clock import Clock
from hardviews.methods.joint import JointConfig
from hardviews.methods.method import Method, MethodConfig
from hardviews.recipes import recipe_named
from hardviews.strategies.adversarial import Adversarial
from hardviews.strategies.compose import Chain, Sum
from hardviews.strategies.hard_views import HardViews
from hardviews.strategies.in_turn import InTurn
from hardviews.strategies.mix import Mixing
from hardviews.strategies.strategy import Strategy
from hardviews.train.recipe import Recipe
from hardviews.views.augmentation import Augmentation


@cache
def method_of(name: str) -> Method:
    """Build a recipe's method, without memory for its weights."""
    recipe = recipe_named(name)
    with torch.device("meta"):
        return recipe.method.build(recipe.backbone.build(), recipe.backbone.num_features)


def strategies(strategy: Strategy) -> Iterator[Strategy]:
    """Yield a strategy and all that it is made of."""
    yield strategy
    if isinstance(strategy, Chain):
        for link in strategy.links:
            yield from strategies(link)
    if isinstance(strategy, Sum):
        for part in strategy.parts:
            yield from strategies(part.strategy)
    if isinstance(strategy, InTurn):
        for turn in strategy.parts:
            yield from strategies(turn)


def look(number: int, view: Augmentation) -> tuple[Any, ...]:
    """Return the distribution of views, as the published table writes it."""
    jitter = view.jitter
    colours = (jitter.brightness, jitter.contrast, jitter.saturation, jitter.hue, jitter.probability)
    rest = (view.grayscale, view.blur, view.solarise, view.interpolation)
    return (number, view.size, tuple(view.scale), colours, *rest)


def resolved(name: str) -> dict[str, Any]:
    """Return a recipe's numbers by name."""
    recipe: Recipe = recipe_named(name)
    training, optimizer, schedule = recipe.training, recipe.optimizer, recipe.schedule
    method = method_of(name)
    steps = 1000 * training.epochs
    peak = optimizer.peak(training.batch)

    def at(step: int, epoch: int) -> Clock:
        return Clock(0, epoch, step, step, steps)

    first, last = at(0, 0), at(steps, training.epochs)
    selecting = [part for part in strategies(recipe.strategy) if isinstance(part, HardViews)]
    plan = method.plan()
    found = {
        "backbone": recipe.backbone.name,
        "zero_residual": recipe.backbone.zero_residual,
        "drop_path": recipe.backbone.drop_path,
        "views": [look(pool.slots, pool.augmentation) for pool in plan.pools],
        "sigma": plan.pools[0].augmentation.sigma,
        "optimizer": optimizer.name,
        "sgd_momentum": optimizer.momentum,
        "weight_decay": optimizer.weight_decay,
        "final_weight_decay": schedule.weight_decay(optimizer.weight_decay, last),
        "decay_biases": optimizer.decay_biases,
        "clip": optimizer.clip,
        "clip_per": optimizer.clip_per,
        "batch": training.batch,
        "group": training.group,
        "epochs": training.epochs,
        "rate": peak,
        "head_rate": peak * optimizer.head_rate,
        "bias_rate": peak * optimizer.bias_rate,
        "layer_decay": optimizer.layer_decay,
        "mixtures": {type(s).__name__: s.alpha for s in strategies(recipe.strategy) if isinstance(s, Mixing)},
        "start_rate": schedule.rate(peak, first, training.epochs) if schedule.warmup else 0.0,
        "final_rate": schedule.rate(peak, last, training.epochs),
        "warmup_epochs": schedule.warmup * training.epochs,
        "per": schedule.per,
        "drops": [round(share * training.epochs) for share in schedule.drops or ()],
        "candidates": selecting[0].candidates if selecting else None,
        "local_candidates": selecting[0].local_candidates if selecting else None,
        "limit": selecting[0].limit if selecting else None,
        "strategy": [type(part).__name__ for part in strategies(recipe.strategy)],
        "parts": [
            type(part.strategy).__name__
            for whole in strategies(recipe.strategy)
            if isinstance(whole, Sum)
            for part in whole.parts
        ],
        "attack": next(
            ((a.epsilon, a.steps, a.branch) for a in strategies(recipe.strategy) if isinstance(a, Adversarial)), None
        ),
        "fixed_rate": [
            name for name, module in method.named_modules() if any(module is m for m in method.fixed_learning_rate())
        ],
    }
    config = recipe.method
    if masks := getattr(config, "masks", None):
        found["masked"] = (masks.probability, tuple(masks.share))
    inner = _settings(config)
    assert not found.keys() & inner.keys(), "a method's setting would hide another"
    return found | inner


def _settings(config: MethodConfig, prefix: str = "") -> dict[str, Any]:
    """Return a method's plain settings, and those of the methods that it adds by their number."""
    if isinstance(config, JointConfig):
        shared: dict[str, Any] = {f"{prefix}share": config.share}
        for n, part in enumerate(config.parts):
            place = f"{prefix}{n}."
            schedule = {f"{place}weight": part.weight, f"{place}ramp": part.ramp, f"{place}begin": part.begin}
            shared |= schedule | _settings(part.method, place)
        return shared
    return {
        prefix + field.name: getattr(config, field.name)
        for field in fields(config)
        if not is_dataclass(getattr(config, field.name))
    }
