"""The description of a run on its page, and the command that it repeats."""

import shlex
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hardviews.data.index import Index
from hardviews.recipes import recipe_named
from hardviews.recipes.command import read_pretrain
from hardviews.runs.history import History
from hardviews.tracking.mlflow_run import NullRun
from hardviews.tracking.notes import with_section
from hardviews.train.command_line import CommandLine, in_lines
from hardviews.train.description import Description
from hardviews.train.rate_table import RateTable, Trial
from hardviews.train.tuning import Source, Tuning

WORDS = ("hardviews.cli", "pretrain", "digits", "--data", "d", "--output", "o", "--training.epochs", "5")


class Noted(NullRun):
    """Remembers the description."""

    note = ""

    def set_section(self, title: str, body: str, first: bool = False) -> None:
        self.note = with_section(self.note, title, body, first)


def description(data: str, command: CommandLine, output: str = "/runs/1") -> tuple[Noted, Description]:
    run = Noted()
    index = Index.head(data)
    return run, Description(run, recipe_named("digits"), data, index, output, command, 1000)


def test_settings_that_differ_are_those_of_the_command() -> None:
    words = (*WORDS, "--training.checkpoint-seconds=20", "--method.view.scale", "0.3", "1.0", "--accept-changes")
    command = CommandLine.of_this_process("digits", words)
    assert command.changes() == {
        "training.epochs": "5",
        "training.checkpoint_seconds": "20",
        "method.view.scale": "0.3 1.0",
    }
    assert command.source == "hardviews pretrain digits"
    assert shlex.split(command.text()) == ["hardviews", *words[1:]]
    where, recipe = read_pretrain(shlex.split(command.again("there", "a new place").replace("\\\n", ""))[2:])
    assert (where.data, where.output) == ("there", "a new place") and recipe.training.epochs == 5
    assert recipe.settings() == read_pretrain(words[2:])[1].settings()


@pytest.mark.parametrize("argv", [("pytest", "tests"), ("x", "pretrain", "photos"), ("pretrain", "digits")])
def test_a_training_without_a_command_has_none(argv: tuple[str, ...]) -> None:
    command = CommandLine.of_this_process("digits", argv)
    assert not command.given and command.changes() == {}


@given(st.lists(st.lists(st.text(min_size=1, max_size=30), min_size=1, max_size=3), min_size=1, max_size=9))
def test_lines_are_short_and_mean_the_same(groups: list[list[str]]) -> None:
    text = in_lines(groups)
    plain = [[word.replace("\n", " ") for word in group] for group in groups]
    assert shlex.split(text.replace(" \\\n  ", " ")) == [word for group in groups for word in group]
    longest = max(len(shlex.join(group)) for group in plain)
    assert all(len(line) <= max(82, longest + 4) for line in in_lines(plain).splitlines())


def test_the_verdict_comes_first_and_commands_can_be_typed(data: str, tmp_path: Path) -> None:
    run, page = description(data, CommandLine.of_this_process("digits", WORDS), "/runs/with space")
    page.begin(0)
    lines = run.note.splitlines()
    assert lines[0] == "**Unfinished**: 0 of 1,000 samples seen (0 %)."
    assert "* `training.epochs`: `5`" in lines and "'/runs/with space'" in run.note
    assert max(map(len, run.note.partition("```sh")[2].partition("```")[0].splitlines())) < 120
    history = History(str(tmp_path), b"", write=False)
    for step in (1, 2):
        history.add({"step": step, "samples": 500 * step, "loss": 4.0 / step})
    page.judge(history, 500)
    assert run.note.startswith("**Unfinished**: 500 of 1,000 samples seen (50 %).")
    page.judge(history, 1000)
    assert run.note.startswith("**Ok**: No sign of a collapse or a divergence")
    assert " **Finished**: 1,000 samples seen. Loss from 4 to 2." in run.note
    assert run.note.splitlines()[1:] == lines[1:]  # the rest stays


