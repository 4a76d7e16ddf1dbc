"""A run that collapses or diverges says so in its log, and its tracking run has the verdict as a tag."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from hardviews.errors import UserError
from hardviews.methods.simsiam import SimSiamConfig
from hardviews.optim.optimizer import Optimizer
from hardviews.runs.where import Where
from hardviews.strategies.strategy import Clean
from hardviews.tracking.mlflow_run import NullRun, Run
from hardviews.train.loop import pretrain
from hardviews.train.monitor_config import MonitorConfig
from hardviews.train.recipe import Recipe
from hardviews.train.review import Review
from hardviews.train.watch import EVIDENCE, VERDICT, Watch
from hardviews.world import World
from tests.train.runs import simclr, train

ALONE = World(0, 1, torch.device("cpu"))


class Tagged(NullRun):
    """Remembers the tags, in the order in which they were set."""

    def __init__(self, run_id: str = "") -> None:
        super().__init__(run_id)
        self.tags: list[dict[str, str]] = []

    def set_tags(self, tags: Any) -> None:
        self.tags.append(dict(tags))


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Tagged:
    tagged = Tagged("unknown")
    monkeypatch.setattr(Run, "start", lambda *_, **__: tagged)
    monkeypatch.setattr(Review, "finish", lambda *_: None)
    return tagged


def verdicts(run: Tagged) -> list[str]:
    return [tags[VERDICT] for tags in run.tags if VERDICT in tags]


def simsiam(rate: float = 0.05, weight_decay: float = 1e-4, epochs: int = 4) -> Recipe:
    recipe = simclr(epochs)
    return replace(
        recipe,
        method=SimSiamConfig(width=32, bottleneck=8, view=recipe.method.view),
        strategy=Clean(),
        optimizer=Optimizer("momentum", learning_rate=rate, weight_decay=weight_decay),
        monitor=MonitorConfig(steps=2),
    )


def test_a_healthy_run_says_nothing_and_is_ok(data: str, run: Tagged, tmp_path: Path, capsys) -> None:
    train(simsiam(), data, tmp_path / "run")
    assert verdicts(run) == ["unfinished", "ok"]
    assert "No sign of a collapse" in run.tags[-1][EVIDENCE]
    assert "health, step" not in capsys.readouterr().err


def test_a_collapse_is_said_when_it_begins(data: str, run: Tagged, tmp_path: Path, capsys) -> None:
    """A weight decay that takes all weights to zero."""
    train(simsiam(rate=0.5, weight_decay=1.0), data, tmp_path / "run")
    assert verdicts(run) == ["unfinished", "collapsed", "collapsed"]
    assert "at step 20" in run.tags[-1][EVIDENCE], "the last word has the last numbers"
    said = [line for line in capsys.readouterr().err.splitlines() if line.startswith("health, step ")]
    assert len(said) == 1, "once, not at every report"
    assert "collapsed. The spread of the features (health/spread) is" in said[0]
    assert 0 < int(said[0].split()[2].rstrip(":")) < 20


def test_a_divergence_is_the_verdict_on_a_run_that_stops_for_it(data: str, run: Tagged, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="loss is not finite"):
        pretrain(simsiam(rate=1e25), Where(data, str(tmp_path / "run"), str(tmp_path / "project")))
    assert verdicts(run)[-1] == "diverged"
    assert "is not finite" in run.tags[-1][EVIDENCE]


def test_a_run_that_goes_on_is_judged_by_all_of_its_history(data: str, run: Tagged, tmp_path: Path, capsys) -> None:
    train(simsiam(rate=0.5, weight_decay=1.0), data, tmp_path / "run", dies=(15,))
    assert verdicts(run) == ["unfinished", "collapsed", "collapsed", "collapsed"]
    assert capsys.readouterr().err.count("health, step ") == 2, "in both lives"


def test_other_ranks_are_silent(run: Tagged, capsys) -> None:
    watch = Watch(run, World(1, 2, torch.device("cpu")))
    watch.look([{"step": 1, "samples": 16, "loss": float("nan")}])
    watch.finish([{"step": 1, "samples": 16, "loss": float("nan")}])
    watch.diverged("The loss is not finite.")
    assert run.tags == [] and capsys.readouterr().err == ""


def test_a_recovery_is_said_by_the_tag(run: Tagged) -> None:
    rows = [{"step": step, "samples": step, "health/rankme": rank} for step, rank in enumerate((4, 40, 40, 10, 40))]
    watch = Watch(run, ALONE)
    for count in range(1, len(rows) + 1):
        watch.look(rows[:count])
    assert verdicts(run) == ["unfinished", "collapsing", "unfinished"]
