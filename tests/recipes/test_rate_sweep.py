"""Learning rates chosen on held-out labels: divided by class, each trial once, and never by the test set."""

import json
import signal
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hardviews.clock import Clock
from hardviews.data.index import SAMPLE, Index
from hardviews.data.pack import pack
from hardviews.errors import UserError
from hardviews.evaluation.held_out import held_out
from hardviews.models.encoder import load
from hardviews.recipes import rate_sweep, recipe_named
from hardviews.recipes.finetune_rates import candidates
from hardviews.recipes.finetuning import Finetuning, read_finetune
from hardviews.recipes.label_division import Division, hint
from hardviews.recipes.rate_sweep import Sweep
from hardviews.runs.audit import audit
from hardviews.runs.record import Record
from hardviews.runs.where import Where
from hardviews.tracking.mlflow_run import NullRun, Run
from hardviews.train.loop import Pretraining
from hardviews.train.rate_table import RateTable, Trial
from hardviews.train.recipe import Recipe
from hardviews.train.review import Review
from hardviews.train.stop import StopFlag
from hardviews.train.trainer import StepReport, Trainer
from hardviews.world import ALONE
from tests.data.helpers import Noise
from tests.data.test_label_subset import contents, made
from tests.train.runs import Killed, packed, rows, simclr, train

QUICK = ("--training.epochs=2", "--training.batch=16", "--training.checkpoint-steps=2", "--loader.workers=0")
SWEPT = ("--labels", "30-per-class", "--rates", "0.001", "0.02", "0.1")


@pytest.fixture(scope="module", autouse=True)
def untracked() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Run, "start", lambda *_, run_id=None, **__: NullRun(run_id or "a" * 32))
        patch.setattr(Review, "finish", lambda *_: None)
        yield


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory, untracked: None) -> Path:
    """A folder with a dataset `shards` and a pretraining `run`, which no server knows."""
    folder = tmp_path_factory.mktemp("sweep")
    train(simclr(1), packed(folder / "shards"), folder / "run")
    return folder


@pytest.fixture(scope="module")
def whole(place: Path) -> Path:
    """The output of a fine-tuning after a sweep."""
    read_finetune(words(place, place / "whole", *SWEPT)).run()
    return place / "whole"


def words(place: Path, output: Path, *more: str) -> list[str]:
    named = ["--data", str(place / "shards"), "--output", str(output), "--project", str(place / "project")]
    return [str(place / "run"), "--recipe", "digits_finetune", *named, *QUICK, *more]


def table_of(output: Path) -> RateTable:
    return RateTable.from_dict(json.loads((output / "sweep" / "choice.json").read_text())["table"])


@given(sizes=st.lists(st.integers(1, 30), min_size=2, max_size=5), seed=st.integers(0, 3), share=st.floats(0.05, 0.6))
def test_each_class_holds_out_its_share(sizes: list[int], seed: int, share: float) -> None:
    index = made(sizes)
    held = held_out(index, seed, share).numpy()
    counts = Counter(index.labels[held].tolist())
    for label, size in enumerate(sizes):
        assert counts[label] == min(max(1, round(share * size)), size - 1)
    other = made(sizes, seed=5)  # in another order
    assert contents(index, np.flatnonzero(held).tolist()) == contents(
        other, np.flatnonzero(held_out(other, seed, share).numpy()).tolist()
    )


def test_images_without_a_label_judge_nothing(tmp_path: Path) -> None:
    index = Index.load(packed(tmp_path / "shards"))
    samples = np.array(index.samples)
    samples["label"][:30] = -1
    fitted, judged = Division(0, 0.2).packed(replace(index, samples=samples), str(tmp_path / "parts"), ALONE)
    assert len(fitted) + len(judged) == 90
    assert not set(judged.samples["crc32"]) & (set(samples["crc32"][:30]) | set(fitted.samples["crc32"]))


