"""Check the fields of a configuration against rules: one call, one form of message for all configurations."""

import math
from collections.abc import Callable
from dataclasses import dataclass, field, fields, replace
from numbers import Real
from typing import Any

from hardviews.errors import UserError

_ADDED = "added"
OPTION = "--"
"""Place of fields that a command takes as options without a prefix."""


def added(default: Any) -> Any:
    """Make a field that an earlier version did not have, with the value that keeps the earlier behaviour.

    With this value it is not a part of a run's identity, so runs of the earlier version go on.
    """
    return field(default=default, metadata={_ADDED: True})


def as_before(config: Any) -> frozenset[str]:
    """Return the names of a configuration's added fields that have the value of the earlier behaviour."""
    return frozenset(
        part.name for part in fields(config) if part.metadata.get(_ADDED) and getattr(config, part.name) == part.default
    )


@dataclass(frozen=True)
class Rule:
    """The values that a field may have.

    Attributes:
        words: these values, as they follow "it must be".
        admits: returns whether a value is one of them.
    """

    words: str
    admits: Callable[[Any], bool]

    def note(self, text: str) -> "Rule":
        """Add a unit or an example in brackets."""
        return replace(self, words=f"{self.words} ({text})")

    def or_none(self, effect: str = "") -> "Rule":
        """Admit None as well: a field that is left out. `effect` continues the message: "for the default size"."""
        words = f"{self.words}, or left out {effect}".rstrip()
        return Rule(words, lambda value: value is None or self.admits(value))


def finite() -> Rule:
    """Admit every number except NaN and infinity."""
    return Rule("a finite number", _is_finite)


def at_least(low: float, below: float = math.inf) -> Rule:
    """Admit finite numbers from `low` on, up to but not including `below`."""
    return Rule(f"{low} or more{_end(below)}", lambda value: _is_finite(value) and low <= value < below)


def above(low: float, below: float = math.inf, at_most: float = math.inf) -> Rule:
    """Admit finite numbers above `low`, up to `at_most`, or up to but not including `below`."""
    last = "" if at_most == math.inf else f" and at most {at_most}"
    return Rule(
        f"above {low}{_end(below)}{last}", lambda value: _is_finite(value) and low < value < below and value <= at_most
    )


def within(low: float, high: float) -> Rule:
    """Admit numbers from `low` to `high`, both included."""
    return Rule(f"from {low} to {high}", lambda value: _is_finite(value) and low <= value <= high)


def one_of(*names: str) -> Rule:
    """Admit some words."""
    return Rule(f"{', '.join(names[:-1])} or {names[-1]}", lambda value: value in names)


def each(rule: Rule) -> Rule:
    """Admit a sequence of one or more numbers, all of which a rule admits."""
    return Rule(
        f"one finite number or more, each {rule.words}",
        lambda value: isinstance(value, tuple | list) and len(value) > 0 and all(map(rule.admits, value)),
    )


def interval(rule: Rule) -> Rule:
    """Admit two numbers that a rule admits, the smaller one first."""
    return Rule(
        f"two finite numbers, the smaller first, each {rule.words}",
        lambda value: (
            isinstance(value, tuple | list)
            and len(value) == 2
            and all(map(rule.admits, value))
            and value[0] <= value[1]
        ),
    )


def require(config: object, place: str | None = None, /, **rules: Rule) -> None:
    """Check fields of a configuration, each by its rule.

    `config` is any object with these attributes. `place` is the prefix of a field's name on the command line, for
    example `loader.reader`, or `OPTION`; the name of the class if the same class has several places.

    Raises:
        UserError: a field is wrong; the message names all wrong fields, their values, and the values that they may
            have.
    """
    place = type(config).__name__ if place is None else place
    values = {field: getattr(config, field) for field in rules}
    wrong = [
        _refusal(_name(place, field), values[field], rule)
        for field, rule in rules.items()
        if not rule.admits(values[field])
    ]
    if wrong:
        raise UserError(" ".join(wrong))


def number(variable: str, text: str, rule: Rule, unit: str) -> float:
    """Return the number in the text of an environment variable.

    `unit` are the words after "a number of".

    Raises:
        UserError: the text is not a number, or the rule does not admit it.
    """
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not rule.admits(value):
        raise UserError(f"{variable} is {text!r}; give a number of {unit}, {rule.words}.")
    return value


def _name(place: str, field: str) -> str:
    return f"--{field.replace('_', '-')}" if place == OPTION else f"{place}.{field}"


def _refusal(name: str, value: object, rule: Rule) -> str:
    endless = isinstance(value, Real) and not _is_finite(value)
    prefix = "a finite number, " if endless and "finite" not in rule.words else ""
    return f"{name} is {value!r}; it must be {prefix}{rule.words}."


def _is_finite(value: Any) -> bool:
    # math.isfinite fails for integers that no float can hold. NaN is not between anything.
    return issubclass(type(value), Real) and bool(-math.inf < value < math.inf)


def _end(below: float) -> str:
    return "" if below == math.inf else f" and below {below}"
