"""The command line: `hardviews COMMAND`, typed from the configurations themselves.

A user's mistake is answered in one paragraph and exit code 2, never by a traceback.
"""

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated, TypeVar

import tyro

from hardviews.errors import UserError
from hardviews.recipes.recipe import Recipe

T = TypeVar("T")

_GUIDE = """hardviews pretrains visual encoders on hard views.

commands:
  demo      pretrain on a small data set (or your own images), evaluate, show the table: start here
  pack      turn a folder of images into shards
  pretrain  pretrain an encoder by a recipe
  knn       score an encoder by its nearest neighbours
  linear    score an encoder by a linear probe
  recipes   list the recipes, or show one: hardviews recipes show NAME

next:
  hardviews demo                                             what it does, in minutes
  hardviews pack --source IMAGES --out shards                your own images, one folder a class
  hardviews pretrain digits --data shards --output runs/1    a first run; every setting: hardviews pretrain digits
  --help hardviews knn --run runs/1 --data shards                   what it is worth
"""


def main(arguments: Sequence[str] | None = None) -> None:
    """Run a command; the exit code is 0, or 2 for a user's mistake."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    if not words or words[0] in ("-h", "--help"):
        print(_GUIDE)
        return
    command = _COMMANDS.get(words[0])
    try:
        if command is None:
            raise UserError(
                f"There is no command {words[0]!r}. Choose one of {', '.join(_COMMANDS)}; see hardviews --help."
            )
        command(words[1:])
    except UserError as error:
        print(f"hardviews: {error}", file=sys.stderr)
        raise SystemExit(2) from None
    except KeyboardInterrupt:
        print("hardviews: interrupted", file=sys.stderr)
        raise SystemExit(130) from None


def _parse(kind: type[T], words: Sequence[str], command: str) -> T:
    """Read a configuration from words; unknown words are refused with the nearest known ones."""
    config: T = tyro.cli(kind, args=list(words), prog=f"hardviews {command}", config=(tyro.conf.AvoidSubcommands,))
    return config


@dataclass(frozen=True)
class Where:
    """What a pretraining run reads and where it writes.

    data: URL of a packed dataset, or of a folder with one named `train`. output: folder for checkpoints and the
    encoder. project: folder of the tracking record, where MLFLOW_TRACKING_URI names no server.
    """

    data: str
    output: str
    project: str = ".hardviews"


def _pretrain(words: list[str]) -> None:
    from hardviews.launch.worker import supervised
    from hardviews.recipes import recipe_named
    from hardviews.train.loop import pretrain

    name = words[0] if words and not words[0].startswith("-") else ""
    with supervised():
        recipe = recipe_named(name)
        where, recipe = _parse_both(recipe, words[1:], f"pretrain {name}")
        pretrain(recipe, where.data, where.output, where.project)


def _parse_both(recipe: Recipe, words: Sequence[str], command: str) -> tuple[Where, Recipe]:
    """Read the places and the recipe's overrides from one line."""

    def both(
        where: Annotated[Where, tyro.conf.arg(name="")], recipe: Annotated[Recipe, tyro.conf.arg(name="")] = recipe
    ) -> tuple[Where, Recipe]:
        return where, recipe

    parsed: tuple[Where, Recipe] = tyro.cli(
        both, args=list(words), prog=f"hardviews {command}", config=(tyro.conf.AvoidSubcommands,)
    )
    return parsed


def _pack(words: list[str]) -> None:
    from hardviews.data.packing import Packing

    _parse(Packing, words, "pack").run()


def _knn(words: list[str]) -> None:
    from hardviews.evaluation.knn import Knn, evaluate_knn
    from hardviews.evaluation.report import show

    show([evaluate_knn(_parse(Knn, words, "knn"))])


def _linear(words: list[str]) -> None:
    from hardviews.evaluation.linear import Linear, evaluate_linear
    from hardviews.evaluation.report import show

    show([evaluate_linear(_parse(Linear, words, "linear"))])


def _recipes(words: list[str]) -> None:
    from hardviews.recipes import RECIPES, recipe_named
    from hardviews.tracking.params import flatten

    if words[:1] == ["show"] and len(words) == 2:
        for key, value in flatten(recipe_named(words[1])).items():
            print(f"{key} = {value}")
    elif not words:
        for name, function in RECIPES.items():
            print(f"{name:12s} {(function.__doc__ or '').splitlines()[0]}")
    else:
        raise UserError(
            "Say `hardviews recipes` for a list, or `hardviews recipes show NAME` for one with all its values."
        )


def _demo(words: list[str]) -> None:
    from hardviews.demo import Demo, run_demo

    run_demo(_parse(Demo, words, "demo"))


_COMMANDS: dict[str, Callable[[list[str]], None]] = {
    "demo": _demo,
    "pack": _pack,
    "pretrain": _pretrain,
    "knn": _knn,
    "linear": _linear,
    "recipes": _recipes,
}

if __name__ == "__main__":
    main()
