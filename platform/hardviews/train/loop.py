"""The pretraining job: check, take over, train, save, export.

    torchx run -s local_cwd jobs/pretrain.py          two processes on this machine
    hardviews pretrain digits --data D --output O     one process

Every possible mistake of a user is checked before anything is written. The output is a folder, at a path or a URL, with
`run.json`, `checkpoints/`, `lives/`, at the end `encoder/` and `history.jsonl`.

One life of a run, from the top to the bottom of this file (arrows lead into other files):

    pretrain
      nursery, joined, StopFlag      a clean process to fork loader workers from; the ranks; SIGTERM and Ctrl-C
      Pretraining.__init__           every check that needs no step
        await_turn                   -> runs/rival.py: no other job trains the run
        Trainer                      -> trainer.py: network, method, strategy, optimizer
        take_over                    -> runs/checkpoint.py, lasting.py: the newest whole checkpoint, if there is one
      Pretraining.run
        open_run                     -> runs/life.py, opening.py: the life begins; the tracking run
        train, until all samples are seen
          Feed                       -> feed.py, loader.py: shards become this rank's share of a batch
          Trainer.step               -> trainer.py, objective/: views, losses, gradients, optimizer, update
          Lasting.advance            -> lasting.py: one batch on; the ledger
          Monitor.measure            -> monitor.py: k-NN, few-shot and health, now and then; feature_pictures.py draws
          Reports.step               -> reports.py: metrics to the tracking and to the history
          Watch.look                 -> watch.py: the verdict on the run
          Saver.save                 -> runs/saver.py: a checkpoint, written beside the steps
          RunPage.at_checkpoint      -> run_page.py: pictures and verdict, drawn beside the steps
          save_last                  -> farewell.py: at the end, and if asked to leave
        export                       -> export.py: the encoder
        end                          whatever happened: workers, saves, the life's note, the tracking run
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, replace
from functools import partial
from itertools import islice

from hardviews.clock import Calendar, Clock
from hardviews.data.reader import Reader
from hardviews.data.shares import check_sizes
from hardviews.elastic.timeline import mark
from hardviews.elastic.worker import Phase, doing, last_reached, leaving, reached, written
from hardviews.errors import UserError
from hardviews.interrupts import GivenUp, ending, listening
from hardviews.runs.checkpoint import Checkpoints
from hardviews.runs.history import History
from hardviews.runs.life import Displaced, End, LifeNotes, NoLife, Taken
from hardviews.runs.record import Record, check_same_run
from hardviews.runs.rival import await_turn
from hardviews.runs.saver import Saver, State
from hardviews.runs.state import misfit
from hardviews.runs.waiting import Dataset, wait_for
from hardviews.runs.where import Where, open_dataset, patience
from hardviews.tracking.metric_groups import in_groups
from hardviews.tracking.mlflow_run import CLOSING, NullRun, Run, Status
from hardviews.train.choice import ChoiceWatch
from hardviews.train.compilation import COMPILING
from hardviews.train.crew import check_crew
from hardviews.train.damage import Damage
from hardviews.train.display import Display
from hardviews.train.epoch import epoch_samples, left_out
from hardviews.train.export import described, export
from hardviews.train.farewell import grace, save_last
from hardviews.train.feed import Feed
from hardviews.train.idle import idle
from hardviews.train.init import begin_from, open_encoder
from hardviews.train.labels import check_labels
from hardviews.train.lasting import Lasting
from hardviews.train.loader import RawBatch
from hardviews.train.monitor import Monitor
from hardviews.train.nodes import Nodes
from hardviews.train.nonfinite import Diverged, dump, refuse
from hardviews.train.nursery import nursery
from hardviews.train.opening import open_run, report_failure
from hardviews.train.pace import Pace
from hardviews.train.provenance import of_encoder
from hardviews.train.recipe import Recipe
from hardviews.train.reports import Reports
from hardviews.train.review import Review
from hardviews.train.run_page import RunPage, describe
from hardviews.train.stop import StopFlag
from hardviews.train.task import Task
from hardviews.train.traffic import Traffic
from hardviews.train.trainer import StepReport, Trainer
from hardviews.train.watch import Watch
from hardviews.world import World, joined

_HURRY, _LIFE = 1.0, 5.0  # seconds for the note of a life's end, if other processes wait for this one, and if not
_LAST_GOOD = 30.0  # seconds for a save that is under way when a run fails: the next start begins from it
_ALONE = Task()


def pretrain(recipe: Recipe, where: Where) -> None:
    """Pretrain by a recipe on a packed dataset, from the last checkpoint in the output if there is one.

    Raises:
        UserError: a mistake that the user can correct; nothing was written then, or the run goes on from its last
            checkpoint.
        SystemExit: with EVICTED, after SIGTERM and a save.
        KeyboardInterrupt: after Ctrl-C; the steps taken so far are saved.
    """
    wait_for([Dataset(where.data)], where.wait)
    with together(recipe) as (world, stop):
        live(recipe, where, world, stop)


@contextmanager
def together(recipe: Recipe) -> Iterator[tuple[World, StopFlag]]:
    """Join the processes of a job, for one training or several; yield them, and the flag that asks them to leave."""
    # Before anything that a copy must not hold: only the guard's thread runs so far.
    workers = nursery(recipe.loader.worker_count())
    with listening(), workers, joined(recipe.precision.choose_device) as world, StopFlag().listening() as stop:
        mark("joined", world=world.size)
        yield world, stop


def live(recipe: Recipe, where: Where, world: World, stop: StopFlag, task: Task = _ALONE) -> None:
    """Train to the end among processes that have joined; every rank calls this.

    Raises:
        As `pretrain`.
    """
    try:
        life = Pretraining(recipe, where, world, stop, task)
    except UserError:
        if world.leads:
            report_failure(where)
        raise
    life.run()


class Pretraining:
    """One life of a run: checks, takes over, trains, saves and exports."""

    def __init__(self, recipe: Recipe, where: Where, world: World, stop: StopFlag, task: Task = _ALONE) -> None:
        """Check everything that can be checked before a step, and take over the state of an earlier life."""
        self.recipe, self.where, self.world, self.stop, self.task = recipe, where, world, stop, task
        training = recipe.training
        check_sizes(training.batch, training.group, training.accumulate, world.size)
        check_crew(recipe.loader.worker_count())
        grace()  # a mistake in it would end the last save
        if world.leads:
            where.check()
        self.parent = ""  # the tracking run of the encoder that a new run begins from
        self.life = self._take_turn() if world.leads else NoLife()
        index = open_dataset(where.data)
        where.check_apart(index.url)
        self.reader = Reader(index, recipe.loader.reader)
        self.reader.check()
        self.calendar = Calendar(training.seed, training.batch, epoch_samples(self.reader, training), training.epochs)
        self.trainer = Trainer(recipe, world)
        check_labels(self.trainer.objective.method, index)
        self.trainer.objective.method.allocate(len(self.reader))
        self.trainer.objective.method.check_epoch(self.calendar.per_epoch)
        damage = Damage(index, recipe.loader.reader.most_corrupt)
        self.lasting = Lasting(self.trainer, self.calendar, damage)
        self.feed = Feed(recipe, self.reader, self.calendar, self.trainer.objective, world)
        self.checkpoints = Checkpoints(where.output, training.keep)
        encoder = described(recipe, self.trainer, index.classes)
        source = {} if task.tuning is None else asdict(task.tuning.source)
        self.record = Record(
            "", recipe.name, recipe.settings(), index.digest, data=where.data, encoder=encoder, source=source
        )
        self._take_over()
        self.monitor = Monitor(
            recipe.monitor, recipe.backbone, self.trainer.objective, self.reader, self.calendar, world
        )
        if not self.lasting.progress:
            self.monitor.load()

    def _take_turn(self) -> LifeNotes:
        """Wait until no other job trains the run; return the notes of the life that may begin now."""
        newest = await_turn(self.where.output, patience(), lambda: self.stop.raised)
        if self.stop.raised:
            raise self.stop.departure()  # nothing was begun
        return LifeNotes(self.where.output, patience(), lambda: self.stop.raised, after=newest)

    def _take_over(self) -> None:
        """Take over the newest whole checkpoint of this output, and the tracking run that it belongs to."""
        before = Record.read(self.where.output, patience())
        found = self.checkpoints.patient(patience()).latest(self.world.device)
        progress = None if found is None else found.progress
        digest, unfit = self.recipe.digest(), None
        if found is not None and found.progress.recipe != digest:
            unfit = misfit(found.tensors, self.trainer.objective, self.trainer.optimizer)
        check_same_run(self.where.output, before, self.record, progress, digest, unfit, self.where.accept_changes)
        if found is not None:
            self.lasting.take_over(found)
        elif self.where.init is not None:
            opened = self.task.opened
            encoder = opened() if opened else open_encoder(self.where.init, self.where.project)
            begin_from(self.trainer.objective, encoder, self.where.init)
            self.trainer.begin_average()
            self.parent = str(encoder.provenance.get("run_id", ""))
        elif self.recipe.training.frozen_stages >= 0:
            raise UserError(
                "training.frozen_stages keeps weights as they are, and this training begins with random ones. Begin "
                "with an encoder (--init RUN), or leave it at -1."
            )
        every = self.recipe.training.checkpoint_seconds or None
        saved = progress.step if progress else None
        self.saver = Saver(self.checkpoints, every, saved, self.world.leads, self.life.check_newest, self._keep_record)
        mark("restored", step=self.lasting.step)
        run_id = before.run_id if before else progress.run_id if progress else ""
        self.record = replace(self.record, run_id=run_id, key=before.key if before else "")
        self._new = before is None
        if self.world.leads and not self.lasting.over:
            self.checkpoints.check_room(self.lasting.weights())

    def _keep_record(self, patience: float | None) -> None:
        """Make sure that the output still holds the run's record; a save calls this, so it existed."""
        self.record.keep(self.where.output, patience)

    def _begin_life(self) -> None:
        """Write that this life begins; every rank calls this.

        If another job was faster and is over already, all ranks go on from its checkpoint.
        """
        while True:
            taken = False
            try:
                self.life.begin(self.world.size, self.lasting.step, self.task.reached_by(last_reached()))
            except Taken:
                self.life, taken = self._take_turn(), True
            if not self.world.agree(taken):
                return
            self._take_over()

    def _open_run(self) -> Run:
        """Begin this life, unless the training is complete, and open its tracking run."""
        self.where.check_shared(self.world.rank, self.world.size, self.world.device)
        if not self.lasting.over:
            self._begin_life()
        if self.task.trial:
            if self.world.leads:
                self.record.write(self.where.output)
            return NullRun()
        try:
            run, self.record = open_run(
                *(self.record, self._new, self.recipe, self.where, self.reader.index, self.world, self.life.number),
                self.monitor.labelled(),
                self.parent,
                self.task.tuning,
            )
        except UserError:
            self.life.withdraw()
            raise
        except BaseException:
            with ending(_HURRY):
                self.life.close("interrupted", _HURRY)
            raise
        return run

    def run(self) -> None:
        """Train to the end and export the encoder."""
        run = self._open_run()
        self.watch = Watch(run, self.world)
        # In the tracking a life that ended is never RUNNING: the next life sets the run to RUNNING again.
        status: Status | None = "FAILED"
        end: End = "interrupted"
        try:
            finished = self._train(run)
            end = "finished" if finished else "evicted"
            if finished and self.world.leads:
                with doing(Phase.END):
                    self._export(run)
            status = "FINISHED" if finished else "KILLED"
        except KeyboardInterrupt:
            status = "KILLED"
            raise
        except Displaced:
            status, end = None, "failed"  # the tracking run is the other job's now
            raise
        except UserError as error:
            end = "failed"
            if isinstance(error, Diverged):
                self.watch.diverged(error.what)
            raise
        finally:
            with doing(Phase.END):
                self._end(run, status, end)
        if not finished or self.stop.pressed:
            raise self.stop.departure()

    def _end(self, run: Run, status: Status | None, end: End) -> None:
        """Close everything; after an interruption quickly, to make room for the next life."""
        hurried = end == "interrupted"
        # Other processes of the job wait for the end of this one, and need nothing from it any more.
        awaited = hurried or (end == "evicted" and self.world.size > 1)
        # A finished or evicted life has waited for its last save already.
        save = {"interrupted": _HURRY, "failed": _LAST_GOOD}.get(end, 0.0)
        try:
            with ending(save + CLOSING):
                self.feed.close()
                self.saver.close(save)
                self.life.close(end, _HURRY if hurried else _LIFE)
                run.close(status, timeout=_HURRY if awaited else None)
        except GivenUp:
            run.abandon()
            raise

    def _train(self, run: Run) -> bool:
        """Take steps until the end; return False if asked to leave before."""
        training, calendar = self.recipe.training, self.calendar
        self.world.say(
            f"{self.task.kind} by {self.recipe.name} on {len(self.reader)} images: {training.epochs} epochs, step "
            f"{self.lasting.step} of {calendar.step(calendar.total)}"
        )
        for sentence in idle(self.trainer.objective, training, calendar):
            self.world.say(sentence)
        if training.compile and not self.lasting.over:
            self.world.say(COMPILING)
        if not self.lasting.progress and (remark := left_out(self.reader, training, self.world.size)):
            self.world.say(remark)  # later lives keep the batch of the run
        history = History(self.where.output, self.lasting.history, write=self.world.leads)
        if history.rows:
            run.replay(map(in_groups, history.rows))
        review = Review(
            *(self.reader, self.trainer.objective, run, self.world.leads and not self.task.trial),
            *(calendar.total, self.lasting.progress),
        )
        described = describe(run, self.recipe, self.where, self.reader.index, calendar.total, self.task.tuning)
        page = RunPage(review, described, history)
        page.begin(self.lasting.progress)
        if not self.lasting.over:
            with self.stop.saving(), Display(calendar.total, self.lasting.progress, self.world.leads) as display:
                if not self._steps(run, history, page, display):
                    page.leave(self.lasting.progress)
                    return False
            with doing(Phase.END):
                history.publish()
        self.watch.finish(history.rows)
        with doing(Phase.END):
            page.finish()
        return True

    def _steps(self, run: Run, history: History, page: RunPage, display: Display) -> bool:
        """Take the remaining steps; return False if asked to leave before the last one."""
        training, lasting = self.recipe.training, self.lasting
        pace, traffic = Pace(), Traffic(self.reader.index.url, history.rows, self.world.device)
        nodes = Nodes(
            lasting.meter,
            training.batch / training.accumulate / self.world.size,
            self.trainer.backward_seconds,
            lambda: pace.wait,
        )
        measured = [nodes.report, lasting.damage.metrics, traffic.report, pace.report]
        sources = [*measured, self.saver.metrics, self._job]
        reports = Reports(run, history, self.calendar, training.log_steps, sources, nodes.metrics)
        choice = ChoiceWatch(self.trainer.objective, self.world, history.rows)
        batches, first = self.feed.run(lasting.progress), lasting.step + 1
        if not lasting.progress:
            reports.measured(self._measured(pace, page), 0)
        while True:
            clock = self.calendar.at(lasting.progress)
            self._begin_epoch(clock)
            with pace.waiting(), doing(Phase.DATA):
                raws = list(islice(batches, training.accumulate))
            report = self.trainer.step(raws, clock, self._leaves(), self.saver.due())
            self._check(report, raws)
            lasting.advance(report, self.life.number)
            step = lasting.step
            self.life.reached(step)
            # If others end without notice now, the surviving processes know how many steps will be run again.
            reached(self.task.before + step, training.batch)
            mark("first_step" if step == first else "step", step=step)
            pace.samples += training.batch
            traffic.add(raws)
            lasting.meter.add_losses(report.losses, self.trainer.objective.pairs)
            display.update(lasting.progress, clock.epoch, report.loss, pace.wait)
            page.see(report.losses)
            reports.step(report, lasting.progress, self._measured(pace, page))
            self.watch.look(history.rows)
            choice.look(history.rows)
            if lasting.over or report.stop:
                mark("stop_agreed", step=step, finished=lasting.over)
                goes_on = self.task.trial and not report.stop
                with nullcontext() if goes_on else leaving(), doing(Phase.SAVE):
                    save_last(self.saver, self._state(history), self.trainer, self.life, lasting.over)
                if not lasting.over and not self.saver.busy:
                    written()
                return lasting.over
            if report.due or (training.checkpoint_steps and step % training.checkpoint_steps == 0):
                with pace.saved():
                    self.saver.save(self._state(history))
                page.at_checkpoint(lasting.progress)

    def _measured(self, pace: Pace, page: RunPage) -> Mapping[str, float]:
        """Return the measurements of the representation after this step, if there are any."""
        if not self.monitor.due(self.lasting.step):
            return {}
        look = page.at_measurement(self.lasting.progress, self.monitor.every * self.recipe.training.batch)
        with pace.measured():
            return self.monitor.measure(look)

    def _begin_epoch(self, clock: Clock) -> None:
        """Let the method prepare an epoch before its first step."""
        if self.calendar.consumed(clock.progress) == 0:
            with doing(Phase.EPOCH), self.recipe.precision.autocast(self.world.device):
                self.trainer.objective.method.begin_epoch(clock, partial(self.feed.epoch, clock))

    def _leaves(self) -> bool:
        """Return whether this process asks all ranks to stop after the next step."""
        return self.stop.raised or self.saver.superseded or self.life.displaced is not None

    def _job(self) -> dict[str, float]:
        """Return the number of restarts of the job, and the number of processes that train together."""
        return {"restarts": float(self.life.number - 1), "world_size": float(self.world.size)}

    def _check(self, report: StepReport, raws: list[RawBatch]) -> None:
        """Stop on a loss that is not a number, and if too much of the dataset is corrupt."""
        if not report.taken:
            path = dump(self.where.output, report.traces, report.losses.batch.clock, self.reader, self.world.rank)
            self.trainer.synchronise()
            refuse(self.lasting.step, path, self.where.output)
        damage = self.lasting.damage
        damage.substituted += report.substituted
        if report.corrupt:
            damage.add({i: reason for raw in raws for i, reason in raw.bad.items()}, self.world.device)

    def _state(self, history: History) -> State:
        return self.lasting.state(history, self.record, self.recipe.digest(), self.life)

    def _export(self, run: Run) -> None:
        index, training = self.reader.index, self.record.training
        provenance = of_encoder(run.run_id, self.lasting.progress, self.recipe, index, training)
        folder = export(self.recipe, self.trainer, index.classes, self.where.output, run, provenance)
        if not self.task.trial:
            self.world.say(f"the encoder is in {folder}")
