"""A training and its outcome."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from hardviews.errors import UserError
from hardviews.interface.encoders import LoadedEncoder, load
from hardviews.interface.packing import Place
from hardviews.interface.words import words
from hardviews.recipes.command import read_pretrain
from hardviews.recipes.finetuning import read_finetune
from hardviews.runs.where import Where
from hardviews.storage.store import open_store
from hardviews.train.loop import pretrain as train
from hardviews.train.recipe import Recipe


@dataclass(frozen=True)
class Run:
    """A training by its output, a folder or URL."""

    output: str

    @property
    def history(self) -> list[dict[str, Any]]:
        """The metrics that were logged: a mapping for each logged step, with `step` among them."""
        try:
            text = open_store(self.output).read("history.jsonl").decode()
        except FileNotFoundError:
            return []
        return [json.loads(line) for line in text.splitlines()]

    def encoder(self) -> LoadedEncoder:
        """Return the encoder of a finished training."""
        return load(self.output)


def pretrain(
    recipe: str | Recipe,
    data: Place,
    output: Place,
    *,
    settings: Mapping[str, Any] | None = None,
    project: Place = ".hardviews",
    **where: Any,
) -> Run:
    """Train an encoder in this process, as `hardviews pretrain` does; a training that is in the output goes on.

    Args:
        recipe: its name, or a `Recipe`.
        data: a packed dataset.
        output: a folder or URL.
        settings: values of the recipe that are to be others, such as {"training.epochs": 5}.
        project: folder of the tracking record, if MLFLOW_TRACKING_URI names no server.
        where: other settings of places, such as init="runs/first".

    Raises:
        UserError: something cannot work; nothing was trained.
    """
    places: dict[str, Any] = {"data": str(data), "output": str(output), "project": str(project), **where}
    if isinstance(recipe, Recipe):
        if settings:
            raise UserError("pretrain got a Recipe and settings: change the recipe (dataclasses.replace), or name it.")
        train(recipe, Where(**places))
    else:
        there, made = read_pretrain([recipe, *words(places), *words(settings or {})])
        train(made, there)
    return Run(str(output))


def finetune(
    run: Place | Run,
    recipe: str,
    data: Place,
    output: Place,
    *,
    labels: str = "100%",
    settings: Mapping[str, Any] | None = None,
    project: Place = ".hardviews",
    **where: Any,
) -> Run:
    """Train an encoder further on labels, as `hardviews finetune` does.

    `run`: the training whose encoder it begins from. `labels`: how many of them, such as "10%" or "16-per-class".
    `where`: other settings of the command, such as sweep=True.

    Raises:
        UserError: something cannot work; nothing was trained.
    """
    encoder = run.output if isinstance(run, Run) else str(run)
    places = {"recipe": recipe, "data": data, "output": output, "labels": labels, "project": project, **where}
    read_finetune([encoder, *words(places), *words(settings or {})]).run()
    return Run(str(output))
