"""Audits of the choice of views: on the page of the run, as a warning, and not in the digest of a recipe."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from hardviews.strategies.audit import AGREEMENT, CORRELATION, RECOVERED
from hardviews.strategies.compose import Chain
from hardviews.strategies.hard_views import HardViews
from hardviews.strategies.predicted_views import PredictedViews
from hardviews.strategies.strategy import Strategy
from hardviews.train.choice import PAUSE, ChoiceWatch
from hardviews.world import World
from tests.laws.cases import build
from tests.train.runs import rows, simclr, train, weights
from tests.train.test_description import CommandLine, History, description


def warnings(strategy: Strategy, recovered: dict[int, float], capsys: pytest.CaptureFixture[str]) -> list[str]:
    watch = ChoiceWatch(build("simsiam", strategy), World(0, 1, torch.device("cpu")))
    reports: list[dict[str, float]] = []
    for step, share in recovered.items():
        reports += [{"step": step - 1, "loss": 1.0}, {"step": step, RECOVERED: share}]
        watch.look(reports)
    captured = capsys.readouterr()
    return [line for line in (captured.out + captured.err).splitlines() if "selection, step" in line]


def test_a_poor_choice_is_said_once_in_a_while(capsys: pytest.CaptureFixture[str]) -> None:
    shares = {100: 0.8, 200: 0.3, 300: 0.2, 200 + PAUSE: 0.4}
    said = warnings(HardViews(4, size=8), shares, capsys)
    assert len(said) == 2
    assert "step 200: the chosen views recover 30 %" in said[0]
    assert "Raise size (now 8), or candidates (now 4)." in said[0]


def test_the_warning_names_what_to_change(capsys: pytest.CaptureFixture[str]) -> None:
    (said,) = warnings(Chain(PredictedViews(6)), {100: 0.1}, capsys)
    assert "Raise candidates (now 6), or choose by the loss" in said
    assert warnings(HardViews(4, size=8), {100: 0.5}, capsys) == []


def test_the_page_shows_the_first_and_the_last_audit(data: str, tmp_path: Path) -> None:
    reports = [
        {"step": 20, "samples": 20.0, "loss": 2.0},
        {"step": 100, "samples": 100.0, RECOVERED: 0.75, AGREEMENT: 0.5, CORRELATION: 0.625},
        {"step": 200, "samples": 200.0, RECOVERED: 0.875, AGREEMENT: 0.5, CORRELATION: 0.75},
    ]
    run, page = description(data, CommandLine("digits"))
    history = History(str(tmp_path), b"", write=False)
    page.judge(history, 20)
    assert "Choice of views" not in run.note
    for report in reports:
        history.add(report)
    page.judge(history, 200)
    assert "## Choice of views" in run.note
    assert "| hardness recovered | 0.75 | 0.88 |" in run.note and "after 100 samples" in run.note


def test_audits_do_not_count_as_another_recipe() -> None:
    base = simclr()
    for composed in (lambda one: one, Chain):
        digests = {replace(base, strategy=composed(HardViews(4, audit=audit))).digest() for audit in (7, 9)}
        assert len(digests) == 1


def test_a_run_reports_its_audits_and_is_the_same_without(data: str, untracked: Path) -> None:
    recipes = [replace(simclr(1), strategy=HardViews(4, size=8, audit=every)) for every in (2, 0)]
    audited, plain = (train(recipe, data, untracked / str(i)) for i, recipe in enumerate(recipes))
    assert RECOVERED in str(rows(audited)) and "selection/" not in str(rows(plain))
    assert weights(audited) == weights(plain)
