"""The role of a training in its job, which may consist of several trainings."""

from collections.abc import Callable
from dataclasses import dataclass

from hardviews.models.encoder import Encoder
from hardviews.train.tuning import Tuning


@dataclass(frozen=True)
class Task:
    """The role of a training in its job.

    Attributes:
        trial: the training is only judged: it has no tracking run, and its process goes on with another training.
        before: steps of the job's trainings before this one, for the coordinator, which counts all steps.
        tuning: the encoder and the labels, if it is a fine-tuning.
        opened: returns the encoder that it begins with, if it was read already; it is not kept during the training.
    """

    trial: bool = False
    before: int = 0
    tuning: Tuning | None = None
    opened: Callable[[], Encoder] | None = None

    @property
    def kind(self) -> str:
        """Name of the role for people."""
        return "pretraining" if self.tuning is None else "fine-tuning"

    def reached_by(self, last: int | None) -> int | None:
        """Return the step of this training that earlier lives have reached, None if none reported a step.

        `last` is the furthest step of the job.
        """
        return None if last is None or last <= self.before else last - self.before
