"""The pretraining job: check, resume, train, save, export.

    torchx run -s local_cwd jobs/pretrain.py          two processes on this machine
    hardviews pretrain digits --data D --output O     one process

Everything a user can get wrong is checked before anything is written.
"""

import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice

from hardviews.batch import Batch, Clock
from hardviews.data.reader import Reader
from hardviews.data.shares import check_sizes
from hardviews.errors import UserError
from hardviews.models.encoder import Encoder, save
from hardviews.recipes.recipe import Recipe
from hardviews.tracking.params import flatten
from hardviews.tracking.run import Run, Status
from hardviews.tracking.system import SystemMetrics
from hardviews.train.checkpoint import Checkpoints, Progress
from hardviews.train.damage import Damage
from hardviews.train.display import Display
from hardviews.train.history import History
from hardviews.train.loader import Place, RawBatch, ShareDataset, load, to_batch
from hardviews.train.meter import Meter
from hardviews.train.nonfinite import dump, refuse, refuse_weights
from hardviews.train.nursery import nursery
from hardviews.train.pace import Pace
from hardviews.train.provenance import tags
from hardviews.train.record import Record, check_same_run
from hardviews.train.review import Review
from hardviews.train.state import first_not_finite, from_tensors, to_tensors
from hardviews.train.stop import StopFlag
from hardviews.train.trainer import StepReport, Trainer
from hardviews.train.where import Where, open_dataset
from hardviews.train.world import World, joined

EVICTED = 75  # exit code (EX_TEMPFAIL): saved and left on request; start again to go on

_METER, _DAMAGE = "meter.", "data.damage"  # names of tensors in a checkpoint


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
        Pretraining(recipe, where, world, stop).run()


