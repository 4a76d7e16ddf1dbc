"""Two processes train as one does, leave together, and hand over to another number of processes."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from hardviews.data.reader import ReaderConfig
from hardviews.elastic.worker import EVICTED
from hardviews.evaluation.subject import Subject
from hardviews.methods.supervised import SupervisedConfig
from hardviews.models.backbones import Backbone
from hardviews.optim.optimizer import Optimizer
from hardviews.runs.audit import audit
from hardviews.runs.checkpoint import Checkpoints
from hardviews.runs.where import Where
from hardviews.strategies.strategy import Clean
from hardviews.train.loader import LoaderConfig
from hardviews.train.loop import pretrain
from hardviews.train.monitor_config import MonitorConfig
from hardviews.train.precision import Precision
from hardviews.train.recipe import Recipe
from tests.data.helpers import flip_bit
from tests.distributed.training import live
from tests.train.runs import STEPS, dying, everything, packed, rows, simclr, train, weights

# Sums over two ranks are made in another order: some 1e-6 a step, more if two views are equally hard within that.
TOLERANCE = 2e-3


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> str:
    return packed(tmp_path_factory.mktemp("noise") / "shards")


@pytest.fixture
def alone(monkeypatch: pytest.MonkeyPatch) -> None:
    from hardviews.tracking.mlflow_run import NullRun, Run
    from hardviews.train.review import Review

    monkeypatch.setattr(Run, "start", lambda *_, run_id=None, **__: NullRun(run_id or "unknown"))
    monkeypatch.setattr(Review, "finish", lambda *_: None)


def same_history(found: Path, expected: Path) -> None:
    assert len(rows(found)) == len(rows(expected))
    for mine, theirs in zip(rows(found), rows(expected), strict=True):
        assert mine == pytest.approx(theirs, abs=TOLERANCE)


# 20 samples in groups of 4 are shares of 2 and 3 groups.
# Stochastic depth is the one thing drawn rank by rank.
@pytest.mark.parametrize(
    "recipe",
    [simclr(batch=20), replace(everything(), backbone=Backbone("test_resnet"))],
    ids=["unequal shares", "everything"],
)
def test_two_processes_train_as_one_and_hand_over_to_one(pair, alone, data: str, tmp_path: Path, recipe: Recipe):
    whole = train(recipe, data, tmp_path / "one")
    assert pair.run(live, recipe, data, tmp_path / "two") == [("finished", len(rows(whole)) * 2)] * 2
    same_history(tmp_path / "two", whole)
    # Killed in step 4, after the checkpoint of step 3; the rest is one process's.
    assert {end for end, _ in pair.run(live, recipe, data, tmp_path / "fewer", 4)} == {"killed"}
    train(recipe, data, tmp_path / "fewer")
    same_history(tmp_path / "fewer", whole)


def test_the_same_two_go_on_bit_for_bit(pair, data: str, tmp_path: Path):
    recipe = everything(1)
    pair.run(live, recipe, data, tmp_path / "whole")
    pair.run(live, recipe, data, tmp_path / "broken", 3)
    pair.run(live, recipe, data, tmp_path / "broken")
    assert rows(tmp_path / "broken") == rows(tmp_path / "whole")
    assert weights(tmp_path / "broken") == weights(tmp_path / "whole")


def test_the_average_of_two_processes_is_that_of_one(pair, alone, data: str, tmp_path: Path):
    recipe = simclr(batch=20)
    recipe = replace(recipe, training=replace(recipe.training, ema=0.8), precision=Precision(compute="float64"))
    one, two = tmp_path / "one", tmp_path / "two"
    train(recipe, data, one)
    assert {end for end, _ in pair.run(live, recipe, data, two, 4)} == {"killed"}
    train(recipe, data, two)
    first, second = (Checkpoints(str(output)).latest().tensors for output in (one, two))
    averaged = [key for key in first if key.startswith("ema.")]
    assert averaged and first.keys() == second.keys()
    for key in averaged:
        torch.testing.assert_close(first[key], second[key], rtol=1e-9, atol=1e-9)


@pytest.mark.laws
@pytest.mark.parametrize("stages", [2, 4], ids=["a part", "all"])
def test_two_processes_fine_tune_frozen_stages_as_one(pair, alone, data: str, tmp_path: Path, stages: int):
    recipe = simclr(batch=20)
    method = SupervisedConfig(classes=2, view=recipe.method.view)  # type: ignore[attr-defined]
    training = replace(recipe.training, frozen_stages=stages)
    recipe = replace(recipe, method=method, strategy=Clean(), training=training, precision=Precision(compute="float64"))
    one, two = tmp_path / "one", tmp_path / "two"
    pretrain(recipe, Where(data, str(one), str(tmp_path / "project"), init="timm:test_resnet"))
    assert {end for end, _ in pair.run(live, recipe, data, two, 4, None, "timm:test_resnet")} == {"killed"}
    assert {end for end, _ in pair.run(live, recipe, data, two, None, None)} == {"finished"}  # without the encoder
    first, second = (Checkpoints(str(output)).latest().tensors for output in (one, two))
    assert first.keys() == second.keys()
    begun = {f"model.method.backbone.{name}": value for name, value in untrained().items()}
    for key, value in first.items():
        stage = next((int(part[-1]) for part in key.split(".") if part.startswith("layer")), 0)
        if key in begun and stage <= stages and value.is_floating_point():
            assert torch.equal(value, second[key]) and torch.equal(value, begun[key].to(value)), key
        elif value.is_floating_point() and key.startswith(("model.", "optimizer.")):
            torch.testing.assert_close(value, second[key], rtol=1e-7, atol=1e-9)


def untrained() -> dict[str, torch.Tensor]:
    return Subject(encoder="timm:test_resnet").open("project").network.state_dict()


def test_where_one_is_asked_to_leave_all_save_and_leave_and_no_step_is_lost(pair, data: str, tmp_path: Path):
    recipe = simclr(1)
    pair.run(live, recipe, data, tmp_path / "whole")
    assert pair.run(live, recipe, data, tmp_path / "left", None, 3) == [(EVICTED, 4)] * 2
    progress = Checkpoints(str(tmp_path / "left")).latest().progress
    assert (progress.step, progress.world) == (4, 2)
    assert pair.run(live, recipe, data, tmp_path / "left") == [("finished", STEPS)] * 2
    assert rows(tmp_path / "left") == rows(tmp_path / "whole")


def test_a_loss_that_is_no_number_stops_all(pair, data: str, tmp_path: Path):
    recipe = replace(simclr(), optimizer=Optimizer("momentum", learning_rate=1e12))
    ends = pair.run(live, recipe, data, tmp_path / "run")
    assert {step for _, step in ends} == {ends[0][1]}
    for end, step in ends:
        assert f"not finite at step {step}" in end
    dumps = sorted((tmp_path / "run").glob("nonfinite-*.json"))
    assert dumps and {json.loads(path.read_text())["step"] for path in dumps} == {ends[0][1]}


def test_the_bound_on_corrupt_samples_is_the_datasets_not_each_ranks(pair, alone, tmp_path: Path):
    data = packed(tmp_path / "shards")
    rotten = _damage(data, 4)
    recipe = simclr(1, log_steps=1)
    for allowed, ends in ((4 / 90 + 1e-6, {"finished"}), (3 / 90 + 1e-6, None)):
        config = LoaderConfig(ReaderConfig("substitute", most_corrupt=allowed), workers=0)
        output = tmp_path / f"run{allowed:.3f}"
        found = pair.run(live, replace(recipe, loader=config), data, output)
        if ends:
            assert {end for end, _ in found} == ends
            assert rows(output)[-1]["data/corrupt"] == rotten
            assert rows(output)[-1]["data/substituted"] == rotten
        else:
            # Each rank met no more than three.
            assert found[0] == found[1] and "more than the 3 allowed" in found[0][0]


def _damage(data: str, wanted: int) -> int:
    """Damage samples that the first epoch reads, in turn by rank 0 and rank 1; return how many."""
    from hardviews.data.reader import Reader

    reader = Reader(data)
    order = reader.order(0, 0, 16, 4).indices(0, 80)
    for k in range(wanted):
        row = reader.index.samples[int(order[16 * k + 8 * (k % 2)])]
        shard = reader.index.shards[int(row["shard"])].name
        flip_bit(f"{data}/{shard}", int(row["offset"]) + 20)
    return wanted


def test_two_processes_save_by_the_clock_of_one_and_the_audit_holds(pair, alone, data: str, tmp_path: Path):
    """Killed, handed over to one process and back to two: each range of the ledger says who trained on it."""
    recipe = simclr(2, batch=20, checkpoint_steps=0, checkpoint_seconds=1e-3)
    output = tmp_path / "run"
    assert {end for end, _ in pair.run(live, recipe, data, output, 3)} == {"killed"}
    with dying(6):
        train(recipe, data, output)
    assert pair.run(live, recipe, data, output)[0] == ("finished", 8)
    report = audit(str(output), data)
    assert not report.problems and (report.lost, report.repeated) == (0, 0)
    assert [life.world for life in report.lives] == [2, 1, 2]
    ranges = Checkpoints(str(output)).latest().ranges
    assert {(entry.life, entry.world) for entry in ranges} == {(1, 2), (2, 1), (3, 2)}


def test_two_processes_measure_what_one_does_and_whoever_goes_on_logs_the_same_points(
    pair, alone, data, tmp_path: Path
):
    """Both encode a share; killed in step 4, one process goes on."""
    for part, n in (("train", 60), ("test", 31)):
        packed(tmp_path / "labelled" / part, n)
    monitor = MonitorConfig(str(tmp_path / "labelled"), steps=3)
    recipe = replace(simclr(1, batch=20), monitor=monitor)
    whole = train(recipe, data, tmp_path / "one")
    ends = pair.run(live, recipe, data, tmp_path / "two")
    assert {end for end, _ in ends} == {"finished"}
    assert {end for end, _ in pair.run(live, recipe, data, tmp_path / "fewer", 4 - 1)} == {"killed"}
    train(recipe, data, tmp_path / "fewer")
    for output in (tmp_path / "two", tmp_path / "fewer"):
        assert [row["step"] for row in rows(output)] == [row["step"] for row in rows(whole)]
        for mine, theirs in zip(rows(output), rows(whole), strict=True):
            assert mine == pytest.approx(theirs, rel=0.02, abs=0.02)
    # Before the first step the weights are equal bit for bit, and so are the measurements of two processes.
    assert rows(tmp_path / "two")[0] == rows(whole)[0]
    assert "online/knn_top1_k20" in rows(whole)[0] and "health/projector/lidar" in rows(whole)[0]


def test_two_processes_with_the_monitor_have_the_weights_of_two_without(pair, data: str, tmp_path: Path):
    recipe = everything(1)
    pair.run(live, recipe, data, tmp_path / "plain")
    pair.run(live, replace(recipe, monitor=MonitorConfig(steps=2)), data, tmp_path / "watched")
    assert weights(tmp_path / "watched") == weights(tmp_path / "plain")
