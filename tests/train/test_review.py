"""A run's figures, and that drawing them changes nothing."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from hardviews.data.reader import Reader
from hardviews.runs.history import History
from hardviews.runs.state import to_tensors
from hardviews.strategies.adversarial import Adversarial
from hardviews.strategies.compose import Chain, Sum
from hardviews.strategies.cutmix import CutMix
from hardviews.strategies.hard_views import HardViews
from hardviews.strategies.strategy import Clean
from hardviews.tracking.examples import Example
from hardviews.tracking.gallery import gallery
from hardviews.tracking.mlflow_run import NullRun
from hardviews.train.recipe import Recipe
from hardviews.train.review import Review
from tests.train.runs import everything, simclr
from tests.train.test_loader import steps


class Kept(NullRun):
    """Remembers the drawn pictures."""

    def __init__(self) -> None:
        super().__init__("run")
        self.figures: dict[str, object] = {}
        self.pictures: list[tuple[str, int]] = []

    def log_figure(self, figure: object, path: str) -> None:
        self.figures[path] = figure

    def log_image(self, picture: object, key: str, step: int) -> None:
        self.pictures.append((key, step))


@pytest.mark.parametrize("recipe", [simclr(), everything()], ids=["hard views alone", "everything"])
def test_figures_are_drawn_and_leave_no_trace(recipe: Recipe, data: str, tmp_path: Path) -> None:
    trainer, reports = steps(recipe, data)
    run = Kept()
    review = Review(Reader(data), trainer.objective, run, show=True)
    history = History(str(tmp_path), b"", write=False)
    for step, report in enumerate(reports, start=1):
        review.see(report.losses)
        history.add(
            {"step": step, "samples": 16 * step, "loss": 1.0, "overlap/hardest_is_least": 0.2, "overlap/chance": 1 / 6}
        )
    before = {name: tensor.clone() for name, tensor in to_tensors(trainer.objective, trainer.optimizer).items()}
    random = torch.random.get_rng_state()
    review.finish(history)
    assert set(run.figures) == {
        "figures/curves.png",
        "figures/overlap.png",
        "figures/hardest_is_least.png",
        "figures/gallery.png",
    }
    after = to_tensors(trainer.objective, trainer.optimizer)
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert torch.equal(random, torch.random.get_rng_state())
    titles = {axes.get_title() for axes in run.figures["figures/gallery.png"].axes}  # type: ignore[attr-defined]
    # The last step of `everything` attacked nothing: the pictures are of the one before.
    assert ("not trained on" in titles) == (recipe.name != "everything"), titles
    trained = any(title.startswith("cutmix 0.") or title.startswith("cutmix 1.") for title in titles)
    assert trained == ("adversarial" in titles) == (recipe.name == "everything"), titles


def test_pictures_are_of_the_part_that_chooses(data: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its views are shown as chosen, and an attacked view beside the one that it was made of."""
    strategy = Sum((1.0, Clean()), (1.0, Chain(HardViews(4), Adversarial(8 / 255))))
    trainer, reports = steps(replace(simclr(), strategy=strategy), data, 1)
    examples: list[Example] = []
    monkeypatch.setattr("hardviews.tracking.gallery.gallery", lambda shown: examples.extend(shown) or gallery(shown))
    review = Review(Reader(data), trainer.objective, Kept(), show=True)
    review.see(reports[0].losses)
    history = History(str(tmp_path), b"", write=False)
    overlaps = {"overlap/hardest_is_least": 0.2, "overlap/chance": 1 / 6}
    history.add({"step": 1, "samples": 16, "loss": 1.0, **overlaps})
    review.finish(history)
    assert examples
    for example in examples:
        assert len(example.chosen) == len(example.passed_over) == 2 and not example.random
        ((clean, attacked),) = example.attacked
        assert np.abs(clean.pixels.astype(int) - attacked.pixels).max() <= 9  # and rounding


