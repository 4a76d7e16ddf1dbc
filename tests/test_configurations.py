"""Every number of every configuration is checked: NaN and infinity are refused before anything is built with them."""

import math
import pkgutil
import typing
from collections.abc import Iterator
from dataclasses import dataclass, fields, is_dataclass, replace
from importlib import import_module
from types import UnionType
from typing import Any

import pytest

import hardviews.methods
import hardviews.strategies
from hardviews.data.pack_command import Packing
from hardviews.demo import Demo
from hardviews.doctor.settings import Doctor
from hardviews.errors import UserError
from hardviews.evaluation.features.preprocess import Preprocess
from hardviews.evaluation.monitoring.health import Health
from hardviews.evaluation.probes.classify import Classify
from hardviews.evaluation.probes.knn import Knn
from hardviews.evaluation.probes.linear import Linear
from hardviews.foreign.command import Import
from hardviews.methods.method import MethodConfig
from hardviews.recipes import RECIPES
from hardviews.runs.listing import Runs
from hardviews.strategies.strategy import Strategy
from tests.laws.cases import STRATEGIES

COMMANDS = (
    Packing("source", "out"),
    Import("file", "out"),
    Knn("run"),
    Linear("run"),
    Classify("run"),
    Preprocess(),
    Health(("run",)),
    Runs(),
    Doctor(),
    Demo(),
)


def parts(config: Any) -> Iterator[Any]:
    """Yield a configuration and all that it holds."""
    if isinstance(config, tuple | list):
        for part in config:
            yield from parts(part)
    elif is_dataclass(config):
        yield config
        for field in fields(config):
            yield from parts(getattr(config, field.name))


def one_of_each() -> dict[str, Any]:
    """Return one configuration of each kind, by its name."""
    trees = [*(make() for make in RECIPES.values()), *STRATEGIES.values(), *COMMANDS]
    return {type(part).__name__: part for tree in trees for part in parts(tree)}


CONFIGURATIONS = one_of_each()


def members(hint: Any) -> set[Any]:
    """Return the plain types that a type hint is made of, those inside tuples too."""
    if typing.get_origin(hint) in (typing.Union, UnionType, tuple):
        return set().union(*(members(inner) for inner in typing.get_args(hint)))
    return {hint}


def numbers(config: Any) -> list[str]:
    """Return the names of the fields that hold numbers."""
    hints = typing.get_type_hints(type(config))
    return [field.name for field in fields(config) if members(hints[field.name]) & {int, float}]


def with_number(config: Any, field: str, number: float) -> Any:
    """Return a configuration with a number in a field; in each place of it if the field holds several."""
    value = getattr(config, field)
    return replace(config, **{field: tuple(number for _ in value) if isinstance(value, tuple) else number})


NUMBERS = [(name, field) for name, config in CONFIGURATIONS.items() for field in numbers(config)]


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize(("name", "field"), NUMBERS)
def test_no_number_may_be_nan_or_infinite(name: str, field: str, number: float) -> None:
    spelled = field.replace("_", "[_-]")
    with pytest.raises(UserError, match=rf"(\b|--){spelled}\b"):
        with_number(CONFIGURATIONS[name], field, number)


def subclasses(kind: type) -> Iterator[type]:
    for below in kind.__subclasses__():
        yield below
        yield from subclasses(below)


@pytest.mark.parametrize(("package", "kind"), [(hardviews.methods, MethodConfig), (hardviews.strategies, Strategy)])
def test_no_configuration_is_left_out(package: Any, kind: type) -> None:
    """Each method and each strategy that can be made is among the configurations above."""
    for module in pkgutil.iter_modules(package.__path__):
        import_module(f"{package.__name__}.{module.name}")
    ours = {
        below.__name__
        for below in subclasses(kind)
        if below.__module__.startswith("hardviews.") and not getattr(below, "__abstractmethods__", None)
    }
    assert ours - set(CONFIGURATIONS) == set()


def test_a_number_without_a_check_is_found() -> None:
    @dataclass(frozen=True)
    class Unchecked:
        rate: float | None = 0.1
        pair: tuple[int, int] = (1, 2)
        name: str = ""
        ready: bool = False

    assert numbers(Unchecked()) == ["rate", "pair"]
    assert math.isnan(with_number(Unchecked(), "pair", math.nan).pair[1])
    assert len(NUMBERS) > 100
