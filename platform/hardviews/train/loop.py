"""The pretraining job: check, resume, train, save, export.

    torchx run -s local_cwd jobs/pretrain.py          two processes on this machine
    hardviews pretrain digits --data D --output O     one process

Everything a user can get wrong is checked before anything is written.
"""

import json
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice
from pathlib import Path

from hardviews.batch import Batch, Clock
from hardviews.data.index import Index
from hardviews.data.reader import Counters, Reader
from hardviews.data.shares import check_sizes
from hardviews.errors import UserError
from hardviews.models.encoder import Encoder, save
from hardviews.recipes.recipe import Recipe
from hardviews.tracking.params import flatten
from hardviews.tracking.run import Run
from hardviews.train.checkpoint import Checkpoints, Progress
from hardviews.train.display import Display
from hardviews.train.history import History
from hardviews.train.loader import Place, ShareDataset, load, to_batch
from hardviews.train.meter import Meter
from hardviews.train.nonfinite import dump, refuse
from hardviews.train.provenance import tags
from hardviews.train.review import Review
from hardviews.train.state import from_tensors, to_tensors
from hardviews.train.stop import StopFlag
from hardviews.train.trainer import Trainer
from hardviews.train.world import World, joined

EVICTED = 75  # exit code (EX_TEMPFAIL): saved and left on request; start again to go on


@dataclass
class Position:
    """Where the run stands: all that must be right for a resume."""

    step: int = 0
    epoch: int = 0
    consumed: int = 0
    progress: int = 0


def pretrain(recipe: Recipe, data: str, output: str, project: str = ".hardviews") -> None:
    """Pretrain by a recipe on a packed dataset, from the last checkpoint in `output` if there is one.

    Raises:
        UserError: anything that the user can mend; nothing was written then, or the run goes on from its last
        checkpoint. SystemExit: with EVICTED, after SIGTERM and a save.
    """
    with joined(recipe.precision) as world, StopFlag().listening() as stop:
        _Pretraining(recipe, data, output, project, world, stop).run()