@pytest.mark.parametrize(
    ("sizes", "batch", "told"),
    [
        ([1, 1, 1], 2, "no class has two"),
        ([9, 9], 16, "holds out 4 of 18 labels, and the other 14 are fewer than a batch"),
    ],
    ids=["one of each", "a batch"],
)
def test_labels_that_cannot_be_divided(sizes: list[int], batch: int, told: str) -> None:
    with pytest.raises(UserError, match=told):
        Division(0, 0.2).check(made(sizes), batch)


def test_too_many_labels_are_not_copied() -> None:
    index = Index("D", ("a",), (), np.zeros(200_001, SAMPLE), 0, "")
    with pytest.raises(UserError, match=r"200,001 are more than 200,000.*--labels 10% --sweep"):
        Division(0, 0.2).check(index, 2)


def test_few_labels_of_a_class_make_a_hint() -> None:
    assert hint(made([5, 5]), 2) == ""
    assert (
        "With 4 labels of a class, few are held out: the choice rests on 2 images, one of which is 50 points"
        in hint(made([4, 9]), 2)
    )
    assert "With 1 label of a class" in hint(made([1, 9]), 2)


def test_the_rates_are_those_of_the_publication_or_around_the_recipes() -> None:
    byol, digits = (recipe_named(name) for name in ("finetune_byol_r50_50", "digits_finetune"))
    assert candidates(byol) == [(rate, 1.0) for rate in (0.005, 0.01, 0.02, 0.05, 0.1)]
    assert candidates(digits) == [(0.006, 1.0), (0.02, 1.0), (0.06, 1.0)]
    assert candidates(digits, (0.2, 0.1), (5.0, 1.0)) == [(0.1, 1.0), (0.1, 5.0), (0.2, 1.0), (0.2, 5.0)]


def test_the_best_trial_is_chosen_and_ties_go_to_the_lower_loss_then_to_smaller_rates() -> None:
    def chosen(*trials: tuple[float, float, float | None]) -> float:
        made = [Trial(rate, 1.0, top1, nll, 9) for rate, top1, nll in trials]
        return RateTable(tuple(made), 20, 80).chosen.learning_rate

    assert chosen((0.1, 70.0, 0.5), (0.2, 75.0, 0.9), (0.3, 60.0, 0.1)) == 0.2
    assert chosen((0.1, 70.0, 0.5), (0.2, 70.0, 0.4)) == 0.2
    assert chosen((0.2, 70.0, 0.5), (0.1, 70.0, 0.5)) == 0.1
    assert chosen((0.1, 0.0, None), (0.2, 0.0, 3.0)) == 0.2
    table = RateTable(
        (Trial(0.1, 1.0, 50.0, 1.0, 9), Trial(0.2, 1.0, 80.0, 1.0, 9), Trial(0.3, 1.0, 90.0, 1.0, 9)), 20, 80
    )
    said = " ".join(table.remarks)
    assert (
        "20 held-out images, one of which is 5 points" in said and "69.9 to 97.2 %; other trials in it: 1 of 2." in said
    )
    assert "The best learning_rate, 0.3, is the highest of its grid" in said
    assert RateTable.from_dict(json.loads(json.dumps(table.to_dict()))) == table


def test_a_sweep_trains_each_candidate_then_on_all_labels(place: Path, tmp_path: Path, whole: Path) -> None:
    table = table_of(whole)
    assert [trial.learning_rate for trial in table.trials] == [0.001, 0.02, 0.1]
    assert (table.held_out, table.fitted) == (12, 48)
    best = max(table.trials, key=lambda trial: (trial.top1, -(trial.nll or 0)))
    assert table.chosen == best
    # The training that follows is the one without a sweep, with the rate that was chosen.
    alone = tmp_path / "alone"
    rate = ("--optimizer.learning-rate", str(best.learning_rate))
    read_finetune(words(place, alone, "--labels", "30-per-class", *rate)).run()
    assert rows(whole) == rows(alone)
    assert load(str(whole)).digest == load(str(alone)).digest
    assert not audit(str(whole)).problems


