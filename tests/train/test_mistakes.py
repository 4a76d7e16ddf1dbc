"""Mistakes that only a run can find: another run in the output, corrupt samples, a loss that is not a number."""

import json
import shutil
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from hardviews.data.index import Index
from hardviews.data.reader import Reader, ReaderConfig
from hardviews.errors import UserError
from hardviews.methods.moco import MoCoConfig
from hardviews.methods.simsiam import SimSiamConfig
from hardviews.objective.objective import Objective
from hardviews.optim.optimizer import Optimizer
from hardviews.runs.audit import audit
from hardviews.runs.checkpoint import Checkpoints
from hardviews.runs.state import first_not_finite
from hardviews.runs.where import Where
from hardviews.strategies.compose import Sum, Weighted
from hardviews.strategies.cutmix import CutMix
from hardviews.strategies.hard_views import HardViews
from hardviews.strategies.strategy import Clean
from hardviews.train.loader import LoaderConfig
from hardviews.train.nonfinite import dump, traces
from hardviews.train.trainer import Trainer
from hardviews.views.params import Column
from hardviews.views.plan import Slot
from tests.data.helpers import flip_bit
from tests.train.runs import BATCH, STEPS, packed, rows, simclr, train
from tests.train.test_loader import steps


def snapshot(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


@pytest.mark.parametrize("inside", ["", "runs"])
def test_an_output_in_the_folder_of_the_data_is_refused(untracked: Path, inside: str) -> None:
    folder = untracked / "both"
    packed(folder / "train")
    before = snapshot(folder)
    with pytest.raises(UserError, match="lies in the folder of the dataset"):
        train(simclr(1), str(folder), folder / inside)
    assert snapshot(folder) == before
    with pytest.raises(UserError, match="lies in the folder of the dataset"):
        Where(str(folder / "train"), str(folder)).check_apart(str(folder / "train"))
    Where(str(folder / "train"), str(folder / "runs")).check_apart(str(folder / "train"))  # perhaps a whole bucket


# Another run in the output


def test_another_recipe_is_named_setting_by_setting_and_may_be_accepted(data: str, untracked: Path) -> None:
    output = train(simclr(1), data, untracked / "run")
    before = snapshot(output)
    longer = replace(simclr(2), optimizer=Optimizer("momentum", learning_rate=0.2))
    with pytest.raises(UserError) as refusal:
        train(longer, data, output)
    for said in ("training.epochs was 1, now 2", "optimizer.learning_rate was 0.1, now 0.2", "--accept-changes"):
        assert said in str(refusal.value)
    assert snapshot(output) == before
    train(longer, data, output, accept=True)
    assert [row["step"] for row in rows(output)] == [2, 4, 5, 6, 8, 10]


def test_a_recipe_that_orders_samples_otherwise_is_never_accepted(data: str, untracked: Path) -> None:
    output = train(simclr(1), data, untracked / "run")
    for other in (simclr(1, seed=1), simclr(1, batch=32), simclr(1, group=8)):
        with pytest.raises(UserError, match="cannot change inside a run"):
            train(other, data, output, accept=True)


def test_another_network_is_refused_even_where_changes_are_accepted(data: str, untracked: Path) -> None:
    output = train(simclr(1), data, untracked / "run")
    other = simclr(2)
    other = replace(other, method=replace(other.method, hidden=24))
    with pytest.raises(UserError, match="another network or method"):
        train(other, data, output, accept=True)


def test_another_method_or_optimizer_is_refused_before_the_record_changes(data: str, untracked: Path) -> None:
    output = train(simclr(1), data, untracked / "run")
    before = snapshot(output)
    longer = simclr(2)
    view = longer.method.view  # type: ignore[attr-defined]
    others = {
        "another optimizer, which has kept momentum_buffer": replace(longer, optimizer=Optimizer("adamw")),
        "is of another optimizer:": replace(longer, optimizer=Optimizer("lars_byol")),
        "another network or method": replace(longer, method=SimSiamConfig(width=32, bottleneck=8, view=view)),
    }
    for said, other in others.items():
        for accept in (False, True):
            with pytest.raises(UserError, match=said) as refusal:
                train(other, data, output, accept=accept)
            assert "--accept-changes" not in str(refusal.value)
            assert str(refusal.value).count("projector") <= 2, "all weights are listed"
            assert "method." not in str(refusal.value).partition("Its checkpoint")[0], "a method's settings are listed"
    assert snapshot(output) == before
    # Also if only the checkpoint shows which optimizer it was.
    (output / "run.json").unlink()
    with pytest.raises(UserError, match="has kept momentum_buffer of each weight and not exp_avg"):
        train(replace(longer, optimizer=Optimizer("adamw")), data, output, accept=True)
    train(longer, data, output, accept=True)
    assert rows(output)[-1]["step"] == 2 * STEPS


def test_mixing_in_groups_of_one_image_is_refused_before_anything_is_written(data: str, untracked: Path) -> None:
    mixing = replace(simclr(1, group=1), strategy=Sum((1.0, Clean()), Weighted(1.0, CutMix(), begin=5)))
    with pytest.raises(UserError, match=r"set training\.group to 2"):
        train(mixing, data, untracked / "run")
    assert snapshot(untracked / "run") == {}


def test_moco_in_groups_of_one_is_refused_before_anything_is_written(data: str, untracked: Path) -> None:
    recipe = simclr(1, group=1)
    view = recipe.method.view  # type: ignore[attr-defined]
    moco = MoCoConfig(hidden=16, output=8, queue=20, view=view)
    with pytest.raises(UserError, match=r"training\.group is 1: set it to 2"):
        train(replace(recipe, method=moco), data, untracked / "run")
    assert snapshot(untracked / "run") == {}


@pytest.mark.parametrize(("batch", "accumulate"), [(1, 1), (BATCH, BATCH)])
def test_micro_batches_of_one_image_are_refused_before_anything_is_written(
    data: str, untracked: Path, batch: int, accumulate: int
) -> None:
    recipe = simclr(1, group=1, batch=batch, accumulate=accumulate)
    with pytest.raises(UserError, match="leave one image in each"):
        train(replace(recipe, strategy=Clean()), data, untracked / "run")
    assert snapshot(untracked / "run") == {}


def test_another_dataset_is_refused(data: str, untracked: Path) -> None:
    output = train(simclr(1), data, untracked / "run")
    other = packed(untracked / "other", 60)
    for accept in (False, True):
        with pytest.raises(UserError, match="another dataset"):
            train(simclr(1), other, output, accept=accept)
    # The same dataset at another place is the same one.
    moved = str(shutil.copytree(data, untracked / "moved"))
    train(simclr(1), moved, output)


def test_a_run_that_saved_nothing_yet_is_a_run_too(data: str, untracked: Path) -> None:
    with pytest.raises(AssertionError, match="not reached"):
        train(simclr(1), data, untracked / "run", dies=(1, 99))
    shutil.rmtree(untracked / "run" / "checkpoints")
    with pytest.raises(UserError, match=r"training\.seed was 0, now 5"):
        train(simclr(1, seed=5), data, untracked / "run")


def test_a_record_that_is_no_record(data: str, untracked: Path) -> None:
    (untracked / "run").mkdir()
    (untracked / "run" / "run.json").write_text("{")
    with pytest.raises(UserError, match=r"run\.json is damaged"):
        train(simclr(1), data, untracked / "run")


@pytest.mark.parametrize("name", ["checkpoints", "lives", "encoder", "run.json", "history.jsonl"])
@pytest.mark.parametrize("link", [False, True])
def test_a_name_of_the_run_that_is_of_the_wrong_kind_is_refused(
    data: str, untracked: Path, name: str, link: bool
) -> None:
    output = untracked / "run"
    output.mkdir()
    if link:
        (output / name).symlink_to("nowhere")
    elif "." in name:
        (output / name).mkdir()
    else:
        (output / name).touch()
    kind = "file" if "." in name else "folder"
    with pytest.raises(UserError, match=rf"{output}/{name} is not a {kind}, and a run needs a {kind} of this name"):
        train(simclr(1), data, output)
    assert [path.name for path in output.iterdir()] == [name]


def test_an_output_that_is_removed_while_it_trains_holds_the_run_again(
    data: str, untracked: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    output, original = untracked / "run", Trainer.step
    records = []

    def step(self, raws, clock, *flags):
        if clock.step == 2:
            records.append((output / "run.json").read_text())
            shutil.rmtree(output)
        return original(self, raws, clock, *flags)

    monkeypatch.setattr(Trainer, "step", step)
    train(simclr(1, checkpoint_steps=3), data, output)
    assert (output / "run.json").read_text() == records[0]
    assert caplog.text.count("was gone and is written again") == 1
    assert audit(str(output), data).problems == ()


def test_damaged_checkpoints_do_not_begin_the_run_again(data: str, untracked: Path) -> None:
    output = train(simclr(1), data, untracked / "run")
    for manifest in output.glob("checkpoints/*/manifest.json"):
        manifest.write_text("{")
    before = snapshot(output)
    with pytest.raises(UserError, match=r"No checkpoint in .*run/checkpoints is whole: step-0.*mend it"):
        train(simclr(1), data, output)
    assert snapshot(output) == before


# Corrupt samples


@pytest.fixture
def corrupt(data: str, tmp_path: Path) -> tuple[str, int]:
    """Return a dataset whose first epoch meets a damaged sample in its second step, and that sample."""
    copy = str(shutil.copytree(data, tmp_path / "corrupt"))
    index = Index.load(copy)
    bad = int(Reader(index).order(0, 0, BATCH, 4).indices(BATCH, BATCH + 1)[0])
    row = index.samples[bad]
    flip_bit(f"{copy}/{index.shards[int(row['shard'])].name}", int(row["offset"]) + 30)
    return copy, bad


@pytest.mark.parametrize("workers", [0, 1])
def test_a_corrupt_sample_stops_the_run_or_is_replaced_and_counted(corrupt, untracked: Path, workers: int) -> None:
    data, bad = corrupt
    recipe = replace(simclr(1), loader=LoaderConfig(workers=workers))
    with pytest.raises(UserError) as refusal:
        train(recipe, data, untracked / "run")
    assert f"sample {bad} (key 'noise_" in str(refusal.value) and "on_corrupt" in str(refusal.value)
    assert "Traceback" not in str(refusal.value)
    # The advice works: the same run goes on with a stand-in.
    lenient = replace(recipe, loader=replace(recipe.loader, reader=ReaderConfig("substitute")))
    output = train(lenient, data, untracked / "run")
    assert [(row["data/corrupt"], row["data/substituted"]) for row in rows(output)] == [(1, 1)] * 3


def test_counts_of_corrupt_samples_survive_a_resume(corrupt, untracked: Path) -> None:
    data, _ = corrupt
    recipe = replace(simclr(2), loader=LoaderConfig(ReaderConfig("substitute"), workers=0))
    output = train(recipe, data, untracked / "run", dies=(4, STEPS + 2))
    assert rows(output)[-1]["data/corrupt"] == 1
    # The second epoch reads it again, or leaves it among the ten that fill no batch.
    order = Reader(data).order(0, 1, BATCH, 4)
    again = corrupt[1] in order.indices(0, STEPS * BATCH).tolist()
    assert rows(output)[-1]["data/substituted"] == 1 + again


# A loss that is no number


def test_a_diverging_run_stops_with_a_record_and_goes_on_from_its_checkpoint(data: str, untracked: Path) -> None:
    recipe = replace(simclr(2, checkpoint_steps=1), optimizer=Optimizer("momentum", learning_rate=0.1))
    output = untracked / "run"
    poisoned = Trainer.step

    def step(self, raws, clock, *flags):
        if clock.step == 4:
            self.objective.method.projector[0].weight.data[0, 0] = torch.nan
        return poisoned(self, raws, clock, *flags)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Trainer, "step", step)
        with pytest.raises(UserError, match="not finite at step 4") as refusal:
            train(recipe, data, output)
    assert "\n" not in str(refusal.value)
    (record,) = output.glob("nonfinite-*")
    assert str(record) in str(refusal.value)
    found = json.loads(record.read_text())
    assert (found["step"], found["epoch"], len(found["samples"])) == (4, 0, BATCH)
    order = Reader(data).order(0, 0, BATCH, 4).indices(4 * BATCH, 5 * BATCH).tolist()
    assert [sample["index"] for sample in found["samples"]] == order
    first = found["samples"][0]
    assert first["key"].startswith("noise_") and first["position"] == 4 * BATCH and first["loss"] == "nan"
    assert {"top", "left", "height", "width", "flip", "hue"} <= set(first["views"]["view 0"])

    saved = Checkpoints(str(output)).latest()
    assert saved.progress.step == 4
    assert all(t.isfinite().all() for t in saved.tensors.values() if t.is_floating_point())
    train(recipe, data, output)
    assert rows(output)[-1]["step"] == 2 * STEPS


def test_a_record_of_no_number_has_the_views_of_its_term(data: str, untracked: Path) -> None:
    strategy = Sum((1.0, Clean()), (1.0, HardViews(4)))
    _, reports = steps(replace(simclr(), strategy=strategy), data, 1)
    losses = reports[0].losses
    (_, clean_B), (term, losses_B) = losses.terms
    choice_B = term.batch.selection.choice
    row = int((choice_B > 0).nonzero()[0])  # whose first views were not the hardest
    spoilt_B = losses_B.index_fill(0, torch.tensor([row]), torch.nan)
    spoilt = replace(losses, terms=[(losses.terms[0][0], clean_B), (term, spoilt_B)])
    path = dump(str(untracked), traces(spoilt), term.batch.clock, Reader(data), 0)
    (sample,) = json.loads(Path(path).read_text())["samples"]
    assert set(sample["views"]) == {"view 0", "view 1"}
    for number in range(2):
        rows_BC = term.batch.views[Slot("view", number)].rows
        assert sample["views"][f"view {number}"]["top"] == rows_BC[row, Column.TOP].item()


def test_a_record_tells_of_every_micro_batch(data: str, untracked: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = simclr(2, accumulate=2)
    forward, calls = Objective.forward, []

    def spoilt(self, batch, global_count):
        losses = forward(self, batch, global_count)
        calls.append(batch.position)
        if len(calls) > 1:
            return losses
        ((term, losses_B),) = losses.terms
        spoilt_B = losses_B.index_fill(0, torch.tensor([3]), torch.nan)
        return replace(losses, total=losses.total * torch.nan, terms=[(term, spoilt_B)])

    monkeypatch.setattr(Objective, "forward", spoilt)
    with pytest.raises(UserError, match="Samples and view parameters are in"):
        train(recipe, data, untracked / "run")
    assert len(calls) == 2
    (record,) = (untracked / "run").glob("nonfinite-*")
    (sample,) = json.loads(record.read_text())["samples"]
    assert sample["position"] == calls[0][3].item()


def test_spoilt_weights_are_never_saved(data: str, untracked: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The loss was finite, and the step that followed made the weights infinite; a slow save before is not lost."""
    original, save = Trainer.step, Checkpoints.save

    def slowly(self, *arguments):
        time.sleep(0.5)
        return save(self, *arguments)

    def step(self, raws, clock, *flags):
        report = original(self, raws, clock, *flags)
        if clock.step == 3:
            self.objective.method.projector[0].weight.data[0, 0] = torch.inf
            assert first_not_finite(self.objective) == "method.projector.0.weight"
        return report

    monkeypatch.setattr(Trainer, "step", step)
    monkeypatch.setattr(Checkpoints, "save", slowly)
    with pytest.raises(UserError, match=r"method\.projector\.0\.weight is not finite after 4 steps"):
        train(simclr(1, checkpoint_steps=1), data, untracked / "run")
    assert Checkpoints(str(untracked / "run")).latest().progress.step == 3
