"""A run that is killed and started again is, bit for bit, the run that was not."""

import random
from pathlib import Path

import pytest

from hardviews.train.recipe import Recipe
from tests.train.runs import STEPS, everything, rows, simclr, train, weights

SEED = random.SystemRandom().randrange(1000)


@pytest.fixture(scope="module", params=[simclr, everything], ids=lambda recipe: recipe.__name__)
def undisturbed(request: pytest.FixtureRequest, data: str, tmp_path_factory: pytest.TempPathFactory):
    with pytest.MonkeyPatch.context() as patch:
        from hardviews.tracking.mlflow_run import NullRun, Run
        from hardviews.train.review import Review

        patch.setattr(Run, "start", lambda *_, run_id=None, **__: NullRun(run_id or "unknown"))
        patch.setattr(Review, "finish", lambda *_: None)
        recipe = request.param()
        return recipe, train(recipe, data, tmp_path_factory.mktemp("whole") / "run")


@pytest.mark.parametrize(
    "dies",
    [
        pytest.param((0,), id="before anything is saved"),
        pytest.param((3,), id="a step after a checkpoint, in the middle of a report"),
        pytest.param((STEPS - 1, STEPS), id="at the epoch's end, twice"),
        pytest.param((5, 5, 8), id="twice at one step, and again"),
        pytest.param(None, id="at random"),
    ],
)
def test_a_killed_run_goes_on_bit_for_bit(undisturbed: tuple[Recipe, Path], data: str, untracked: Path, dies) -> None:
    recipe, whole = undisturbed
    if dies is None:
        generator = random.Random(SEED)
        dies = tuple(sorted(generator.randrange(2 * STEPS) for _ in range(2)))
        print(f"seed {SEED}: dies at {dies}")
    broken = train(recipe, data, untracked / "run", dies)
    assert rows(broken) == rows(whole)
    assert weights(broken) == weights(whole)
