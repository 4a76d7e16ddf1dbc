"""The arguments of a component, as text: every mistake in words, in place of TorchX's traceback or usage text.

TorchX 0.7.0 reads each argument by the annotation of the component's parameter. An argument of `Optional[int]` reaches
the component as text; `hardviews.launch.pod_options.number` converts it.
"""

import argparse
import inspect
import re
import typing
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NoReturn

from torchx.specs import AppDef
from torchx.specs.builders import _create_args_parser
from torchx.util.types import decode, decode_optional

from hardviews.errors import UserError, did_you_mean
from hardviews.launch.run_options import ALSO_OURS, RUN_OPTIONS, SWITCHES, before_the_file

SEPARATOR = "--"
_KINDS = {int: "a whole number", float: "a number", "int": "a whole number", "float": "a number"}


class NoJob(UserError):
    """A required argument of a component is missing, so that no job can be made; `mistakes` holds all of them."""

    def __init__(self, mistakes: Sequence[str]) -> None:
        super().__init__(" ".join(mistakes))
        self.mistakes = list(mistakes)


class _Unreadable(Exception):
    """An argument cannot be read: its option, None for a missing one, and a sentence."""

    def __init__(self, option: str | None, message: str) -> None:
        super().__init__(message)
        self.option = option


def split_readable(
    function: Callable[..., AppDef], words: Sequence[str], defaults: Mapping[str, str] | None
) -> tuple[list[str], dict[str, str], list[str]]:
    """Separate the arguments that TorchX can read from the others.

    Args:
        function: the component.
        words: the arguments, as on the command line.
        defaults: values of the section `[component:NAME]` in .torchxconfig.

    Returns:
        The readable words, the readable defaults, and one message for each argument that was left out.

    Raises:
        NoJob: a required argument is missing.
    """
    left, known = list(words), dict(defaults or {})
    mistakes: list[str] = []
    while True:
        try:
            _read(function, left, known)
            return left, known, mistakes
        except _Unreadable as error:
            mistakes.append(str(error))
            shorter = _without(left, error.option)
            if shorter is not None:
                left = shorter
            elif error.option is not None and known.pop(error.option.lstrip("-"), None) is not None:
                mistakes[-1] += f" It is written under [component:...{function.__name__}] in .torchxconfig."
            else:
                raise NoJob(mistakes) from None


def _read(function: Callable[..., AppDef], words: Sequence[str], defaults: Mapping[str, str]) -> None:
    parser = _create_args_parser(function, dict(defaults))
    parser.exit_on_error = False

    def refuse(message: str) -> NoReturn:
        raise _Unreadable(None, f"{function.__name__}: {message}.")

    parser.error = refuse
    try:
        found, unknown = parser.parse_known_args(list(words))
    except argparse.ArgumentError as error:
        option = (error.argument_name or "").split("/")[-1]
        raise _Unreadable(option, _bad_value(parser, option, words, error)) from None
    if unknown:
        raise _Unreadable(unknown[0].partition("=")[0], _unknown(parser, function.__name__, unknown[0]))
    for name, parameter in inspect.signature(function).parameters.items():
        _decode(name, getattr(found, name), decode_optional(parameter.annotation), parameter.kind)


def _unknown(parser: argparse.ArgumentParser, component: str, word: str) -> str:
    option = word.partition("=")[0]
    if option in RUN_OPTIONS:
        return before_the_file(option)
    if not option.startswith("-"):
        return f"{option} is no argument of {component}: arguments have names, as in --cpu 2."
    known = [name for action in parser._actions for name in action.option_strings if name.startswith("--")]
    near = did_you_mean(option, [*known, *RUN_OPTIONS])
    return (
        f"{option} is no argument of {component}.{near} `torchx run FILE --help` lists the "
        "arguments of a job. Those of the command in it come after a `--` of their own, for example "
        "-- --training.epochs 3."
    )


def _bad_value(
    parser: argparse.ArgumentParser, option: str, words: Sequence[str], error: argparse.ArgumentError
) -> str:
    action = next((action for action in parser._actions if option in action.option_strings), None)
    kind = _KINDS.get(getattr(action, "type", None) or "")
    if "expected one argument" in str(error):
        other = f" Or, if it is torchx run's own: torchx run {option} FILE." if option in ALSO_OURS else ""
        return f"{option} has no value. Give {kind or 'one'} after it.{other}"
    if kind is None:
        return f"{option}: {error.message}."
    given = str(error).rpartition("value: ")[2].strip("'\"")
    return f"{option} {given} cannot be read: give {kind}."


def _decode(name: str, value: Any, annotation: Any, kind: inspect._ParameterKind) -> None:
    """Decode a value as TorchX does, and refuse text that TorchX would misread or cut."""
    option = f"--{name}"
    if not isinstance(value, str) or kind is inspect.Parameter.VAR_POSITIONAL:
        return
    origin = typing.get_origin(annotation)
    if annotation in (int, float):
        try:
            annotation(value)
        except ValueError:
            raise _Unreadable(option, f"{option} {value} cannot be read: give {_KINDS[annotation]}.") from None
    elif annotation is bool and value.lower() not in ("true", "false"):
        raise _Unreadable(option, f"{option} {value} cannot be read: write true or false.")
    elif origin is list and value.strip() and not all(part.strip() for part in value.split(",")):
        raise _Unreadable(option, f"{option} {value} has an empty entry between its commas. Write A,B.")
    elif origin in (list, dict):
        try:
            # After an empty value TorchX would take the next name for a part of the previous value.
            if origin is dict and (value.rstrip().endswith("=") or "==" in value or value.lstrip().startswith("=")):
                raise ValueError
            decode(value, annotation)
        except ValueError:
            form = "NAME=VALUE,NAME=VALUE" if origin is dict else "A,B"
            hint = " A value may be empty, as NAME='\"\"', and cannot hold a '='." if origin is dict else ""
            raise _Unreadable(option, f"{option} {value} cannot be read. Write {form}.{hint}") from None


def _without(words: Sequence[str], option: str | None) -> list[str] | None:
    """Remove an option and its value from the words before the separator; None if it is not there."""
    end = words.index(SEPARATOR) if SEPARATOR in words else len(words)
    if option is None:
        return None
    for place, word in enumerate(words[:end]):
        given, equals, _ = word.partition("=")
        short = len(option) == 3 and given == option[1:]  # -j for --j
        if given == option or short or (given.startswith("--") and len(given) > 2 and option.startswith(given)):
            after = place + 1
            takes_none = option in SWITCHES
            if not equals and not takes_none and after < end and not re.match(r"-[^\d.]", words[after]):
                after += 1
            return [*words[:place], *words[after:]]
    return None
