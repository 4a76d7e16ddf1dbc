"""DeepCluster in the real loop: clusters and bank come back with a checkpoint, inside an epoch and at its beginning."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from hardviews.errors import UserError
from hardviews.methods.deepcluster import DeepCluster, DeepClusterConfig
from hardviews.runs.checkpoint import Checkpoints
from hardviews.train.recipe import Recipe
from hardviews.views.augmentation import Augmentation
from tests.train.runs import STEPS, everything, rows, train, weights

CLUSTERS = DeepClusterConfig(
    hidden=16,
    output=8,
    heads=3,
    clusters=12,
    locals=1,
    view=Augmentation(size=16, scale=(0.3, 1.0), blur=0.0),
    local=Augmentation(size=8, scale=(0.1, 0.3), blur=0.0),
)


def clustered(epochs: int = 2, **training: Any) -> Recipe:
    """DeepCluster under hard views, attacks and CutMix."""
    return replace(everything(epochs, **training), method=CLUSTERS)


def tensors(output: Path) -> dict[str, Tensor]:
    found = Checkpoints(str(output)).latest()
    assert found is not None
    return found.tensors


@pytest.fixture(scope="module")
def undisturbed(data: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    with pytest.MonkeyPatch.context() as patch:
        from hardviews.tracking.mlflow_run import NullRun, Run
        from hardviews.train.review import Review

        patch.setattr(Run, "start", lambda *_, run_id=None, **__: NullRun(run_id or "unknown"))
        patch.setattr(Review, "finish", lambda *_: None)
        return train(clustered(), data, tmp_path_factory.mktemp("whole") / "run")


@pytest.mark.parametrize(
    ("every", "dies"),
    [
        pytest.param(3, (1, 4), id="before anything is saved and inside an epoch"),
        pytest.param(STEPS, (STEPS, STEPS + 2), id="at an epoch's beginning and inside it"),
    ],
)
def test_a_killed_run_goes_on_bit_for_bit(
    undisturbed: Path, data: str, untracked: Path, every: int, dies: tuple[int, ...]
) -> None:
    broken = train(clustered(checkpoint_steps=every), data, untracked / "run", dies)
    assert rows(broken) == rows(undisturbed)
    assert weights(broken) == weights(undisturbed)
    mine, theirs = tensors(broken), tensors(undisturbed)
    for name in ("bank.rows", "bank.seen", "centroids", "labels"):
        assert torch.equal(mine[f"model.method.{name}"], theirs[f"model.method.{name}"]), name


def test_clusters_are_made_once_an_epoch_and_the_first_pass_once(
    data: str, untracked: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun: list[tuple[int, int, bool]] = []
    begin = DeepCluster.begin_epoch

    def recorded(self: DeepCluster, clock: Any, batches: Any) -> None:
        passes: list[int] = []

        def counted() -> Any:
            passes.append(1)
            return batches()

        begin(self, clock, counted)
        begun.append((clock.epoch, int(self.bank.seen.sum()), bool(passes)))

    monkeypatch.setattr(DeepCluster, "begin_epoch", recorded)
    train(clustered(), data, untracked / "run", dies=(STEPS + 2,))
    # 90 samples make 5 batches of 16; ten are left out, others in every epoch.
    assert [(epoch, passed) for epoch, _, passed in begun] == [(0, True), (1, False)]
    assert [seen for _, seen, _ in begun] == [80, 80]
    table = tensors(untracked / "run")["model.method.labels"]
    assert table.shape == (3, 90)
    assert ((table >= 0).sum(1) == 80).all()
    assert int(tensors(untracked / "run")["model.method.bank.seen"].sum()) > 80


@pytest.mark.parametrize(
    ("clusters", "words"),
    [
        (91, "The dataset has 90 images, fewer than the 91 clusters"),
        (81, r"in whole batches, 80 images, .* lower --method\.clusters to at most 80"),
    ],
)
def test_fewer_images_than_clusters_are_refused_before_anything_is_written(
    data: str, untracked: Path, clusters: int, words: str
) -> None:
    recipe = replace(clustered(), method=replace(CLUSTERS, clusters=clusters))
    with pytest.raises(UserError, match=words):
        train(recipe, data, untracked / "run")
    assert not (untracked / "run").exists()
