"""Two processes cluster and train as one does, and hand clusters and bank over to another number of processes."""

from dataclasses import replace
from functools import partial
from pathlib import Path
from unittest.mock import patch

import pytest
import torch
import torch.distributed as dist
from torch import Tensor

from hardviews.clock import Clock
from hardviews.methods import deepcluster
from hardviews.methods.kmeans import spherical_kmeans
from hardviews.strategies.strategy import Clean
from hardviews.train.precision import Precision
from tests.distributed.laws import Case, share, whole_batch
from tests.distributed.pair import Pair
from tests.distributed.training import live
from tests.laws.cases import build
from tests.train.runs import packed, rows, train
from tests.train.test_clusters import clustered, tensors

CASE = Case("deepcluster", Clean())
KEPT = ("bank.rows", "bank.seen", "centroids", "labels")


def begin() -> dict[str, Tensor]:
    """Begin an epoch of 84 samples on this process's shares of 7 batches, in chunks that both ranks have some of."""
    objective = build(CASE.method, CASE.strategy).to(CASE.dtype)
    chunked = partial(spherical_kmeans, chunk=10)
    with patch.object(deepcluster, "spherical_kmeans", chunked):
        objective.method.begin_epoch(
            Clock(seed=1, epoch=2, step=0, progress=0, total=1),
            lambda: (share(whole_batch(objective, CASE, number), CASE.shares) for number in range(7)),
        )
    return {name: objective.state_dict()[f"method.{name}"] for name in KEPT}


def test_two_processes_come_to_the_same_clusters(pair: Pair) -> None:
    both, alone = pair.run(begin), begin()
    assert alone["bank.seen"].sum() == 84
    assert len(alone["labels"].unique()) == 11
    for found in both:
        torch.testing.assert_close(found["bank.rows"], alone["bank.rows"], rtol=0, atol=1e-12)
        torch.testing.assert_close(found["centroids"], alone["centroids"], rtol=0, atol=1e-12)
        assert torch.equal(found["labels"], alone["labels"])
    for name in KEPT:
        assert torch.equal(both[0][name], both[1][name]), f"the ranks differ in {name}"


def begin_with_local_sums() -> dict[str, Tensor]:
    with patch("hardviews.methods.kmeans.sum_over_ranks", lambda values: values):
        return begin()


def test_sums_of_local_rows_are_detected(pair: Pair) -> None:
    both, alone = pair.run(begin_with_local_sums), begin()
    assert not any(torch.equal(found["labels"], alone["labels"]) for found in both)


def bfloat16_begin() -> dict[str, Tensor]:
    with torch.autocast("cpu", torch.bfloat16):
        return begin()


def test_clusters_are_made_in_full_precision_whatever_the_network_runs_in(pair: Pair) -> None:
    both = pair.run(bfloat16_begin)
    for found in both:
        lengths = found["centroids"].norm(dim=2)
        torch.testing.assert_close(lengths, torch.ones_like(lengths), rtol=0, atol=1e-12)
    assert torch.equal(both[0]["labels"], both[1]["labels"])


@pytest.mark.laws
def test_two_processes_train_as_one_and_hand_over_both_ways(
    pair: Pair, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In double precision: near ties, rounding would put a row into another cluster."""
    from hardviews.tracking.mlflow_run import NullRun, Run
    from hardviews.train.review import Review

    assert not dist.is_initialized()
    monkeypatch.setattr(Run, "start", lambda *_, run_id=None, **__: NullRun(run_id or "unknown"))
    monkeypatch.setattr(Review, "finish", lambda *_: None)
    data = packed(tmp_path / "shards")
    recipe = replace(
        clustered(batch=20),
        backbone=replace(clustered().backbone, drop_path=0.0),
        precision=Precision("cpu", "float64"),
    )
    whole = train(recipe, data, tmp_path / "one")
    assert pair.run(live, recipe, data, tmp_path / "two") == [("finished", 8)] * 2
    # Killed in step 5, after the checkpoint of step 3; one process goes on through the second epoch's beginning.
    assert {end for end, _ in pair.run(live, recipe, data, tmp_path / "fewer", 3)} == {"killed"}
    train(recipe, data, tmp_path / "fewer")
    for other in ("two", "fewer"):
        for mine, theirs in zip(rows(tmp_path / other), rows(whole), strict=True):
            assert mine == pytest.approx(theirs, abs=1e-6)
        mine, theirs = tensors(tmp_path / other), tensors(whole)
        for name in KEPT:
            torch.testing.assert_close(mine[f"model.method.{name}"], theirs[f"model.method.{name}"], rtol=0, atol=1e-6)
