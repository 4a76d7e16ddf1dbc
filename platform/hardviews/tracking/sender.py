"""Sends the lines of a run's spool in order: metrics, parameters, tags, inputs, the end. Files: `file_sender.py`.

Every life of a job, so each process that writes the run between two restarts, has a sender of its own. The sender reads
the present content from the server, at first contact and whenever an answer may have been lost, and leaves it out. So a
report may be sent by any life, and several times.
"""

import json
import logging
import threading
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from hardviews.failures import Needs
from hardviews.tracking.failures import MissingRun, diagnose, is_refused
from hardviews.tracking.image_files import LOGGED_TABLES
from hardviews.tracking.inputs import send_inputs
from hardviews.tracking.job import WRITER
from hardviews.tracking.journal import Record
from hardviews.tracking.logged_model import record_model
from hardviews.tracking.notes import send_section
from hardviews.tracking.other_run import send_to_other
from hardviews.tracking.scrub import scrub
from hardviews.tracking.server import Server
from hardviews.tracking.spool import Blocked, Rejected

if TYPE_CHECKING:
    from mlflow.entities import Run as MlflowRun

logger = logging.getLogger(__name__)

# Metrics in one request (MLflow's own limit is 1000).
_METRICS_AT_ONCE = 900
_PARAMS_AT_ONCE = 100
ENDED = "-"  # in place of the writing life, once it has left and all its lines have arrived
# Tag: lost records.
LOST = "hardviews.lost"
_LONGEST_NOTE = 2000
# Tag: time of the last write of the run, as UTC; and seconds between two writes of the tag.
ALIVE, BEAT = "hardviews.alive", 60.0
TIME = "%Y-%m-%dT%H:%M:%SZ"
# Seconds without contact after which another life may have taken over.
_STALE = 10.0
# Seconds in which a server that was stuck finishes abandoned requests.
_SETTLE = 1.0


class Away(Exception):
    """The server does not answer, or answers wrongly for now; the message is the reason."""


