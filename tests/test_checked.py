"""The rules of configurations: the admitted values, and one form of message for all refusals."""

import math
from argparse import Namespace
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hardviews.checked import OPTION, Rule, above, at_least, each, finite, interval, number, one_of, require, within
from hardviews.elastic.watchdog import Limits
from hardviews.elastic.worker import last_reached
from hardviews.errors import UserError
from hardviews.storage.patience import usual
from hardviews.storage.store import open_store
from hardviews.storage.url import cache_bound
from hardviews.train.farewell import grace

NUMBERS = {
    "finite": finite(),
    "at_least": at_least(1),
    "at_least, below": at_least(0, below=1),
    "above": above(0),
    "above, below": above(0, below=1),
    "above, at_most": above(0, at_most=1),
    "within": within(0, 1),
}


@dataclass(frozen=True)
class Head:
    width: Any = 8
    momentum: Any = 0.9
    rates: Any = (0.1,)
    name: Any = "sgd"


@pytest.mark.parametrize(
    ("rule", "admitted", "refused"),
    [
        (finite(), [0, -1, 1e300, -0.5], []),
        (at_least(1), [1, 2, 1.0, 10**400], [0, 0.999, -1, -(10**400)]),
        (at_least(0, below=1), [0, 0.5, math.nextafter(1, 0)], [1, 1.0, -1e-300, 2]),
        (above(0), [1e-300, 1, 5], [0, 0.0, -0.0, -1]),
        (above(0, below=1), [1e-300, math.nextafter(1, 0)], [0, 1]),
        (above(0, at_most=1), [1e-300, 1], [0, math.nextafter(1, 2)]),
        (within(0, 1), [0, 0.0, 1, 0.5], [-1e-300, math.nextafter(1, 2)]),
        (within(0, 2**32 - 1), [0, 2**32 - 1], [-1, 2**32]),
        (each(at_least(1)), [(1,), (1, 2), [3]], [(), [], (1, 0), (0, 1), 1, "12", None]),
        (interval(above(0)), [(1, 2), (1, 1), [0.5, 1]], [(2, 1), (0, 1), (1,), (1, 2, 3), (), 1, None]),
        (one_of("bilinear", "bicubic"), ["bilinear", "bicubic"], ["nearest", "", None, 1]),
        (at_least(1).or_none(), [None, 1], [0, math.nan]),
        (at_least(1).note("pixels"), [1], [0, None]),
    ],
)
def test_a_rule_admits_its_values_and_no_others(rule: Rule, admitted: list[Any], refused: list[Any]) -> None:
    assert [value for value in admitted if not rule.admits(value)] == []
    assert [value for value in refused if rule.admits(value)] == []


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, np.float32("nan"), np.float64("inf")])
@pytest.mark.parametrize("rule", NUMBERS.values(), ids=NUMBERS)
def test_no_rule_admits_nan_or_infinity(rule: Rule, value: float) -> None:
    assert not rule.admits(value)
    assert not rule.or_none().admits(value)
    assert not each(rule).admits((value,))
    assert not interval(rule).admits((value, value))
    with pytest.raises(UserError, match=r"^Head\.width is .*; it must be a finite number"):
        require(Head(width=value), width=rule)


@pytest.mark.parametrize("value", [None, "1", "", (1,), [], object()])
@pytest.mark.parametrize("rule", NUMBERS.values(), ids=NUMBERS)
def test_no_rule_of_numbers_admits_another_thing(rule: Rule, value: object) -> None:
    assert not rule.admits(value)


@given(
    low=st.integers(-9, 9), high=st.integers(-9, 9), value=st.floats(-10, 10) | st.integers(-10, 10) | st.fractions()
)
def test_rules_agree_with_the_comparisons_that_they_are_named_after(
    low: int, high: int, value: float | Fraction
) -> None:
    assert at_least(low).admits(value) == (value >= low)
    assert at_least(low, below=high).admits(value) == (low <= value < high)
    assert above(low).admits(value) == (value > low)
    assert above(low, below=high).admits(value) == (low < value < high)
    assert above(low, at_most=high).admits(value) == (low < value <= high)
    assert within(low, high).admits(value) == (low <= value <= high)


@pytest.mark.parametrize(
    ("wrong", "rule", "words"),
    [
        ({"width": 0}, at_least(1), "Head.width is 0; it must be 1 or more."),
        ({"width": 0}, at_least(1).note("pixels"), "Head.width is 0; it must be 1 or more (pixels)."),
        ({"width": 0}, at_least(1).or_none(), "Head.width is 0; it must be 1 or more, or left out."),
        (
            {"width": 0},
            at_least(1).or_none("to measure it"),
            "Head.width is 0; it must be 1 or more, or left out to measure it.",
        ),
        ({"width": "8"}, at_least(1), "Head.width is '8'; it must be 1 or more."),
        ({"width": math.inf}, at_least(1), "Head.width is inf; it must be a finite number, 1 or more."),
        ({"width": math.nan}, finite(), "Head.width is nan; it must be a finite number."),
        ({"momentum": 1.0}, at_least(0, below=1), "Head.momentum is 1.0; it must be 0 or more and below 1."),
        ({"momentum": 0}, above(0), "Head.momentum is 0; it must be above 0."),
        ({"momentum": 0}, above(0, below=1), "Head.momentum is 0; it must be above 0 and below 1."),
        ({"momentum": 2}, above(0, at_most=1), "Head.momentum is 2; it must be above 0 and at most 1."),
        ({"momentum": 2}, within(0, 0.5), "Head.momentum is 2; it must be from 0 to 0.5."),
        ({"rates": ()}, each(above(0)), "Head.rates is (); it must be one finite number or more, each above 0."),
        (
            {"rates": (2, 1)},
            interval(within(0, 4)),
            "Head.rates is (2, 1); it must be two finite numbers, the smaller first, each from 0 to 4.",
        ),
        ({"name": "adam"}, one_of("sgd", "lars", "lamb"), "Head.name is 'adam'; it must be sgd, lars or lamb."),
    ],
)
def test_a_message_names_the_field_the_value_and_the_values_that_may_be(
    wrong: dict[str, Any], rule: Rule, words: str
) -> None:
    with pytest.raises(UserError) as refusal:
        require(Head(**wrong), **dict.fromkeys(wrong, rule))
    assert str(refusal.value) == words