class Pretraining:
    """One life of a run: what is checked, taken over, trained, saved and exported."""

    def __init__(self, recipe: Recipe, where: Where, world: World, stop: StopFlag) -> None:
        """Check everything that can be checked before a step, and take over what an earlier life left."""
        self.recipe, self.where, self.world, self.stop = recipe, where, world, stop
        training = recipe.training
        check_sizes(training.batch, training.group, training.accumulate, world.size)
        where.check()
        self.reader = Reader(open_dataset(where.data), recipe.loader.reader)
        self.reader.check()
        length = self.reader.order(training.seed, 0, training.batch, training.group).length
        self.per_epoch = length // training.batch * training.batch
        if self.per_epoch == 0:
            raise UserError(_too_small(len(self.reader), length, training.batch, training.group * training.accumulate))
        self.total = self.per_epoch * training.epochs
        self.trainer = Trainer(recipe, world)
        self.checkpoints = Checkpoints(where.output, training.keep)
        self.at = Position()
        self.meter = Meter(world.device)
        self.damage = Damage(self.reader.index, recipe.loader.reader.most_corrupt)
        self.record = Record("", recipe.name, recipe.settings(), self.reader.index.digest)
        self._resume()

    def _resume(self) -> None:
        """Take over the newest whole checkpoint of this output, and the tracking run that it belongs to."""
        before = Record.read(self.where.output)
        found = self.checkpoints.latest()
        progress = None if found is None else found[1]
        accept = self.where.accept_changes
        check_same_run(self.where.output, before, self.record, progress, self.recipe.digest(), accept)
        if found is not None and progress is not None:
            tensors = found[0]
            from_tensors(tensors, self.trainer.objective, self.trainer.optimizer)
            self.meter.from_tensors({k.removeprefix(_METER): v for k, v in tensors.items() if k.startswith(_METER)})
            self.damage.from_tensor(tensors[_DAMAGE])
            self.at = Position(progress.step, progress.epoch, progress.consumed, progress.progress)
        run_id = before.run_id if before else progress.run_id if progress else ""
        self.record = replace(self.record, run_id=run_id)

    def run(self) -> None:
        """Train to the end and export the encoder."""
        run = self._open_run()
        status: Status | None = "FAILED"
        try:
            self._say(
                f"pretraining by {self.recipe.name} on {len(self.reader)} images: {self.total // self.per_epoch} "
                f"epochs, step {self.at.step} of {self.total // self.recipe.training.batch}"
            )
            with Display(self.total, self.at.progress, show=self.world.rank == 0) as display:
                finished = self._train(run, display)
            status = "FINISHED" if finished else None
            if finished:
                self._export(run)
            else:
                self._say(f"asked to leave: saved at step {self.at.step}; the same command goes on from there")
        except KeyboardInterrupt:
            status = "KILLED"
            raise
        finally:
            run.close(status)
        if not finished:
            raise SystemExit(EVICTED)

    def _train(self, run: Run, display: Display) -> bool:
        """Take steps until the end; return False if asked to leave before."""
        training, world, at = self.recipe.training, self.world, self.at
        if at.progress >= self.total:
            return True
        batches = self._batches(at.epoch, at.consumed, training.epochs)
        history = History(self.where.output, at.step, write=world.rank == 0)
        review = Review(self.reader, self.trainer.objective, run, show=world.rank == 0)
        pace, system = Pace(), SystemMetrics()
        while at.progress < self.total:
            clock = Clock(training.seed, at.epoch, at.step, at.progress, self.total)
            if at.consumed == 0:
                self.trainer.objective.method.begin_epoch(clock, partial(self._views, clock))
            with pace.waiting():
                raws = list(islice(batches, training.accumulate))
            report = self.trainer.step(raws, clock, self.stop.raised)
            self._check(report, raws)
            self._advance()
            pace.samples += training.batch
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
                    **pace.report(),
                    "epoch": at.progress / self.per_epoch,
                }
                # The machine's figures go to the tracking alone: the history holds what a repeated run repeats.
                run.log_metrics(metrics | system.sample(), at.progress)
                history.add({"step": at.step, "samples": at.progress, **metrics})
            if at.step % training.checkpoint_steps == 0 or finished or report.stop:
                with pace.saved():
                    self._save()
            if report.stop and not finished:
                return False
        review.finish(history)
        return True

    def _batches(self, epoch: int, consumed: int, epochs: int) -> Iterator[RawBatch]:
        """Yield this rank's shares from a place in an epoch on, until `epochs` are over."""
        recipe, training = self.recipe, self.recipe.training
        place = Place(
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
        dataset = ShareDataset(self.reader, self.trainer.objective.plan, place, canvas, epochs)
        return load(recipe.loader, dataset, self.world.device)

    def _views(self, clock: Clock) -> Iterator[Batch]:
        """Iterate over this rank's shares of an epoch, for a method that looks at all images before it begins."""
        for raw in self._batches(clock.epoch, 0, clock.epoch + 1):
            yield to_batch(raw, self.trainer.objective, clock, self.recipe.training.group, self.world.device)

    def _check(self, report: StepReport, raws: list[RawBatch]) -> None:
        """Stop on a loss that is no number, and where too much of the dataset is corrupt."""
        if not report.taken:
            path = dump(self.where.output, report.losses, self.reader, self.world.rank)
            self.trainer.synchronise()
            refuse(self.at.step, path, self.where.output)
        self.damage.substituted += report.substituted
        if report.corrupt:
            self.damage.add({i: reason for raw in raws for i, reason in raw.bad.items()}, self.world.device)

    def _advance(self) -> None:
        """Move one global batch on; the samples at an epoch's end that fill no batch are left out."""
        at, batch = self.at, self.recipe.training.batch
        at.step += 1
        at.progress += batch
        at.consumed += batch
        if at.consumed >= self.per_epoch:
            at.epoch, at.consumed = at.epoch + 1, 0

    def _save(self) -> None:
        """Save everything, unless the weights are spoilt: the checkpoint before is worth more then."""
        at = self.at
        spoilt = first_not_finite(self.trainer.objective)
        if spoilt is not None:
            refuse_weights(at.step, spoilt)
        progress = Progress(
            at.step,
            at.epoch,
            at.consumed,
            at.progress,
            self.record.run_id,
            self.recipe.digest(),
            self.reader.index.digest,
            self.world.size,
        )
        tensors = to_tensors(self.trainer.objective, self.trainer.optimizer)
        tensors |= {_METER + name: tensor for name, tensor in self.meter.to_tensors().items()}
        tensors[_DAMAGE] = self.damage.to_tensor()
        self.checkpoints.save(tensors, progress)

    def _open_run(self) -> Run:
        index = self.reader.index
        run = Run.start(
            self.recipe.experiment,
            f"{self.recipe.name} on {_dataset_name(index.url)}",
            run_id=self.record.run_id or None,
            tags=tags(index, self.recipe, self.world),
            folder=self.where.project,
            rank=self.world.rank,
        )
        if self.world.rank == 0:
            self.record = replace(self.record, run_id=run.run_id)
            self.record.write(self.where.output)
            run.log_params(self.recipe)
            run.log_dict(flatten(self.recipe), "recipe.json")
        return run

    def _export(self, run: Run) -> None:
        """Write the encoder beside the checkpoints and log it as a model."""
        if self.world.rank != 0:
            return
        method = self.trainer.objective.method
        augmentation = method.plan().pools[0].augmentation
        encoder = Encoder(
            self.recipe.backbone,
            augmentation.normalisation,
            method.backbone,
            augmentation.size,
            {
                "run_id": run.run_id,
                "samples": self.at.progress,
                "recipe": self.recipe.name,
                "data": self.reader.index.digest,
            },
        )
        save(encoder, f"{self.where.output}/encoder")
        run.log_encoder(encoder, step=self.at.progress)
        self._say(f"the encoder is in {self.where.output}/encoder")

    def _say(self, text: str) -> None:
        if self.world.rank == 0:
            print(text, file=sys.stderr, flush=True)


def _dataset_name(url: str) -> str:
    """Return the last part of an address that says which dataset it is, not which part of it."""
    parts = [part for part in url.split("/") if part]
    return parts[-2] if parts[-1] == "train" and len(parts) > 1 else parts[-1]


def _too_small(samples: int, length: int, batch: int, unit: int) -> str:
    most = length // unit * unit
    lower = (
        f"lower --training.batch to at most {most}, or" if most else "lower --training.batch and --training.group, or"
    )
    return f"The dataset has {samples} samples, fewer than one global batch of {batch}: {lower} pack more images."
