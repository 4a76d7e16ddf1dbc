"""A moving average of the weights: exported in their place, in every checkpoint, and exact through deaths."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from hardviews.checked import as_before
from hardviews.errors import UserError
from hardviews.evaluation.subject import Subject
from hardviews.models.encoder import load
from hardviews.runs.checkpoint import Checkpoints
from hardviews.runs.where import Where
from hardviews.train.loop import pretrain
from hardviews.train.recipe import Recipe, Training
from hardviews.train.trainer import Trainer
from tests.train.runs import STEPS, dying, losses, rows, train
from tests.train.test_labels import supervised

DECAY = 0.8


def averaged(epochs: int = 2, ema: float = DECAY) -> Recipe:
    recipe = supervised(epochs=epochs)
    return replace(recipe, training=replace(recipe.training, ema=ema))


def tensors(output: Path, name: str | None = None) -> dict[str, Tensor]:
    checkpoints = Checkpoints(str(output))
    found = checkpoints.latest() if name is None else checkpoints.named(name)
    assert found is not None
    return found.tensors


@pytest.fixture(scope="module")
def whole(data: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    from hardviews.tracking.mlflow_run import NullRun, Run
    from hardviews.train.review import Review

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Run, "start", lambda *_, run_id=None, **__: NullRun(run_id or "unknown"))
        patch.setattr(Review, "finish", lambda *_: None)
        return train(averaged(), data, tmp_path_factory.mktemp("whole") / "run")


def test_it_is_that_of_all_steps_and_changes_none(data: str, untracked: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    expected: dict[str, Tensor] = {}
    step = Trainer.step

    def noted(self: Trainer, *given: object, **named: object) -> object:
        def states() -> dict[str, Tensor]:
            head = self.objective.method.classifier
            assert head is not None
            parts = {"network": self.objective.method.exported, "classifier": head}
            return {f"{n}.{k}": v.clone() for n, part in parts.items() for k, v in part.state_dict().items()}

        if not expected:
            expected.update({key: value.double() for key, value in states().items()})
        report = step(self, *given, **named)  # type: ignore[arg-type]
        for key, value in states().items():
            expected[key] = DECAY * expected[key] + (1 - DECAY) * value.double()
        return report

    monkeypatch.setattr(Trainer, "step", noted)
    output = train(averaged(1), data, untracked / "run")
    monkeypatch.undo()
    encoder = load(str(output))
    assert encoder.classifier is not None
    for key, value in encoder.network.state_dict().items():
        if value.is_floating_point():
            torch.testing.assert_close(value.double(), expected[f"network.{key}"], rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(
        encoder.classifier.weight_LD.double(), expected["classifier.weight"], rtol=1e-5, atol=1e-6
    )


def test_without_it_a_run_is_the_same_and_its_checkpoints_hold_none(data: str, untracked: Path, whole: Path) -> None:
    plain = train(averaged(ema=0.0), data, untracked / "plain")
    assert rows(plain) == rows(whole)
    first, second = tensors(plain), tensors(whole)
    assert not [key for key in first if key.startswith("ema.")]
    assert {key for key in second if not key.startswith("ema.")} == set(first)
    assert all(torch.equal(value, second[key]) for key, value in first.items())
    assert load(str(plain)).digest != load(str(whole)).digest
    assert load(str(whole)).provenance["ema"] == DECAY and "ema" not in load(str(plain)).provenance


@pytest.mark.parametrize("dies", [(3,), (STEPS - 1, STEPS)], ids=str)
def test_a_killed_run_has_the_same_average(data: str, untracked: Path, whole: Path, dies: tuple[int, ...]) -> None:
    broken = train(averaged(), data, untracked / "run", dies)
    first, second = tensors(broken), tensors(whole)
    assert first.keys() == second.keys()
    assert all(torch.equal(value, second[key]) for key, value in first.items() if key.startswith("ema."))
    mine, theirs = load(str(broken)), load(str(whole))
    assert mine.digest == theirs.digest
    assert mine.classifier is not None and theirs.classifier is not None
    assert mine.classifier.digest == theirs.classifier.digest


def test_a_checkpoint_is_evaluated_by_its_average(whole: Path) -> None:
    exported, newest = load(str(whole)), Subject(run=str(whole), checkpoint="newest").open("project")
    assert newest.digest == exported.digest
    assert newest.classifier is not None and exported.classifier is not None
    assert newest.classifier.digest == exported.classifier.digest


def test_it_begins_with_the_encoder_that_the_run_begins_with(data: str, untracked: Path, whole: Path) -> None:
    recipe = averaged(1, ema=1 - 1e-9)
    begun = Where(data, str(untracked / "run"), str(untracked / "project"), init=str(whole))
    pretrain(recipe, begun)
    for key, value in load(str(whole)).network.state_dict().items():
        if value.is_floating_point():
            torch.testing.assert_close(load(begun.output).network.state_dict()[key], value)


def test_it_may_begin_in_the_middle_of_a_run(data: str, untracked: Path) -> None:
    with dying(4):
        train(averaged(ema=0.0), data, untracked / "run")
    with pytest.raises(UserError, match=r"training\.ema"):
        train(averaged(), data, untracked / "run")
    train(averaged(), data, untracked / "run", accept=True)
    assert [key for key in tensors(untracked / "run") if key.startswith("ema.")]
    assert losses(untracked / "run")


def test_a_run_too_short_for_it_is_reported(data: str, untracked: Path, capsys: pytest.CaptureFixture[str]) -> None:
    train(averaged(1, ema=0.9999), data, untracked / "run")
    assert "training.ema 0.9999 averages over about 10,000 steps, and the run has 5" in capsys.readouterr().err


def test_the_setting_is_added_and_checked() -> None:
    assert "ema" in as_before(Training())
    for wrong in (1.0, -0.1, float("nan")):
        with pytest.raises(UserError, match=r"training\.ema"):
            Training(ema=wrong)
