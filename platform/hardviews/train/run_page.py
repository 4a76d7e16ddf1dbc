"""The page of a training in MLflow while it goes on: its description, and pictures at checkpoints and measurements."""

from collections.abc import Callable
from functools import partial

from hardviews.data.index import Index
from hardviews.objective.losses import Losses
from hardviews.runs.history import History
from hardviews.runs.where import Where
from hardviews.tracking.mlflow_run import Run
from hardviews.train.description import Description
from hardviews.train.feature_pictures import FeaturePictures
from hardviews.train.opening import absolute, command_of
from hardviews.train.recipe import Recipe
from hardviews.train.review import Review
from hardviews.train.sight import Sight
from hardviews.train.tuning import Tuning


def describe(
    run: Run, recipe: Recipe, where: Where, index: Index, total: int, tuning: Tuning | None = None
) -> Description:
    """Return the description of a run with `total` samples; `tuning` are the facts of a fine-tuning."""
    command = command_of(recipe, tuning)
    given = absolute(where.data if tuning is None else tuning.data)
    return Description(run, recipe, given, index, absolute(where.output), command, total, tuning)


class RunPage:
    """Keeps the page of a run up to date; every rank calls everything, and only the writing rank acts."""

    def __init__(self, review: Review, description: Description, history: History) -> None:
        """Write nothing yet."""
        self._review, self._description, self._history = review, description, history
        self._features = FeaturePictures(description.run, description.total)

    def begin(self, samples: int) -> None:
        """Write the description; `samples` were seen by earlier lives."""
        self._description.begin(samples)

    def see(self, losses: Losses) -> None:
        """Remember a step."""
        self._review.see(losses)

    def at_measurement(self, samples: int, interval: int) -> Callable[[Sight], None] | None:
        """Return the function that draws a measurement of the representation, None if it is to have no pictures.

        `interval` is the number of samples between two measurements.
        """
        if not self._features.due(samples, interval):
            return None
        return partial(self._features.look, samples=samples)

    def at_checkpoint(self, samples: int) -> None:
        """Draw pictures beside the steps and judge the training so far, if this checkpoint is to have some."""
        if self._review.at_checkpoint(samples):
            self._description.judge(self._history, samples)

    def leave(self, samples: int) -> None:
        """Judge a training that goes on in another life."""
        self._description.judge(self._history, samples)

    def finish(self) -> None:
        """Draw everything, and judge the training."""
        self._features.finish()
        self._review.finish(self._history)
        self._description.judge(self._history, self._description.total)
