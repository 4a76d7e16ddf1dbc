"""The part of a training that outlives its processes: read from a checkpoint, and written to the next one."""

from torch import Tensor

from hardviews.clock import Calendar
from hardviews.runs.checkpoint import Checkpoint
from hardviews.runs.history import History
from hardviews.runs.ledger import Ledger, Range
from hardviews.runs.life import LifeNotes, NoLife
from hardviews.runs.manifest import Progress
from hardviews.runs.record import Record
from hardviews.runs.saver import State
from hardviews.runs.state import first_not_finite, from_tensors, to_tensors
from hardviews.train.damage import Damage
from hardviews.train.meter import Meter
from hardviews.train.nonfinite import refuse_weights
from hardviews.train.trainer import StepReport, Trainer

AVERAGE = "ema."
"""Prefix of the names of averaged weights in a checkpoint."""
_METER, _DAMAGE = "meter.", "data.damage"  # names of other tensors in a checkpoint


class Lasting:
    """Weights, optimizer, sums of the current report, corrupt samples, ledger; `progress` counts the samples seen."""

    def __init__(self, trainer: Trainer, calendar: Calendar, damage: Damage) -> None:
        self.trainer, self.calendar, self.damage = trainer, calendar, damage
        self.meter = Meter(trainer.world.device)
        self.progress, self.ledger, self.history = 0, Ledger(), b""

    @property
    def step(self) -> int:
        """Steps taken so far."""
        return self.calendar.step(self.progress)

    @property
    def over(self) -> bool:
        """Whether every sample of every epoch was seen."""
        return self.progress >= self.calendar.total

    def take_over(self, found: Checkpoint) -> None:
        """Go on from a checkpoint of this run."""
        tensors = found.tensors
        from_tensors(tensors, self.trainer.objective, self.trainer.optimizer)
        averaged = {k.removeprefix(AVERAGE): v for k, v in tensors.items() if k.startswith(AVERAGE)}
        if self.trainer.average is not None and averaged:
            self.trainer.average.load_state_dict(averaged)
        else:
            self.trainer.begin_average()  # earlier lives had none
        self.meter.from_tensors({k.removeprefix(_METER): v for k, v in tensors.items() if k.startswith(_METER)})
        self.damage.from_tensor(tensors[_DAMAGE])
        self.progress, self.ledger, self.history = found.progress.samples, Ledger(found.ranges), found.history

    def weights(self) -> dict[str, Tensor]:
        """Return the tensors of modules, optimizer and average, by their names in a checkpoint."""
        average = self.trainer.average
        averaged = {} if average is None else average.state_dict(prefix=AVERAGE)
        return {**to_tensors(self.trainer.objective, self.trainer.optimizer), **averaged}

    def advance(self, report: StepReport, life: int) -> None:
        """Move one global batch on; samples at the end of an epoch that do not fill a batch are left out."""
        clock, batch = self.calendar.at(self.progress), self.calendar.batch
        start, step = self.calendar.consumed(self.progress), clock.step + 1
        self.ledger.add(
            Range(
                *(life, self.trainer.world.size, clock.epoch, start, start + batch, step, step),
                digest=report.digest,
                substituted=report.substituted,
            )
        )
        self.progress += batch

    def state(self, history: History, record: Record, digest: str, life: LifeNotes | NoLife) -> State:
        """Return the content of a checkpoint, if the weights are finite.

        Otherwise the previous checkpoint is better, and this raises. Every rank calls this. `record` belongs to this
        run, `digest` to its present recipe.

        Raises:
            UserError: a weight is not finite.
        """
        objective, world = self.trainer.objective, self.trainer.world
        spoilt = first_not_finite(objective)
        if spoilt is not None:
            refuse_weights(self.step, spoilt)
        progress = Progress(
            self.step,
            self.progress,
            run_id=record.run_id,
            recipe=digest,
            dataset=record.dataset,
            world=world.size,
            life=life.number,
        )
        tensors = {_METER + name: tensor for name, tensor in self.meter.to_tensors().items()}
        if world.leads:
            tensors |= self.weights()
            tensors[_DAMAGE] = self.damage.to_tensor()
        return State(tensors, progress, self.ledger.ranges, history.so_far())