def test_a_recipe_as_it_is(data: str) -> None:
    run, page = description(data, CommandLine("digits", (), True))
    page.begin(0)
    assert "Recipe `digits`, seed 0, with its own settings." in run.note


def test_a_fine_tuning_begins_with_its_encoder_labels_and_rates(data: str, tmp_path: Path) -> None:
    trials = (
        Trial(0.006, 10.0, 91.66, 0.6, 20),
        Trial(0.02, 10.0, 83.3, 0.4, 20),
        Trial(0.06, 10.0, 0.0, None, 20, "NaN"),
    )
    rates = RateTable(trials, 12, 60)
    tuning = Tuning("runs/first", Source("", "ab" * 16, "digits"), "shards", "5%", 3, 72, (7, 8), rates)
    run = Noted()
    command = CommandLine.of_this_process(
        "digits_finetune",
        (
            "x",
            "finetune",
            "runs/first",
            "--recipe",
            "digits_finetune",
            "--data",
            "shards",
            "--output",
            "o",
            "--sweep",
            "--training.epochs",
            "5",
        ),
    )
    recipe = recipe_named("digits_finetune")
    page = Description(run, recipe, "shards", Index.head(data), "/runs/1", command, 1000, tuning)
    page.begin(0)
    first, _, rest = run.note.partition("\n\n")
    assert first == (
        f"**Fine-tuned** from [`digits`](#/experiments/{{experiment}}/runs/{'ab' * 16}) on 5% of the labels (72 "
        "images, 7 to 8 of each class, seed 3); learning rate 0.006, classifier 0.06, chosen on 12 held-out labels "
        "(91.7 % right)."
    )
    assert rest.startswith("**Unfinished**: 0 of 1,000 samples seen (0 %).")
    for wanted in (
        "| **0.006** | 0.06 | **91.7** | 0.600 |",
        "| 0.06 | 0.6 | 0.0 | diverged |",
        "* `training.epochs`: `5`",
        "images of 2 classes drawn from `shards`",
        "hardviews classify --run /runs/1 --data shards",
        "hardviews finetune runs/first --data shards --output /runs/1-again",
    ):
        assert wanted in run.note, wanted
    assert "`recipe`" not in run.note and "`sweep`" not in run.note
    history = History(str(tmp_path), b"", write=False)
    history.add({"step": 1, "samples": 500, "loss": 4.0, "accuracy/top1": 0.5})
    page.judge(history, 500)
    assert run.note.startswith(f"{first} Top-1 while training: 50.0 %, of training views.\n\n**Unfinished**: 500 of")
    history.add({"step": 2, "samples": 1000, "loss": 2.0, "accuracy/top1": 0.775})
    page.judge(history, 1000)
    assert run.note.startswith(f"{first} Top-1 while training: 77.5 %, of training views.\n\n**Ok**: ")
    assert "Score it on test images: `hardviews classify`." in run.note
    other = Noted()
    replace(page, tuning=None, run=other).judge(history, 1000)
    assert other.note.endswith("`hardviews classify`. Top-1 while training: 77.5 %, of training views.")


def test_a_fine_tuning_without_a_sweep_names_the_recipes_rates(data: str) -> None:
    tuning = Tuning("timm:resnet18", Source(""), "shards", "100%", None, 90, (45, 45))
    run = Noted()
    command = CommandLine.of_this_process("digits_finetune", ())
    recipe = recipe_named("digits_finetune")
    Description(run, recipe, "shards", Index.head(data), "/runs/1", command, 1000, tuning).begin(0)
    assert run.note.startswith(
        "**Fine-tuned** from `timm:resnet18` on all labels (90 images, 45 of each class); learning rate 0.02, "
        "classifier 0.02."
    )
    assert tuning.tags() == {"hardviews.labels": "100%", "hardviews.labels.images": "90"}