class _Pretraining:
    def __init__(self, recipe: Recipe, data: str, output: str, project: str, world: World, stop: StopFlag) -> None:
        self.recipe, self.output, self.project, self.world, self.stop = recipe, output, project, world, stop
        training = recipe.training
        if training.epochs < 1 or training.log_steps < 1 or training.checkpoint_steps < 1:
            raise UserError("training.epochs, training.log_steps and training.checkpoint_steps must be 1 or more.")
        check_sizes(training.batch, training.group, training.accumulate, world.size)
        self.reader = Reader(open_dataset(data), recipe.loader.reader)
        self.reader.check()
        check_writable(output)
        length = self.reader.order(training.seed, 0, training.batch, training.group).length
        self.per_epoch = length // training.batch * training.batch
        if self.per_epoch == 0:
            raise UserError(
                f"The dataset has {len(self.reader)} samples, fewer than one global batch of {training.batch}. "
                f"Lower --training.batch to at most {max(training.group, length // training.group * training.group)}, "
                "or pack more images."
            )
        self.total = self.per_epoch * training.epochs
        self.trainer = Trainer(recipe, world)
        self.checkpoints = Checkpoints(output, training.keep)
        self.at = Position()
        self.run_id: str | None = None
        self._resume()

    def _resume(self) -> None:
        """Take over the newest whole checkpoint of this output, and the tracking run that it belongs to."""
        record = Path(self.output) / "run.json"
        if record.exists():
            self.run_id = json.loads(record.read_text())["run_id"]
        found = self.checkpoints.latest()
        if found is None:
            return
        tensors, progress = found
        for what, theirs, ours in (
            ("recipe", progress.recipe, self.recipe.digest()),
            ("dataset", progress.dataset, self.reader.index.digest),
        ):
            if theirs != ours:
                raise UserError(
                    f"{self.output} holds a run with another {what} ({theirs[:12]}, now {ours[:12]}). To continue it, "
                    f"use the {what} it was begun with; to begin anew, give another --output."
                )
        from_tensors(tensors, self.trainer.objective, self.trainer.optimizer)
        self.at = Position(progress.step, progress.epoch, progress.consumed, progress.progress)
        self.run_id = progress.run_id or self.run_id

    def run(self) -> None:
        """Train to the end and export the encoder."""
        run = self._open_run()
        status: str | None = "FAILED"
        try:
            with Display(self.total, self.at.progress, show=self.world.rank == 0) as display:
                finished = self._train(run, display)
            status = "FINISHED" if finished else None
            if finished:
                self._export(run)
        except KeyboardInterrupt:
            status = "KILLED"
            raise
        finally:
            run.close(status)  # type: ignore[arg-type]
        if not finished:
            raise SystemExit(EVICTED)

    def _train(self, run: Run, display: Display) -> bool:
        """Take steps until the end; return False if asked to leave before."""
        recipe, training, world, at = self.recipe, self.recipe.training, self.world, self.at
        if at.progress >= self.total:
            return True
        on_device = recipe.loader.on_device(world.device)
        place = Place(
            training.seed,
            at.epoch,
            at.consumed,
            training.batch,
            training.group,
            training.accumulate,
            world.rank,
            world.size,
        )
        canvas = recipe.loader.canvas if on_device else None
        dataset = ShareDataset(self.reader, self.trainer.objective.plan, place, canvas, training.epochs)
        batches = iter(load(recipe.loader, dataset, world.device))
        meter, counters = Meter(world.device), Counters()
        history = History(self.output, at.step, write=world.rank == 0)
        review = Review(self.reader, self.trainer.objective, run, show=world.rank == 0)
        began, waited = time.monotonic(), 0.0
        while at.progress < self.total:
            clock = Clock(training.seed, at.epoch, at.step, at.progress, self.total)
            if at.consumed == 0:
                self.trainer.objective.method.begin_epoch(clock, partial(self._views, clock, place))
            asked = time.monotonic()
            raws = list(islice(batches, training.accumulate))
            waited += time.monotonic() - asked
            report = self.trainer.step(raws, clock, self.stop.raised)
            if not report.taken:
                path = dump(self.output, report.losses, self.reader, world.rank)
                self.trainer.synchronise()
                refuse(at.step, path, self.output)
            self._advance()
            meter.add_losses(report.losses, self.trainer.objective.pairs)
            counters = sum((raw.counters for raw in raws), counters)
            elapsed = time.monotonic() - began
            display.update(at.progress, clock.epoch, report.loss, waited / max(elapsed, 1e-9))
            review.see(report.losses)
            finished = at.progress >= self.total
            if at.step % training.log_steps == 0 or finished:
                metrics = {
                    "loss": report.loss,
                    "learning_rate": report.rate,
                    **meter.report(),
                    "images_per_second": training.log_steps * training.batch / max(elapsed, 1e-9),
                    "data_wait": waited / max(elapsed, 1e-9),
                    "data/corrupt": float(counters.corrupt),
                    "data/substituted": float(counters.substituted),
                    "epoch": at.progress / self.per_epoch,
                }
                run.log_metrics(metrics, at.progress)
                history.add({"step": at.step, "samples": at.progress, **metrics})
                began, waited = time.monotonic(), 0.0
            if at.step % training.checkpoint_steps == 0 or finished or report.stop:
                self._save()
            if report.stop and not finished:
                return False
        review.finish(history)
        return True

    def _views(self, clock: Clock, place: Place) -> Iterator[Batch]:
        """Iterate over this rank's shares of an epoch, for a method that looks at all images before it begins."""
        objective, device, loader = self.trainer.objective, self.world.device, self.recipe.loader
        canvas = loader.canvas if loader.on_device(device) else None
        whole = replace(place, epoch=clock.epoch, consumed=0)
        for raw in load(loader, ShareDataset(self.reader, objective.plan, whole, canvas, clock.epoch + 1), device):
            yield to_batch(raw, objective, clock, self.recipe.training.group, device)

    def _advance(self) -> None:
        """Move one global batch on; the samples at an epoch's end that fill no batch are left out."""
        at, batch = self.at, self.recipe.training.batch
        at.step += 1
        at.progress += batch
        at.consumed += batch
        if at.consumed >= self.per_epoch:
            at.epoch, at.consumed = at.epoch + 1, 0

    def _save(self) -> None:
        at = self.at
        progress = Progress(
            at.step,
            at.epoch,
            at.consumed,
            at.progress,
            self.run_id or "",
            self.recipe.digest(),
            self.reader.index.digest,
            self.world.size,
        )
        self.checkpoints.save(to_tensors(self.trainer.objective, self.trainer.optimizer), progress)

    def _open_run(self) -> Run:
        index = self.reader.index
        run = Run.start(
            self.recipe.experiment,
            f"{self.recipe.name} on {Path(index.url.rstrip('/')).name}",
            run_id=self.run_id,
            tags=tags(index, self.recipe, self.world),
            folder=self.project,
            rank=self.world.rank,
        )
        if self.world.rank == 0:
            self.run_id = run.run_id
            folder = Path(self.output)
            folder.mkdir(parents=True, exist_ok=True)
            temporary = folder / ".run.json"
            temporary.write_text(json.dumps({"run_id": run.run_id, "recipe": self.recipe.name}))
            os.replace(temporary, folder / "run.json")
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
        save(encoder, f"{self.output}/encoder")
        run.log_encoder(encoder, step=self.at.progress)


def open_dataset(data: str) -> Index:
    """Load the index at a URL, or of the `train` dataset in the folder at that URL.

    Raises:
        UserError: neither is a packed dataset.
    """
    inside = f"{data.rstrip('/')}/train"
    if "://" not in data and not Path(data, "index.json").exists() and Path(inside, "index.json").exists():
        return Index.load(inside)
    return Index.load(data)


def check_writable(output: str) -> None:
    """Refuse an output that cannot be written, without leaving anything there.

    Raises:
        UserError: the folder, or the nearest one above that exists, is not writable.
    """
    if "://" in output and not output.startswith("file://"):
        raise UserError(
            f"--output {output} is not a local path; this version keeps checkpoints on a local or shared disk."
        )
    nearest = Path(output).absolute()
    while not nearest.exists():
        nearest = nearest.parent
    if not nearest.is_dir() or not os.access(nearest, os.W_OK):
        raise UserError(
            f"--output {output} cannot be written: {nearest} is not a folder we may write to. Give another one."
        )