def test_a_run_of_single_images_has_no_picture_of_a_mix(data: str, tmp_path: Path) -> None:
    """Groups of one image have nobody to mix with: the run ends with its other pictures, not with a refusal."""
    trainer, reports = steps(simclr(group=1), data)
    run = Kept()
    review = Review(Reader(data), trainer.objective, run, show=True)
    review.see(reports[-1].losses)
    history = History(str(tmp_path), b"", write=False)
    overlaps = {"overlap/hardest_is_least": 0.2, "overlap/chance": 1 / 6}
    history.add({"step": 1, "samples": 16, "loss": 1.0, **overlaps})
    review.finish(history)
    titles = {axes.get_title() for axes in run.figures["figures/gallery.png"].axes}  # type: ignore[attr-defined]
    assert any("not trained on" in title for title in titles)
    assert not any("cutmix" in title for title in titles)


def test_margins_of_every_kind_of_view(data: str, tmp_path: Path) -> None:
    hexa = Sum((1.0, Clean()), (0.5, Adversarial(8 / 255)), (0.5, CutMix()))
    trainer, reports = steps(replace(simclr(), strategy=Chain(HardViews(4), hexa)), data)
    run = Kept()
    review = Review(Reader(data), trainer.objective, run, show=True)
    history = History(str(tmp_path), b"", write=False)
    for step, report in enumerate(reports, start=1):
        review.see(report.losses)
        history.add(
            {"step": step, "loss": 1.0, "samples": 16 * step, "overlap/hardest_is_least": 0, "overlap/chance": 0.2}
        )
    review.finish(history)
    legend = run.figures["figures/margins.png"].axes[0].get_legend()  # type: ignore[attr-defined]
    shown = [text.get_text() for text in legend.get_texts()]
    views = 2 * 16 * len(reports)
    assert [text.partition(":")[0] for text in shown] == ["clean", "adversarial", "cutmix"]
    assert all(text.endswith(f"(n = {views:,})") for text in shown)
    titles = {axes.get_title() for axes in run.figures["figures/gallery.png"].axes}  # type: ignore[attr-defined]
    assert "adversarial" in titles and any(title.startswith("cutmix 0.") for title in titles)
    assert "not trained on" not in titles


def test_a_run_without_a_step_draws_nothing(data: str, tmp_path: Path) -> None:
    trainer, _ = steps(simclr(), data, 1)
    run = Kept()
    Review(Reader(data), trainer.objective, run, show=True).finish(History(str(tmp_path), b"", write=False))
    assert run.figures == {}


def test_checkpoints_have_pictures_spread_over_the_run(
    data: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One of the first step, at most one in each eleventh of the run, one at the end; a restart repeats none."""
    monkeypatch.setattr("hardviews.train.beside._BETWEEN", 0.0)
    trainer, reports = steps(everything(), data)
    history = History(str(tmp_path), b"", write=False)
    history.add({"step": 1, "samples": 4400, "loss": 1.0, "overlap/hardest_is_least": 0.2, "overlap/chance": 1 / 6})

    def life(done: int, seen: tuple[int, ...]) -> tuple[Kept, Review]:
        run = Kept()
        review = Review(Reader(data), trainer.objective, run, True, total=4400, done=done)
        for report in reports[:2]:
            review.see(report.losses)
        for samples in seen:
            review.at_checkpoint(samples)
            review._beside.wait(60)
        return run, review

    before = {name: tensor.clone() for name, tensor in to_tensors(trainer.objective, trainer.optimizer).items()}
    run, review = life(0, (100, 200, 399, 400, 799, 800, 2000))
    review.finish(history)
    keys = ("views/overlap", "views/gallery", "views/hardest")
    assert run.pictures == [(key, step) for step in (0, 100, 400, 800, 2000, 4400) for key in keys]
    assert life(800, (900, 1100, 1200))[0].pictures == [(key, 1200) for key in keys]
    after = to_tensors(trainer.objective, trainer.optimizer)
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_pictures_come_seldom_and_cost_no_step(data: str) -> None:
    """A life that has just begun draws nothing beside its steps; nor does a rank that does not write."""
    trainer, reports = steps(simclr(), data, 1)
    for show in (True, False):
        run = Kept()
        review = Review(Reader(data), trainer.objective, run, show, total=100)
        review.see(reports[0].losses)
        assert not review.at_checkpoint(50) and review._beside._thread is None and run.pictures == []
