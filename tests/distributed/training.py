"""Programs of the two ranks in the tests of training."""

from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
import torch.distributed as dist

from hardviews.errors import UserError
from hardviews.runs.where import Where
from hardviews.tracking.mlflow_run import NullRun, Run
from hardviews.train.loop import Pretraining
from hardviews.train.recipe import Recipe
from hardviews.train.review import Review
from hardviews.train.stop import StopFlag
from hardviews.train.trainer import Trainer
from hardviews.world import World
from tests.train.runs import Killed


def live(
    recipe: Recipe,
    data: str,
    output: Path,
    dies: int | None = None,
    leave: int | None = None,
    init: str | None = None,
) -> Any:
    """Train on both ranks; return how it ended and at which step.

    dies: the step in which both are killed. leave: the step before which rank 1, and it alone, is asked to leave.
    init: the encoder that both begin with.
    """
    stop = StopFlag()
    original = Trainer.step

    def step(self: Trainer, raws: Any, clock: Any, asked: bool, due: bool) -> Any:
        report = original(self, raws, clock, asked or (clock.step == leave and dist.get_rank() == 1), due)
        if clock.step == dies:
            raise Killed
        return report

    where = Where(data, str(output), str(output.parent / "project"), init=init)
    started = lambda *_, run_id=None, **__: NullRun(run_id or "unknown")  # noqa: E731
    with patch.object(Trainer, "step", step), patch.object(Run, "start", started), patch.object(Review, "finish"):
        job = None
        try:
            job = Pretraining(recipe, where, World(dist.get_rank(), dist.get_world_size(), torch.device("cpu")), stop)
            job.run()
            end: Any = "finished"
        except SystemExit as error:
            end = error.code
        except UserError as error:
            end = str(error)
        except Killed:
            end = "killed"
    return end, job.lasting.step if job else None
