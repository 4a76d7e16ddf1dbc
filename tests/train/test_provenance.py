"""Tags for the origin of a run, and the training data as its input."""

from pathlib import Path

import pytest
import torch

from hardviews.data.index import Index
from hardviews.recipes import recipe_named
from hardviews.tracking.job import user
from hardviews.train import provenance
from hardviews.train.command_line import CommandLine
from hardviews.train.opening import training_data
from hardviews.train.provenance import tags
from hardviews.world import World

WORLD = World(0, 1, torch.device("cpu"))
COMMAND = CommandLine("digits", ("--data", "d", "--output", "s3://u:secret@bucket/o"), True)


def test_a_run_has_its_user_and_its_command(data: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HARDVIEWS_USER", "ada")
    monkeypatch.setenv("HARDVIEWS_COMMIT", "abc")
    monkeypatch.delenv("TORCHX_JOB_ID", raising=False)
    index, recipe = Index.head(data), recipe_named("digits")
    first = tags(index, recipe, WORLD, True, COMMAND)
    assert first["mlflow.user"] == "ada" and first["mlflow.source.git.commit"] == "abc"
    assert (first["mlflow.source.name"], first["mlflow.source.type"]) == ("hardviews pretrain digits", "LOCAL")
    assert (
        first["hardviews.command"].startswith("hardviews pretrain digits --data d") and first["hardviews.seed"] == "0"
    )
    monkeypatch.setenv("TORCHX_JOB_ID", "kubernetes://me/job")
    later = tags(index, recipe, WORLD, False, CommandLine("digits"))
    assert later["mlflow.source.type"] == "JOB"
    assert not {"mlflow.user", "hardviews.command"} & later.keys()  # MLflow lets nobody change the user


def test_the_user_is_the_most_specific_name(monkeypatch: pytest.MonkeyPatch) -> None:
    def nameless() -> str:
        raise KeyError("no such user")

    monkeypatch.delenv("HARDVIEWS_USER", raising=False)
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "grace")
    assert user() == "grace"
    monkeypatch.delenv("MLFLOW_TRACKING_USERNAME")
    monkeypatch.setattr("getpass.getuser", nameless)
    assert user().isdigit()


def test_outside_a_checkout_there_is_no_commit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(provenance.hardviews, "__file__", str(tmp_path / "__init__.py"))
    assert provenance._git() == {}


def test_the_training_data_are_named_by_folder_and_part(data: str) -> None:
    index = Index.head(data)
    used = training_data(index)
    assert used.context == "training" and used.digest == index.digest and used.samples == len(index)
    assert used.name == Path(data).name and used.to_record()["url"] == Path(data).absolute().as_uri()
    object.__setattr__(index, "url", "s3://bucket/imagenet-1k/train")
    assert training_data(index).name == "imagenet-1k/train"