class LineSender:
    """Sends lines to a run: each metric's steps only grow, and nothing is stored twice.

    `life` sorts after the lives before it. A new run (`fresh`) is empty; the content of other runs is read from the
    server. With `reopen` the run goes on, so it is RUNNING again; otherwise only leftovers of an ended life are sent.
    """

    def __init__(self, server: Server, run_id: str, life: str, fresh: bool, reopen: bool = True) -> None:
        self._server, self._run_id, self._life = server, run_id, life
        # Content of the server: the last step of each metric, and the parameters; None if it must be read.
        self._steps: dict[str, int] | None = {} if fresh else None
        self._params: dict[str, str] = {}
        self._models: dict[str, str | None] = {}  # ids by digest
        self._begun = fresh
        self._reopen = reopen
        self._ended = False
        # Time at which the tag was last written.
        self._beat = time.monotonic() if fresh else -BEAT
        self._superseded = False
        self._contact = time.monotonic()
        # Whether an earlier request may still be under way.
        self._unsettled = False
        # Samples of the reports that the server lacked, and their number in the tag; the text of the tag before this
        # life, and other losses in this life.
        self._replayed: set[int] = set()
        self._told, self._lost = 0, ""
        self._notes: list[str] = []
        # Set after the first attempt, with any result.
        self.tried = threading.Event()
        self.missing: MissingRun | None = None
        if fresh:
            self.tried.set()

    def known(self) -> Mapping[str, int] | None:
        """Return the last step of each metric in the server; None before it was read."""
        steps = self._steps
        return None if steps is None else dict(steps)

    def __call__(self, records: Sequence[Record]) -> None:
        """Send records.

        Raises:
            Rejected: one is refused for good.
            Away: there is no server for now.
            Blocked: somebody must act first.
        """
        try:
            if self._steps is None or (records and time.monotonic() - self._contact > _STALE):
                self._ask()
            if not self._superseded:
                self._send(records)
                self._say_alive()
            self._contact = time.monotonic()
        except Rejected:
            self._steps = None
            raise
        except MissingRun as error:
            # It may be restored, and the record of a long training must not be lost.
            self.missing, self._steps = error, None
            raise Blocked(str(error)) from error
        except Exception as error:
            self._steps = None
            remedy = diagnose(error, self._server.uri)
            if remedy.needs is Needs.TIME:
                self._unsettled = True
                raise Away(remedy.words) from error
            if is_refused(error) and records:
                raise Rejected(remedy.words) from error
            raise Blocked(f"{scrub(self._server.uri)} takes nothing: {remedy.words}") from error
        finally:
            self.tried.set()

    def _ask(self) -> None:
        """Read the content of the server, and claim the run at first contact."""
        run = self._server.find(self._run_id)
        writer = run.data.tags.get(WRITER, ENDED)
        if writer > self._life:
            self._superseded = True
            logger.warning("tracking: another process has taken over run %s; this one stops writing", self._run_id)
        self._take(run)
        if self._superseded:
            return
        if self._server.remote and (self._unsettled or (not self._begun and writer != ENDED)):
            self.tried.set()
            time.sleep(_SETTLE)
            self._take(self._server.find(self._run_id))
        self._unsettled = False
        if self._reopen:
            # The tag first: an earlier life that leaves reads it before it writes its end.
            if writer != self._life:
                self._server.client.set_tag(self._run_id, WRITER, self._life)
            if not self._begun and run.info.status != "RUNNING":
                self._server.client.update_run(self._run_id, status="RUNNING")
        self._begun = True

    def _say_alive(self) -> None:
        """Write the time of the last report now and then: a run that is silent for long has ended.

        If the run was closed meanwhile, by mistake or late by an earlier life, it is RUNNING again.
        """
        if not self._reopen or self._ended or time.monotonic() - self._beat < BEAT:
            return
        client = self._server.client
        client.set_tag(self._run_id, ALIVE, time.strftime(TIME, time.gmtime()))
        if client.get_run(self._run_id).info.status != "RUNNING":
            client.update_run(self._run_id, status="RUNNING")
        self._beat = time.monotonic()

    def _take(self, run: "MlflowRun") -> None:
        self.missing = None
        # The public `metrics` has values only; the entities behind it have the steps.
        entities = getattr(run.data, "_metric_objs", [])
        self._steps = {metric.key: metric.step for metric in entities}
        self._params = dict(run.data.params)
        if not self._begun:
            self._lost = run.data.tags.get(LOST, "")

    def _send(self, records: Sequence[Record]) -> None:
        """Send records in order; neighbouring metrics are sent in one request."""
        from mlflow.entities import Metric

        metrics: list[Any] = []
        for record in records:
            kind, rows = record["kind"], None
            if kind == "metrics":
                rows = [(record["step"], record["values"])]
            elif kind == "replay":
                rows = record["rows"]
            about = self._about(record)
            if rows is None:
                self._send_metrics(metrics)
                self._send_other(record)
                continue
            for step, values in rows:
                new = self._new(step, values)
                metrics += [Metric(key, value, record["time"], step, **about) for key, value in new.items()]
                if kind == "replay" and new:
                    self._replayed.add(step)
                if len(metrics) >= _METRICS_AT_ONCE:
                    self._send_metrics(metrics)
        self._send_metrics(metrics)
        self._tell_replayed()

    def _about(self, record: Record) -> dict[str, str]:
        """Return the model and the data set of metrics, as MLflow's arguments; make a record of the model."""
        about: dict[str, str] = {}
        if "dataset" in record:
            about["dataset_name"], about["dataset_digest"] = record["dataset"]
        if "model" in record:
            model = record["model"]
            if model["digest"] not in self._models:
                self._models[model["digest"]] = record_model(self._server.client, self._run_id, model)
            if (found := self._models[model["digest"]]) is not None:
                about["model_id"] = found
        return about

    def _send_table(self, path: str) -> None:
        """Add a table to the list that MLflow's pages read."""
        listed = json.loads(self._server.client.get_run(self._run_id).data.tags.get(LOGGED_TABLES, "[]"))
        entry = {"path": path, "type": "table"}
        if entry not in listed:
            self._send_tags({LOGGED_TABLES: json.dumps([*listed, entry])})

    def _new(self, step: int, values: Mapping[str, float]) -> dict[str, float]:
        """Return the metrics whose step the server has not reached, and count them as sent."""
        steps = self._steps
        assert steps is not None
        new = {key: value for key, value in values.items() if step > steps.get(key, -1)}
        steps.update(dict.fromkeys(new, step))
        return new

    def _send_metrics(self, metrics: list[Any]) -> None:
        while metrics:
            self._server.client.log_batch(self._run_id, metrics=metrics[:_METRICS_AT_ONCE])
            del metrics[:_METRICS_AT_ONCE]

    def _send_other(self, record: Record) -> None:
        client, kind = self._server.client, record["kind"]
        if kind == "inputs":
            send_inputs(client, self._run_id, record)
        elif kind == "section":
            send_section(client, self._run_id, record["title"], record["body"], record["first"])
        elif kind == "table":
            self._send_table(record["path"])
        elif kind == "other":
            send_to_other(client, record)
        elif kind == "params":
            self._send_params(record["values"])
        elif kind == "tags":
            self._send_tags(record["values"])
        elif kind == "lost":
            if record["text"] not in (self._notes or [self._lost])[-1]:
                self._notes.append(record["text"])
            self._write_lost()
        elif kind == "end":
            # Another life may have begun while this one left: then the run goes on.
            if client.get_run(self._run_id).data.tags.get(WRITER, ENDED) > self._life:
                self._superseded = True
                return
            self._ended = True
            client.set_tag(self._run_id, WRITER, ENDED)
            if record["status"] is not None:
                client.set_terminated(self._run_id, record["status"], end_time=record["time"])

    def _send_params(self, values: Mapping[str, str]) -> None:
        """Send the parameters that the run lacks: MLflow keeps the first value of each for ever."""
        from mlflow.entities import Param

        changed = {key: value for key, value in values.items() if self._params.get(key, value) != value}
        if changed:
            logger.warning("tracking: the run keeps its first value of %s", ", ".join(sorted(changed)))
            self._send_tags({f"hardviews.resumed.{key}": value for key, value in changed.items()})
        params = [Param(key, value) for key, value in values.items() if key not in self._params]
        for start in range(0, len(params), _PARAMS_AT_ONCE):
            self._server.client.log_batch(self._run_id, params=params[start : start + _PARAMS_AT_ONCE])
        self._params = {**values, **self._params}

    def _send_tags(self, values: Mapping[str, str]) -> None:
        from mlflow.entities import RunTag

        self._server.client.log_batch(self._run_id, tags=[RunTag(key, value) for key, value in values.items()])

    def _tell_replayed(self) -> None:
        """Write in a tag which reports came from a checkpoint because the process that held them was lost."""
        if len(self._replayed) != self._told:
            self._write_lost()
            self._told = len(self._replayed)

    def _write_lost(self) -> None:
        notes = [self._lost]
        if self._replayed:
            notes.append(
                f"the lines of samples {min(self._replayed)} to {max(self._replayed)} were lost with their process "
                f"before they were sent: {len(self._replayed)} reports came again from the checkpoint, without system "
                "metrics"
            )
        notes += self._notes
        self._send_tags({LOST: "; ".join(note for note in notes if note)[-_LONGEST_NOTE:]})
