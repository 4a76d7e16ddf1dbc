"""The pretraining job: check, resume, train, save, export.

    torchx run -s local_cwd jobs/pretrain.py          two processes on this machine
    hardviews pretrain digits --data D --output O     one process

Everything a user can get wrong is checked before anything is written. The output is a folder, at a path or a URL, with
`run.json`, `checkpoints/`, `lives/`, at the end `encoder/` and `history.jsonl`.
"""

import os
import sys
from collections.abc import Generator, Iterator
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice

import torch.distributed as dist

from hardviews.batch import Batch
from hardviews.clock import Clock
from hardviews.data.reader import Reader
from hardviews.data.shares import Portion, check_sizes
from hardviews.elastic.timeline import mark
from hardviews.elastic.worker import GRACE_VARIABLE, Phase, advanced, doing, last_reached, leaving, reached, written
from hardviews.errors import UserError
from hardviews.runs.checkpoint import Checkpoints, Progress
from hardviews.runs.history import History
from hardviews.runs.ledger import Ledger, Range
from hardviews.runs.life import Displaced, End, LifeNotes, Taken
from hardviews.runs.record import Record, check_same_run
from hardviews.runs.rival import await_turn
from hardviews.runs.saver import Saver, State
from hardviews.runs.state import first_not_finite, from_tensors, misfit, to_tensors
from hardviews.runs.where import Where, open_dataset, patience
from hardviews.tracking.mlflow_run import Run, Status
from hardviews.tracking.system import SystemMetrics
from hardviews.train.crew import check_crew
from hardviews.train.damage import Damage
from hardviews.train.display import Display
from hardviews.train.epoch import epoch_samples
from hardviews.train.export import export
from hardviews.train.idle import idle
from hardviews.train.loader import RawBatch, ShareDataset, load, to_batch
from hardviews.train.meter import Meter
from hardviews.train.nonfinite import dump, refuse, refuse_weights
from hardviews.train.nursery import nursery
from hardviews.train.opening import open_run, report_failure
from hardviews.train.pace import Pace
from hardviews.train.recipe import Recipe
from hardviews.train.review import Review
from hardviews.train.stop import StopFlag
from hardviews.train.traffic import Traffic
from hardviews.train.trainer import StepReport, Trainer
from hardviews.train.world import World, joined

EVICTED = 75  # exit code (EX_TEMPFAIL): saved and left on request; start again to go on

_METER, _DAMAGE = "meter.", "data.damage"  # names of tensors in a checkpoint
_PATIENCE = 240.0  # seconds that the last save of a finished training waits for the store; less than a barrier waits
_MARGIN = 5.0  # of these, kept for what follows the save
_HURRY, _LIFE = 1.0, 5.0  # seconds for what a life leaves behind, where others wait for its end and where none do
_LAST_GOOD = 30.0  # seconds for a save that is under way when a run fails: what the user goes on from


@dataclass
class Position:
    """Where the run stands: all that must be right for a resume."""

    step: int = 0
    epoch: int = 0
    consumed: int = 0
    progress: int = 0


def pretrain(recipe: Recipe, where: Where) -> None:
    """Pretrain by a recipe on a packed dataset, from the last checkpoint in the output if there is one.

    Raises:
        UserError: anything that the user can mend; nothing was written then, or the run goes on from its last
        checkpoint. SystemExit: with EVICTED, after SIGTERM and a save.
    """
    # Before anything that a copy must not hold: the guard's thread is all that runs by now.
    with nursery(recipe.loader.worker_count()), joined(recipe.precision) as world, StopFlag().listening() as stop:
        mark("joined", world=world.size)
        try:
            life = Pretraining(recipe, where, world, stop)
        except UserError:
            if world.rank == 0:
                report_failure(where)
            raise
        life.run()


