"""The commands as functions: from images to a comparison, and the public names of the package."""

import subprocess
import sys
from pathlib import Path

import pytest

import hardviews
from hardviews.errors import UserError
from hardviews.interface import runs
from hardviews.interface.words import words
from hardviews.models.backbones import Backbone
from hardviews.models.encoder import Encoder, save
from hardviews.recipes import recipe_named
from hardviews.recipes.command import read_pretrain
from hardviews.recipes.finetuning import Prepared
from hardviews.runs.where import Where
from hardviews.train.recipe import Recipe
from hardviews.views.augmentation import Normalisation


def test_import_brings_no_torch_and_tab_shows_every_function() -> None:
    code = (
        "import sys, hardviews; loaded = set(sys.modules);"
        "assert not loaded & {'torch', 'numpy', 'mlflow'}, loaded;"
        "print(*dir(hardviews))"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert set(hardviews.__all__) <= set(shown)
    assert {"pretrain", "pack", "evaluate", "load", "recipes", "compare", "hard_views", "attack"} <= set(shown)
    assert not {"Any", "TYPE_CHECKING", "import_module"} & set(shown)
    for name in hardviews.__all__:
        assert getattr(hardviews, name).__doc__, name
    with pytest.raises(AttributeError, match="no attribute 'pretrian'"):
        hardviews.pretrian  # noqa: B018


def test_settings_are_the_words_of_a_command() -> None:
    settings = {"training.epochs": 5, "accept_changes": True, "baselines": False, "loader.ahead_of": False, "a": None}
    assert words(settings) == ["--training.epochs", "5", "--accept-changes", "--no-baselines", "--loader.no-ahead-of"]
    assert words({"shots": (1, 5)}) == ["--shots", "1", "5"]


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Recipe, Where]]:
    """Trainings that are asked for, and not made."""
    asked: list[tuple[Recipe, Where]] = []
    monkeypatch.setattr(runs, "train", lambda recipe, where: asked.append((recipe, where)))
    return asked


def test_a_training_is_that_of_the_command(trained: list[tuple[Recipe, Where]], tmp_path: Path) -> None:
    settings = {"training.epochs": 2, "strategy.candidates": 3}
    run = hardviews.pretrain("digits", tmp_path / "shards", "runs/1", settings=settings, wait=5)
    words_of_command = ["--data", str(tmp_path / "shards"), "--output", "runs/1", "--wait", "5"]
    where, recipe = read_pretrain(["digits", *words_of_command, "--training.epochs", "2", "--strategy.candidates", "3"])
    assert trained == [(recipe, where)]
    assert run == hardviews.Run("runs/1")
    assert run.history == []
    hardviews.pretrain(recipe, tmp_path / "shards", "runs/1", wait=5)
    assert trained[1] == (recipe, where)


def test_a_fine_tuning_takes_a_run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    asked: list[Prepared] = []
    monkeypatch.setattr(Prepared, "run", lambda prepared: asked.append(prepared))
    shards = str(tmp_path / "shards")
    assert hardviews.pack("digits", shards) == {"train": 1442, "test": 355}
    save(Encoder(Backbone("test_resnet"), Normalisation(), image_size=8), tmp_path / "run")
    run = hardviews.Run(str(tmp_path / "run"))
    settings = {"training.epochs": 1}
    out = tmp_path / "tuned"
    tuned = hardviews.finetune(run, "digits_finetune", shards, out, labels="16-per-class", settings=settings)
    assert tuned.output == str(out)
    (prepared,) = asked
    recipe, where = prepared.recipe, prepared.where
    assert recipe.training.epochs == 1 and recipe.backbone.name == "test_resnet"
    assert where.data.startswith(str(out)) and where.output == str(out)


def test_mistakes_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match="no recipe 'digitz'"):
        hardviews.pretrain("digitz", "shards", "runs/1")
    with pytest.raises(UserError, match="got a Recipe and settings"):
        hardviews.pretrain(recipe_named("smoke"), "shards", "runs/1", settings={"training.epochs": 1})
    with pytest.raises(UserError, match="no protocol 'svm'"):
        hardviews.evaluate("runs/1", "shards", by="svm")  # type: ignore[arg-type]
    assert not list(tmp_path.iterdir())