def test_all_wrong_fields_are_in_one_message_in_the_order_of_the_rules() -> None:
    with pytest.raises(UserError) as refusal:
        require(Head(width=0, momentum=3), rates=each(above(0)), momentum=within(0, 1), width=at_least(1))
    assert str(refusal.value) == "Head.momentum is 3; it must be from 0 to 1. Head.width is 0; it must be 1 or more."


def test_right_fields_pass() -> None:
    require(Head(), width=at_least(1), momentum=within(0, 1), rates=each(above(0)), name=one_of("sgd", "lars"))
    require(Head(width=0), momentum=within(0, 1))


def test_the_place_is_the_one_on_the_command_line() -> None:
    for place, name in (("loader.reader", "loader.reader.batch_size"), (OPTION, "--batch-size")):
        with pytest.raises(UserError) as refusal:
            require(Namespace(batch_size=0), place, batch_size=at_least(1))
        assert str(refusal.value) == f"{name} is 0; it must be 1 or more."


def test_a_field_may_have_any_name() -> None:
    with pytest.raises(UserError, match=r"^method\.config is 0; .* method\.place is 0;"):
        require(Namespace(config=0, place=0), "method", config=at_least(1), place=at_least(1))


def test_a_rule_for_a_field_that_does_not_exist_fails() -> None:
    with pytest.raises(AttributeError, match="depth"):
        require(Head(), depth=at_least(1))


# Environment variables

VARIABLES: dict[str, tuple[Callable[[], float | None], str]] = {
    "HARDVIEWS_PATIENCE": (usual, "seconds"),
    "HARDVIEWS_CACHE_BYTES": (cache_bound, "bytes"),
    "HARDVIEWS_GRACE": (grace, "seconds"),
    "HARDVIEWS_REACHED": (last_reached, "steps"),
}


@pytest.mark.parametrize("text", ["nan", "inf", "-inf", "1e999", "-1", "-0.5", "soon", "60s", "1,5", "9" * 5000])
@pytest.mark.parametrize("variable", VARIABLES)
def test_a_variable_that_is_not_a_number_of_its_unit_is_refused(
    monkeypatch: pytest.MonkeyPatch, variable: str, text: str
) -> None:
    read, unit = VARIABLES[variable]
    monkeypatch.setenv(variable, text)
    with pytest.raises(UserError, match=f"{variable} is '{text}'; give a number of {unit}, 0 or more"):
        read()


@pytest.mark.parametrize(("text", "value"), [("0", 0), ("12", 12), (" 3 ", 3), ("1e3", 1000)])
@pytest.mark.parametrize("variable", VARIABLES)
def test_a_variable_that_is_a_number_is_taken(
    monkeypatch: pytest.MonkeyPatch, variable: str, text: str, value: float
) -> None:
    monkeypatch.setenv(variable, text)
    assert VARIABLES[variable][0]() == value


@pytest.mark.parametrize("variable", VARIABLES)
def test_a_variable_that_is_set_and_empty_counts_as_unset(monkeypatch: pytest.MonkeyPatch, variable: str) -> None:
    read = VARIABLES[variable][0]
    monkeypatch.delenv(variable, raising=False)
    unset = read()
    monkeypatch.setenv(variable, "")
    assert read() == unset


def test_a_patience_without_end_is_refused_before_a_store_is_opened(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HARDVIEWS_PATIENCE", "inf")
    with pytest.raises(UserError, match="HARDVIEWS_PATIENCE is 'inf'"):
        open_store("s3://bucket/folder")


@pytest.mark.parametrize("text", ["nan", "inf", "-1", "soon"])
def test_the_watchdog_takes_no_limit_from_a_patience_that_is_not_a_number(text: str) -> None:
    assert Limits.read({"HARDVIEWS_PATIENCE": text}) == Limits()
    with pytest.raises(UserError, match="HARDVIEWS_WATCHDOG"):
        Limits.read({"HARDVIEWS_WATCHDOG": f"step={text}"})


def test_a_number_has_the_values_of_its_rule() -> None:
    assert number("LIMIT", "0.5", within(0, 1), "cores") == 0.5
    with pytest.raises(UserError) as refusal:
        number("LIMIT", "2", within(0, 1), "cores")
    assert str(refusal.value) == "LIMIT is '2'; give a number of cores, from 0 to 1."