def test_trials_leave_their_history_and_are_not_trained_again(place: Path, whole: Path) -> None:
    left = {path.name for path in (whole / "sweep").iterdir() if path.is_dir()}
    assert len(left) == 3 and not (whole / "sweep" / "data").exists()
    for folder in left:
        kept = {path.name for path in (whole / "sweep" / folder).iterdir()}
        assert kept >= {"run.json", "history.jsonl"} and not kept & {"checkpoints", "encoder"}
    with patch.object(Sweep, "_trained", side_effect=AssertionError):
        read_finetune(words(place, whole, *SWEPT)).run()


def files(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


@pytest.mark.parametrize(
    ("more", "told"),
    [
        (("--labels", "20-per-class", *SWEPT[2:]), "other labels .30-per-class seed 0, now 20-per-class seed 0"),
        ((*SWEPT, "--hold-out", "0.3"), r"another sweep chose .*0.001 x 1, 0.02 x 1, 0.1 x 1.*another hold-out"),
        ((*SWEPT, "--optimizer.weight-decay", "0.1"), "another hold-out or other settings"),
    ],
    ids=["labels", "hold-out", "settings"],
)
def test_a_run_keeps_the_sweep_that_chose_its_rates(place: Path, whole: Path, more: tuple[str, ...], told: str) -> None:
    before = files(whole)
    with pytest.raises(UserError, match=told):
        read_finetune(words(place, whole, *more))
    assert files(whole) == before


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the trainings that took steps; held-out accuracies are made up, in an order of the rates."""
    names: list[str] = []
    train_all = Pretraining._steps
    best = {"0.02": 50.0, "0.05": 40.0, "0.07": 90.0}

    def steps(self: Pretraining, *given: Any) -> bool:
        names.append(Path(self.where.output).name.partition("-head")[0])
        return train_all(self, *given)

    def judged(output: str, *_: Any) -> tuple[float, float]:
        return best.get(Path(output).name.split("-")[1], 10.0), 1.0

    monkeypatch.setattr(Pretraining, "_steps", steps)
    monkeypatch.setattr(rate_sweep, "_judged", judged)
    return names


def test_other_rates_train_the_new_trials_and_again_only_if_the_choice_changes(
    place: Path, tmp_path: Path, trained: list[str]
) -> None:
    output = tmp_path / "tuned"

    def sweep(*rates: str) -> list[str]:
        trained.clear()
        read_finetune(words(place, output, "--labels", "30-per-class", "--rates", *rates)).run()
        assert [trial.learning_rate for trial in table_of(output).trials] == sorted(map(float, rates))
        assert not audit(str(output)).problems and len(audit(str(output)).lives) == 1
        return list(trained)

    assert sweep("0.001", "0.02") == ["rate-0.001", "rate-0.02", "tuned"]
    first, record = load(str(output)).digest, (output / "run.json").read_bytes()
    assert sweep("0.001", "0.02", "0.05") == ["rate-0.05"]  # which is not better
    assert load(str(output)).digest == first and (output / "run.json").read_bytes() == record
    assert sweep("0.001", "0.02", "0.07") == ["rate-0.07", "tuned"]
    assert load(str(output)).digest != first
    assert json.loads((output / "run.json").read_text())["settings"]["optimizer.learning_rate"] == "0.07"
    assert sweep("0.02", "0.05") == ["tuned"]  # a rate less, and the first choice again
    assert load(str(output)).digest == first


def test_a_trial_of_other_settings_is_another_trial(place: Path, tmp_path: Path, trained: list[str]) -> None:
    for more in ((), ("--optimizer.weight-decay", "0.1"), ("--hold-out", "0.3"), ("--loader.ahead", "3")):
        trained.clear()
        prepared = read_finetune(words(place, tmp_path / "tuned", "--labels", "30-per-class", "--rates", "0.02", *more))
        assert prepared.sweep is not None
        prepared.sweep.choose(ALONE, StopFlag())
        assert trained == ([] if "--loader.ahead" in more else ["rate-0.02"])  # which changes no weight


def test_a_removal_that_was_cut_is_finished(
    place: Path, tmp_path: Path, trained: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    output = tmp_path / "tuned"
    given = ("--labels", "30-per-class", "--rates", "0.02")
    read_finetune(words(place, output, *given)).run()

    def cut(_: str) -> None:
        raise Killed

    with monkeypatch.context() as context, pytest.raises(Killed):
        context.setattr(Record, "remove", cut)
        read_finetune(words(place, output, *given, "0.07")).run()
    assert not (output / "encoder").exists() and (output / "run.json").exists()
    trained.clear()
    read_finetune(words(place, output, *given, "0.07")).run()
    assert trained == ["tuned"] and table_of(output).chosen.learning_rate == 0.07
    assert not audit(str(output)).problems


def test_nothing_is_removed_if_the_encoder_is_gone(place: Path, tmp_path: Path, trained: list[str]) -> None:
    output = tmp_path / "tuned"
    given = ("--labels", "30-per-class", "--rates")
    read_finetune(words(place, output, *given, "0.02", "0.07")).run()
    digest = load(str(output)).digest
    trained.clear()
    (place / "run").rename(place / "elsewhere")
    try:
        with pytest.raises(UserError, match="There is no encoder"):
            read_finetune(words(place, output, *given, "0.02")).run()  # the choice would change
    finally:
        (place / "elsewhere").rename(place / "run")
    assert load(str(output)).digest == digest and not trained and (output / "run.json").exists()


def test_ctrl_c_in_a_trial_saves_it(
    place: Path, tmp_path: Path, whole: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    begun: list[tuple[str, int]] = []
    begin, step = Pretraining.__init__, Trainer.step

    def noted(self: Pretraining, recipe: Recipe, where: Where, *given: Any) -> None:
        begin(self, recipe, where, *given)
        begun.append((where.output, self.lasting.step))

    def pressed(self: Trainer, raws: Any, clock: Clock, *flags: bool) -> StepReport:
        if len(begun) == 2 and clock.step == 1:
            signal.raise_signal(signal.SIGINT)
        return step(self, raws, clock, *flags)

    monkeypatch.setattr(Pretraining, "__init__", noted)
    monkeypatch.setattr(Trainer, "step", pressed)
    with pytest.raises(KeyboardInterrupt):
        read_finetune(words(place, tmp_path / "cut", *SWEPT)).run()
    assert "asked to leave: saved at step 3; the same command goes on from there" in capfd.readouterr().err
    report = audit(begun[-1][0])
    assert (report.step, report.lost, report.repeated, report.problems) == (3, 0, 0, ())
    monkeypatch.setattr(Trainer, "step", step)
    read_finetune(words(place, tmp_path / "cut", *SWEPT)).run()
    assert begun[2] == (begun[1][0], 3) and len(begun) == 5
    assert table_of(tmp_path / "cut") == table_of(whole) and rows(tmp_path / "cut") == rows(whole)


def test_a_run_that_was_begun_without_a_sweep_gets_none(place: Path, tmp_path: Path) -> None:
    read_finetune(words(place, tmp_path / "tuned", "--labels", "30-per-class")).run()
    before = files(tmp_path)
    with pytest.raises(UserError, match="began without a sweep"):
        read_finetune(words(place, tmp_path / "tuned", *SWEPT))
    assert files(tmp_path) == before


@pytest.mark.parametrize("sweep", [("--sweep",), ("--rates", "0.1", "0.2")], ids=["sweep", "rates"])
def test_a_rate_is_given_or_chosen(place: Path, tmp_path: Path, sweep: tuple[str, ...]) -> None:
    for name in ("--optimizer.learning-rate=0.1", "--optimizer.learning_rate=0.1"):
        with pytest.raises(UserError, match=r"and a sweep chooses it\. Name the candidates by --rates"):
            read_finetune(words(place, tmp_path / "tuned", *sweep, name))
    with pytest.raises(UserError, match="Give one of both"):
        read_finetune(words(place, tmp_path / "tuned", *sweep, "--head-rates", "3", "--optimizer.head-rate", "2"))
    read_finetune(words(place, tmp_path / "tuned", *sweep, "--optimizer.head-rate", "2"))


def test_one_candidate_leaves_nothing_to_choose(
    place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with patch.object(Sweep, "_trained", return_value=Trial(0.1, 1.0, 50.0, 1.0, 9)):
        prepared = read_finetune(words(place, tmp_path / "tuned", "--labels", "30-per-class", "--rates", "0.1"))
        assert prepared.sweep is not None
        prepared.sweep.choose(ALONE, StopFlag())
    printed = " ".join(str(capsys.readouterr()).split())
    assert "nothing to choose" in printed and "1 trial on" in printed


@pytest.mark.parametrize("trial", [0, 2])
def test_a_killed_sweep_goes_on_from_its_finished_trials(
    place: Path, tmp_path: Path, whole: Path, trial: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun: list[tuple[str, int]] = []
    begin, step = Pretraining.__init__, Trainer.step

    def noted(self: Pretraining, recipe: Recipe, where: Where, *given: Any) -> None:
        begin(self, recipe, where, *given)
        begun.append((where.output, self.lasting.step))

    def deadly(self: Trainer, raws: Any, clock: Clock, *flags: bool) -> StepReport:
        if len(begun) == trial + 1 and clock.step == 3:
            raise Killed
        return step(self, raws, clock, *flags)

    monkeypatch.setattr(Pretraining, "__init__", noted)
    monkeypatch.setattr(Trainer, "step", deadly)
    with pytest.raises(Killed):
        read_finetune(words(place, tmp_path / "cut", *SWEPT)).run()
    monkeypatch.setattr(Trainer, "step", step)
    read_finetune(words(place, tmp_path / "cut", *SWEPT)).run()
    before, after = begun[: trial + 1], begun[trial + 1 :]
    assert after[0] == (before[-1][0], 2)  # the trial that was killed, from its checkpoint
    assert len({output for output, _ in begun}) == 4 and len(after) == 4 - trial
    assert table_of(tmp_path / "cut") == table_of(whole)
    assert rows(tmp_path / "cut") == rows(whole)
    assert load(str(tmp_path / "cut")).digest == load(str(whole)).digest


def test_a_rate_that_diverges_is_not_chosen_and_is_reported(place: Path, tmp_path: Path) -> None:
    output = tmp_path / "tuned"
    read_finetune(words(place, output, "--labels", "30-per-class", "--rates", "0.01", "1e18")).run()
    table = table_of(output)
    assert table.chosen.learning_rate == 0.01 and table.trials[1].nll is None and table.trials[1].diverged
    assert "diverged" in table.markdown()
    with pytest.raises(UserError, match="every trial diverged; give lower --rates"):
        read_finetune(words(place, tmp_path / "other", "--labels", "30-per-class", "--rates", "1e18")).run()


def test_the_choice_does_not_read_the_test_set(place: Path, tmp_path: Path, whole: Path) -> None:
    pack(Noise(90), str(tmp_path / "data" / "train"), shard_bytes=40_000)
    (tmp_path / "data" / "test").mkdir()
    (tmp_path / "data" / "test" / "index.json").write_text("no dataset")
    given = words(place, tmp_path / "tuned", *SWEPT)
    given[given.index("--data") + 1] = str(tmp_path / "data")
    read_finetune(given).run()
    assert table_of(tmp_path / "tuned") == table_of(whole)


@pytest.mark.parametrize(
    ("more", "told"),
    [
        (("--labels", "9-per-class", "--sweep"), "holds out 4 of 18 labels"),
        (("--rates", "0"), "--rates is"),
        (("--sweep", "--hold-out", "1"), "--hold-out is 1"),
    ],
    ids=["too few", "a rate", "a share"],
)
def test_mistakes_are_told_before_anything_is_written(
    place: Path, tmp_path: Path, more: tuple[str, ...], told: str
) -> None:
    with pytest.raises(UserError, match=told):
        read_finetune(words(place, tmp_path / "tuned", *more))
    assert not (tmp_path / "tuned").exists()


def test_rates_ask_for_a_sweep() -> None:
    asked = Finetuning("run", "data", "output", "digits_finetune")
    assert not asked.sweeps
    for more in ({"sweep": True}, {"rates": (0.1,)}, {"head_rates": (2.0,)}):
        assert replace(asked, **more).sweeps  # type: ignore[arg-type]
