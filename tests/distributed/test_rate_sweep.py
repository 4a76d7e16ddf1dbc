"""Two processes choose learning rates as one does."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist

from hardviews.evaluation.subject import Subject
from hardviews.methods.supervised import SupervisedConfig
from hardviews.models.encoder import load
from hardviews.recipes.label_division import Division
from hardviews.recipes.rate_sweep import Sweep
from hardviews.runs.where import Where
from hardviews.strategies.strategy import Clean
from hardviews.train.precision import Precision
from hardviews.train.rate_table import RateTable
from hardviews.train.recipe import Recipe
from hardviews.train.stop import StopFlag
from hardviews.world import ALONE, World
from tests.train.runs import packed, simclr, train


def choose(sweep: Sweep) -> Any:
    """Choose on both ranks."""
    return sweep.choose(World(dist.get_rank(), dist.get_world_size(), torch.device("cpu")), StopFlag())


def swept(recipe: Recipe, data: str, run: Path, output: Path) -> Sweep:
    where = Where(data, str(output), str(output.parent / "project"), init=str(run))
    digest = Subject(encoder=str(run)).open("project").digest
    return Sweep(recipe, where, digest, [(0.01, 1.0), (0.3, 1.0)], Division(0, 0.2))


def test_two_processes_choose_as_one(pair, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    from hardviews.tracking.mlflow_run import NullRun, Run
    from hardviews.train.review import Review

    monkeypatch.setattr(Run, "start", lambda *_, **__: NullRun("f" * 32))
    monkeypatch.setattr(Review, "finish", lambda *_: None)
    data = packed(tmp_path / "shards")
    run = train(simclr(1), data, tmp_path / "run")
    base = simclr(2)
    method = SupervisedConfig(classes=2, view=replace(base.method.view, normalisation=load(str(run)).normalisation))
    recipe = replace(base, method=method, strategy=Clean(), precision=Precision(compute="float64"))
    one = swept(recipe, data, run, tmp_path / "one").choose(ALONE, StopFlag())
    first, second = pair.run(choose, swept(recipe, data, run, tmp_path / "two"))
    assert isinstance(first, RateTable) and first == second
    assert (first.names, first.held_out, first.fitted) == (one.names, one.held_out, one.fitted)
    assert first.chosen.learning_rate == one.chosen.learning_rate
    for mine, theirs in zip(first.trials, one.trials, strict=True):
        assert (mine.learning_rate, mine.steps, mine.top1) == (theirs.learning_rate, theirs.steps, theirs.top1)
        assert mine.nll == pytest.approx(theirs.nll, rel=1e-5)