class Pretraining:
    """One life of a run: what is checked, taken over, trained, saved and exported."""

    def __init__(self, recipe: Recipe, where: Where, world: World, stop: StopFlag) -> None:
        """Check everything that can be checked before a step, and take over what an earlier life left."""
        self.recipe, self.where, self.world, self.stop = recipe, where, world, stop
        training = recipe.training
        check_sizes(training.batch, training.group, training.accumulate, world.size)
        check_crew(recipe.loader.worker_count())
        if world.rank == 0:
            where.check()
        self.life = self._take_turn() if world.rank == 0 else None
        index = open_dataset(where.data)
        where.check_apart(index.url)
        self.reader = Reader(index, recipe.loader.reader)
        self.reader.check()
        self.per_epoch = epoch_samples(self.reader, training)
        self.total = self.per_epoch * training.epochs
        self.trainer = Trainer(recipe, world)
        self.trainer.objective.method.allocate(len(self.reader))
        self.trainer.objective.method.check_epoch(self.per_epoch)
        self.at, self.ledger, self.history = Position(), Ledger(), b""
        self.checkpoints = Checkpoints(where.output, training.keep)
        self.meter = Meter(world.device)
        self._reading: Generator[RawBatch, None, None] | None = None
        self.damage = Damage(self.reader.index, recipe.loader.reader.most_corrupt)
        self.record = Record("", recipe.name, recipe.settings(), self.reader.index.digest, data=where.data)
        self._resume()

    def _resume(self) -> None:
        """Take over the newest whole checkpoint of this output, and the tracking run that it belongs to."""
        before = Record.read(self.where.output, patience())
        found = self.checkpoints.patient(patience()).latest(self.world.device)
        progress = None if found is None else found.progress
        accept = self.where.accept_changes
        digest, unfit = self.recipe.digest(), None
        if found is not None and found.progress.recipe != digest:
            unfit = misfit(found.tensors, self.trainer.objective, self.trainer.optimizer)
        check_same_run(self.where.output, before, self.record, progress, digest, unfit, accept)
        if found is not None and progress is not None:
            tensors = found.tensors
            from_tensors(tensors, self.trainer.objective, self.trainer.optimizer)
            self.meter.from_tensors({k.removeprefix(_METER): v for k, v in tensors.items() if k.startswith(_METER)})
            self.damage.from_tensor(tensors[_DAMAGE])
            self.at = Position(progress.step, progress.epoch, progress.consumed, progress.progress)
            self.ledger, self.history = Ledger(found.ranges), found.history
        every = self.recipe.training.checkpoint_seconds or None
        check = self.life.check_newest if self.life is not None else None
        self.saver = Saver(self.checkpoints, every, progress.step if progress else None, self.world.rank == 0, check)
        mark("restored", step=self.at.step)
        run_id = before.run_id if before else progress.run_id if progress else ""
        self.record = replace(self.record, run_id=run_id, key=before.key if before else "")
        self._new = before is None
        if self.world.rank == 0 and self.at.progress < self.total:
            self.checkpoints.check_room(to_tensors(self.trainer.objective, self.trainer.optimizer))

    def _take_turn(self) -> LifeNotes:
        """Wait until no other job trains the run; return the notes of the life that may begin now."""
        newest = await_turn(self.where.output, patience(), lambda: self.stop.raised)
        if self.stop.raised:
            raise SystemExit(EVICTED)  # nothing was begun
        return LifeNotes(self.where.output, patience(), lambda: self.stop.raised, after=newest)

    def _begin_life(self) -> None:
        """Write that this life begins; every rank calls this.

        If another job was faster and is over already, all go on from what it left.
        """
        while True:
            taken = [False]
            if self.life is not None:
                try:
                    self.life.begin(self.world.size, self.at.step, last_reached())
                except Taken:
                    self.life, taken = self._take_turn(), [True]
            if self.world.size > 1:
                dist.broadcast_object_list(taken, src=0, device=self.world.device)
            if not taken[0]:
                return
            self._resume()

    def _open_run(self) -> Run:
        """Begin this life, unless the training is complete, and open its tracking run."""
        self.where.check_shared(self.world.rank, self.world.size, self.world.device)
        if self.at.progress < self.total:
            self._begin_life()
        number = 0 if self.life is None else self.life.number
        try:
            run, self.record = open_run(
                self.record, self._new, self.recipe, self.where, self.reader.index, self.world, number
            )
        except BaseException as error:
            if self.life is not None and isinstance(error, UserError):
                self.life.withdraw()
            elif self.life is not None:
                self.life.close("interrupted", _HURRY)
            raise
        return run

    def run(self) -> None:
        """Train to the end and export the encoder."""
        run = self._open_run()
        # In the tracking a life that ends is never RUNNING: one that goes on with the run says so again.
        status: Status | None = "FAILED"
        end: End = "interrupted"
        try:
            self._say(
                f"pretraining by {self.recipe.name} on {len(self.reader)} images: {self.total // self.per_epoch} "
                f"epochs, step {self.at.step} of {self.total // self.recipe.training.batch}"
            )
            for sentence in idle(self.trainer.objective, self.recipe.training, self.per_epoch):
                self._say(sentence)
            with Display(self.total, self.at.progress, show=self.world.rank == 0) as display:
                finished = self._train(run, display)
            end = "finished" if finished else "evicted"
            if finished and self.world.rank == 0:
                with doing(Phase.END):
                    self._export(run)
            status = "FINISHED" if finished else "KILLED"
        except KeyboardInterrupt:
            status = "KILLED"
            raise
        except Displaced:
            status, end = None, "failed"  # the tracking run is the other job's now
            raise
        except UserError:
            end = "failed"
            raise
        finally:
            with doing(Phase.END):
                self._end(run, status, end)
        if not finished:
            raise SystemExit(EVICTED)

    def _end(self, run: Run, status: Status | None, end: End) -> None:
        """Close what is open; a life that was interrupted makes room for the next one soon."""
        hurried = end == "interrupted"
        # Others of the job wait for the end of this process, and need nothing of it any more.
        awaited = hurried or (end == "evicted" and self.world.size > 1)
        if self._reading is not None:
            self._reading.close()
        # A life that finished or was evicted has waited for its last save already.
        self.saver.close({"interrupted": _HURRY, "failed": _LAST_GOOD}.get(end, 0.0))
        if self.life is not None:
            self.life.close(end, _HURRY if hurried else _LIFE)
        run.close(status, timeout=_HURRY if awaited else None)

    def _train(self, run: Run, display: Display) -> bool:
        """Take steps until the end; return False if asked to leave before."""
        training, world, at = self.recipe.training, self.world, self.at
        history = History(self.where.output, self.history, write=world.rank == 0)
        if history.rows:
            run.replay(history.rows)
        if at.progress >= self.total:
            Review(self.reader, self.trainer.objective, run, show=world.rank == 0).finish(history)
            return True
        batches = self._reading = self._batches(at.epoch, at.consumed, training.epochs)
        review = Review(self.reader, self.trainer.objective, run, show=world.rank == 0)
        pace, system, begun = Pace(), SystemMetrics(), at.step
        traffic = Traffic(self.reader.index.url, history.rows, world.device)
        while at.progress < self.total:
            clock = Clock(training.seed, at.epoch, at.step, at.progress, self.total)
            if at.consumed == 0:
                with doing(Phase.EPOCH), self.recipe.precision.autocast(world.device):
                    self.trainer.objective.method.begin_epoch(clock, partial(self._views, clock))
            with pace.waiting(), doing(Phase.DATA):
                raws = list(islice(batches, training.accumulate))
            report = self.trainer.step(raws, clock, self._leaves(), self.saver.due())
            self._check(report, raws)
            self._advance(report)
            # Should others end without notice now: those that survive know how many steps will be run again.
            reached(at.step)
            mark("first_step" if at.step == begun + 1 else "step", step=at.step)
            pace.samples += training.batch
            traffic.add(raws)
            self.meter.add_losses(report.losses, self.trainer.objective.pairs)
            display.update(at.progress, clock.epoch, report.loss, pace.wait)
            review.see(report.losses)
            finished = at.progress >= self.total
            if at.step % training.log_steps == 0 or finished:
                metrics = {
                    "loss": report.loss,
                    "learning_rate": report.rate,
                    **self.meter.report(),
                    **self.damage.metrics(),
                    **traffic.report(),
                    **pace.report(),
                    **self.saver.metrics(),
                    **self._job(),
                    "epoch": at.progress / self.per_epoch,
                }
                # The machine's figures go to the tracking alone: the history holds what a repeated run repeats.
                run.log_metrics(metrics | system.sample(), at.progress)
                history.add({"step": at.step, "samples": at.progress, **metrics})
            if finished or report.stop:
                mark("stop_agreed", step=at.step, finished=finished)
                with leaving(), doing(Phase.SAVE):
                    self._save_last(history, finished)
                if not finished:
                    if not self.saver.busy:
                        written()
                    return False
            elif report.due or (training.checkpoint_steps and at.step % training.checkpoint_steps == 0):
                with pace.saved():
                    self.saver.save(self._state(history))
        with doing(Phase.END):
            if world.rank == 0:
                history.publish()
            review.finish(history)
        return True

    def _leaves(self) -> bool:
        """Return whether this process wants all to stop after the next step."""
        displaced = self.life is not None and self.life.displaced is not None
        return self.stop.raised or self.saver.superseded or displaced

    def _job(self) -> dict[str, float]:
        """Return what says how the job goes: how often it was started again, and how many train together."""
        number = 1 if self.life is None else self.life.number
        return {"restarts": float(number - 1), "world_size": float(self.world.size)}

    def _batches(self, epoch: int, consumed: int, epochs: int) -> Generator[RawBatch, None, None]:
        """Yield this rank's shares from a place in an epoch on, until `epochs` are over."""
        recipe, training = self.recipe, self.recipe.training
        portion = Portion(
            seed=training.seed,
            epoch=epoch,
            consumed=consumed,
            global_batch=training.batch,
            group=training.group,
            accumulate=training.accumulate,
            rank=self.world.rank,
            world=self.world.size,
        )
        canvas = recipe.loader.canvas if recipe.loader.on_device(self.world.device) else None
        dataset = ShareDataset(self.reader, self.trainer.objective.plan, portion, canvas, epochs)
        return load(recipe.loader, dataset, self.world.device)

    def _views(self, clock: Clock) -> Iterator[Batch]:
        """Iterate over this rank's shares of an epoch, for a method that looks at all images before it begins."""
        for raw in self._batches(clock.epoch, 0, clock.epoch + 1):
            advanced()
            yield to_batch(raw, self.trainer.objective, clock, self.recipe.training.group, self.world.device)

    def _check(self, report: StepReport, raws: list[RawBatch]) -> None:
        """Stop on a loss that is no number, and where too much of the dataset is corrupt."""
        if not report.taken:
            path = dump(self.where.output, report.traces, report.losses.batch.clock, self.reader, self.world.rank)
            self.trainer.synchronise()
            refuse(self.at.step, path, self.where.output)
        self.damage.substituted += report.substituted
        if report.corrupt:
            self.damage.add({i: reason for raw in raws for i, reason in raw.bad.items()}, self.world.device)

    def _advance(self, report: StepReport) -> None:
        """Move one global batch on; the samples at an epoch's end that fill no batch are left out."""
        at, batch = self.at, self.recipe.training.batch
        at.step += 1
        number = 0 if self.life is None else self.life.number
        self.ledger.add(
            Range(
                *(number, self.world.size, at.epoch, at.consumed, at.consumed + batch, at.step, at.step),
                digest=report.digest,
                substituted=report.substituted,
            )
        )
        at.progress += batch
        at.consumed += batch
        if at.consumed >= self.per_epoch:
            at.epoch, at.consumed = at.epoch + 1, 0
        if self.life is not None:
            self.life.reached(at.step)

    def _state(self, history: History) -> State:
        """Return all that a checkpoint holds, unless the weights are spoilt: the one before is worth more then.

        Every rank calls this.
        """
        at = self.at
        spoilt = first_not_finite(self.trainer.objective)
        if spoilt is not None:
            refuse_weights(at.step, spoilt)
        number = 0 if self.life is None else self.life.number
        progress = Progress(
            *(at.step, at.epoch, at.consumed, at.progress),
            run_id=self.record.run_id,
            recipe=self.recipe.digest(),
            dataset=self.reader.index.digest,
            world=self.world.size,
            life=number,
        )
        tensors = {_METER + name: tensor for name, tensor in self.meter.to_tensors().items()}
        if self.world.rank == 0:
            tensors |= to_tensors(self.trainer.objective, self.trainer.optimizer)
            tensors[_DAMAGE] = self.damage.to_tensor()
        return State(tensors, progress, self.ledger.ranges, history.so_far())

    def _save_last(self, history: History, finished: bool) -> None:
        """Save and wait for it: a life ends here, and the next one begins where this one stands."""
        wait = _PATIENCE if finished else max(1.0, float(os.environ.get(GRACE_VARIABLE) or "30") - _MARGIN)
        state = self._state(history)
        displaced = self.life is not None and self.life.displaced is not None
        saved = not displaced and self.saver.finish(state, wait)
        # All leave together: who began anew before the save is done would begin from the one before.
        self.trainer.synchronise()
        step = self.at.step
        if self.life is not None and self.life.displaced is not None:
            raise self.life.displaced
        if self.saver.superseded:
            raise SystemExit(EVICTED)
        if saved and not finished:
            self._say(f"asked to leave: saved at step {step}; the same command goes on from there")
        elif saved:
            return
        else:
            reason = self.saver.reason or f"{self.checkpoints.store.url} did not take it for {wait:.0f} s."
            if finished:
                raise UserError(
                    f"The training is complete, but its last checkpoint could not be saved: {reason} Then start again: "
                    f"the run goes on from step {self.saver.saved_step or 0}."
                )
            self._say(
                f"asked to leave at step {step}, but a checkpoint could not be saved: {reason} The same command "
                f"goes on from step {self.saver.saved_step or 0}"
            )

    def _export(self, run: Run) -> None:
        samples, data = self.at.progress, self.reader.index.digest
        provenance = {"run_id": run.run_id, "samples": samples, "recipe": self.recipe.name, "data": data}
        folder = export(self.recipe, self.trainer.objective.method, self.where.output, run, provenance)
        self._say(f"the encoder is in {folder}")

    def _say(self, text: str) -> None:
        if self.world.rank == 0:
            print(text, file=sys.stderr, flush=True)
