"""The description of a training on its page in MLflow: a verdict, then its settings and the command to go on.

Each part is a section of its own (`tracking/notes.py`): evaluations put their scores between the verdict and the rest.
"""

from dataclasses import dataclass

from hardviews.data.index import Index
from hardviews.health import verdict as health
from hardviews.health.course import Course
from hardviews.methods.supervised import SupervisedConfig
from hardviews.runs.history import History
from hardviews.tracking.experiment import TRAINING_MENUS, VIEW
from hardviews.tracking.mlflow_run import Run
from hardviews.tracking.notes import EXPERIMENT, HEAD
from hardviews.tracking.spare import spare
from hardviews.tracking.unfinished import unfinished
from hardviews.train.choice import audited
from hardviews.train.command_line import CommandLine, in_lines
from hardviews.train.recipe import Recipe
from hardviews.train.tuning import Tuning

ACCURACY = "accuracy/top1"
"""Metric of a training by labels: the share of training views whose label is the most likely class."""


@dataclass(frozen=True)
class Description:
    """The content of the description.

    Attributes:
        run: run that is described.
        recipe: recipe with the values of the command line.
        data: address of the data, as it was given.
        index: index of the training data.
        output: address of checkpoints and encoder.
        command: command that started this life.
        total: number of samples of the whole training.
        tuning: the facts of a fine-tuning.
    """

    run: Run
    recipe: Recipe
    data: str
    index: Index
    output: str
    command: CommandLine
    total: int
    tuning: Tuning | None = None

    def begin(self, samples: int) -> None:
        """Write all sections that are known before the first step; `samples` were seen by earlier lives."""
        with spare("the description"):
            self.run.set_section(HEAD, self._with_headline(unfinished(samples, self.total)))
            if self.tuning is not None:
                self.run.set_section("Fine-tuning", self.tuning.section())
            self.run.set_section("Settings", self._settings())
            self.run.set_section("Data", self._data())
            self.run.set_section("Go on from here", self._commands())

    def judge(self, history: History, samples: int) -> None:
        """Write the verdict on a training that has seen `samples` samples."""
        with spare("the verdict"):
            right = right_while_training(history)
            self.run.set_section(HEAD, self._with_headline(verdict(history, samples, self.total), right))
            choice = audited(history)
            if choice is not None:
                self.run.set_section("Choice of views", choice)

    def _with_headline(self, line: str, right: str = "") -> str:
        """Return the first lines: for a fine-tuning its encoder, then the state of the training."""
        if self.tuning is None:
            return f"{line} {right}".rstrip()
        own = self.recipe.optimizer
        return f"{self.tuning.headline(own.learning_rate, own.head_rate)} {right}".rstrip() + f"\n\n{line}"

    def _settings(self) -> str:
        changes = self.command.changes()
        recipe = f"Recipe `{self.recipe.name}`, seed {self.recipe.training.seed}"
        if not changes:
            return f"{recipe}, with its own settings." if self.command.given else f"{recipe}."
        lines = "\n".join(f"* `{_code(name)}`: `{_code(value)}`" for name, value in changes.items())
        return f"{recipe}. Settings that differ from it:\n\n{lines}"

    def _data(self) -> str:
        classes = f" of {len(self.index.classes)} classes" if self.index.labelled and self.index.classes else ""
        place = "in" if self.tuning is None or self.tuning.seed is None else "drawn from"
        return (
            f"{len(self.index):,} images{classes} {place} `{_code(self.data)}` (digest `{self.index.digest[:12]}`).\n"
            f"Checkpoints and encoder: `{_code(self.output)}`."
        )

    @property
    def _classifies(self) -> bool:
        return isinstance(self.recipe.method, SupervisedConfig)

    def _commands(self) -> str:
        folder = self.data.rstrip("/").removesuffix("/train")
        places = [["--run", self.output], ["--data", folder]]
        commands = [
            "# evaluate",
            *([in_lines([["hardviews", "classify"], *places])] if self._classifies else []),
            in_lines([["hardviews", "knn"], *places]),
            in_lines([["hardviews", "linear"], *places]),
            "# train again, into a new output",
            self.command.again(self.data, f"{self.output.rstrip('/')}-again"),
        ]
        return (
            "```sh\n" + "\n".join(commands) + "\n```\n\n"
            "[Runs of this experiment, with the columns to judge by]"
            f"(#/experiments/{EXPERIMENT}/runs?viewStateShareKey={VIEW}&{TRAINING_MENUS})"
        )


def verdict(history: History, samples: int, total: int) -> str:
    """Return the first line of the description: the state of the training.

    This is the only place where a verdict on the training's health enters the description.
    """
    line = unfinished(samples, total) if samples < total else finished(history, total)
    found = health.verdict(Course(history.rows), finished=samples >= total)
    return line if found.kind == "unfinished" else f"**{found.kind.capitalize()}**: {' '.join(found.evidence)} {line}"


def right_while_training(history: History) -> str:
    """Return the accuracy of the last report in a sentence, empty for a training without labels."""
    right = history.curve(ACCURACY)[1]
    return f"Top-1 while training: {100 * right[-1]:.1f} %, of training views." if right else ""


def finished(history: History, total: int) -> str:
    """Return the line of a training that has seen all samples, with the first and the last loss."""
    values = history.curve("loss")[1]
    fall = f" Loss from {values[0]:.4g} to {values[-1]:.4g}." if values else ""
    if history.curve(ACCURACY)[1]:
        return f"**Finished**: {total:,} samples seen.{fall} Score it on test images: `hardviews classify`."
    return f"**Finished**: {total:,} samples seen.{fall} A low loss alone is no proof: evaluate the encoder."


def _code(text: str) -> str:
    """Return text that does not end a piece of code."""
    return text.replace("`", "'").replace("\n", " ")
