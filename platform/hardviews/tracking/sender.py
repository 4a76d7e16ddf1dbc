"""Sends what a run's spools hold: lines (metrics, parameters, tags, the end) and files, each in order.

Every life of a job (a process that writes the run, between two restarts) has a sender of its own. What the server has
already is asked of the server, at first contact and whenever an answer may have been lost, and is left out here. So it
does not matter which life sends a report, or how often.
"""

from __future__ import annotations

import logging
import os
import shutil
import threading
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from hardviews.tracking.errors import MissingRun, explain, is_final
from hardviews.tracking.server import Server
from hardviews.tracking.spool import Record, Rejected

if TYPE_CHECKING:
    from mlflow.entities import Run as MlflowRun

logger = logging.getLogger(__name__)

# Metrics in one request (MLflow's own limit is 1000).
_METRICS_AT_ONCE = 900
_PARAMS_AT_ONCE = 100
# Tag: the life that writes, ENDED once it has left and all its lines are there.
WRITER, ENDED = "hardviews.writer", "-"
# Tag: what cannot be had any more.
LOST = "hardviews.lost"
_LONGEST_NOTE = 2000
# Seconds without contact after which another life may have taken over.
_STALE = 10.0
# Seconds in which a server that was stuck works off the requests of those that gave up on it.
_SETTLE = 1.0


class Away(Exception):
    """The server does not answer, or not as it should for now; the message says why."""


class LineSender:
    """Brings lines to a run: each metric's steps only grow, and nothing is there twice.

    life: sorts after the lives before it. A new run (`fresh`) holds nothing yet; for any other the server is asked.
    """

    def __init__(self, server: Server, run_id: str, life: str, fresh: bool) -> None:
        self._server, self._run_id, self._life = server, run_id, life
        # What the server holds: the last step of each metric, and the parameters; None where it has to be asked.
        self._steps: dict[str, int] | None = {} if fresh else None
        self._params: dict[str, str] = {}
        self._begun = fresh
        self._superseded = False
        self._contact = time.monotonic()
        # Whether an earlier request may still be under way.
        self._unsettled = False
        # Samples of the reports that the server lacked; how many the tag tells of, after what it said before.
        self._replayed: set[int] = set()
        self._told, self._lost = 0, ""
        # Set after the first attempt, whatever came of it.
        self.tried = threading.Event()
        self.missing: MissingRun | None = None
        if fresh:
            self.tried.set()

    def known(self) -> Mapping[str, int] | None:
        """The last step of each metric in the server; None before it was asked."""
        steps = self._steps
        return None if steps is None else dict(steps)

    def __call__(self, records: Sequence[Record]) -> None:
        """Send records; raises Rejected for one that is refused for good, Away while there is no server."""
        try:
            if self._steps is None or (records and time.monotonic() - self._contact > _STALE):
                self._ask()
            if not self._superseded:
                self._send(records)
            self._contact = time.monotonic()
        except MissingRun as error:
            # It may be restored, and nobody wants to lose a long training's record.
            self.missing, self._steps = error, None
            raise Away(str(error)) from error
        except Exception as error:
            self._steps = None
            if is_final(error):
                raise Rejected(str(error)) from error
            self._unsettled = True
            raise Away(explain(self._server.uri, error)) from error
        finally:
            self.tried.set()

    def _ask(self) -> None:
        """Learn what the server holds, and claim the run at first contact."""
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
        if not self._begun and run.info.status != "RUNNING":
            self._server.client.update_run(self._run_id, status="RUNNING")
        if writer != self._life:
            self._server.client.set_tag(self._run_id, WRITER, self._life)
        self._begun = True

    def _take(self, run: MlflowRun) -> None:
        self.missing = None
        # The public `metrics` has values only; the entities behind it have the steps.
        entities = getattr(run.data, "_metric_objs", [])
        self._steps = {metric.key: metric.step for metric in entities}
        self._params = dict(run.data.params)
        if not self._begun:
            self._lost = run.data.tags.get(LOST, "")

    def _send(self, records: Sequence[Record]) -> None:
        """Send records in order; neighbouring metrics travel in one request."""
        from mlflow.entities import Metric

        metrics: list[Any] = []
        for record in records:
            kind, rows = record["kind"], None
            if kind == "metrics":
                rows = [(record["step"], record["values"])]
            elif kind == "replay":
                rows = record["rows"]
            if rows is None:
                self._send_metrics(metrics)
                self._send_other(record)
                continue
            for step, values in rows:
                new = self._new(step, values)
                metrics += [Metric(key, value, record["time"], step) for key, value in new.items()]
                if kind == "replay" and new:
                    self._replayed.add(step)
                if len(metrics) >= _METRICS_AT_ONCE:
                    self._send_metrics(metrics)
        self._send_metrics(metrics)
        self._tell_replayed()

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
        if kind == "params":
            self._send_params(record["values"])
        elif kind == "tags":
            self._send_tags(record["values"])
        elif kind == "end":
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
        """Say in a tag which reports came from a checkpoint because the process that held them was lost."""
        count = len(self._replayed)
        if count == self._told:
            return
        note = (
            f"the lines of samples {min(self._replayed)} to {max(self._replayed)} were lost with their process before "
            f"they were sent: {count} reports came again from the checkpoint, without system metrics"
        )
        self._send_tags({LOST: (f"{self._lost}; {note}" if self._lost else note)[-_LONGEST_NOTE:]})
        self._told = count


class FileSender:
    """Brings files and models to a run. What was sent is removed, so what is not there was sent."""

    def __init__(self, server: Server, run_id: str) -> None:
        self._server, self._run_id = server, run_id

    def __call__(self, records: Sequence[Record]) -> None:
        """Send records; raises Rejected for one that is refused for good, Away while there is no server."""
        for record in records:
            source = record["source"]
            if not os.path.isdir(source):
                continue
            try:
                if record["kind"] == "model":
                    self._send_model(record)
                else:
                    self._server.client.log_artifacts(self._run_id, source)
            except Exception as error:
                if isinstance(error, PermissionError) and self._server.remote:
                    # A store without proxied artifacts names a folder of its own machine.
                    raise Rejected(f"{error}: start the server with `mlflow server --serve-artifacts`") from error
                if is_final(error):
                    raise Rejected(str(error)) from error
                raise Away(explain(self._server.uri, error)) from error
            shutil.rmtree(source, ignore_errors=True)

    def _send_model(self, record: Record) -> None:
        """Register the folder as a logged model of the run; sending it again finds the one begun before."""
        from mlflow.entities import LoggedModelOutput, LoggedModelStatus

        client = self._server.client
        run = client.get_run(self._run_id)
        mine = f"source_run_id = '{self._run_id}' AND name = '{record['name']}'"
        begun = client.search_logged_models([run.info.experiment_id], filter_string=mine)
        model = next((model for model in begun if model.tags.get("digest") == record["digest"]), None)
        if model is not None and model.status == LoggedModelStatus.READY:
            return
        if model is None:
            model = client.create_logged_model(
                run.info.experiment_id,
                name=record["name"],
                source_run_id=self._run_id,
                tags={"digest": record["digest"]},
                model_type="hardviews encoder",
            )
        client.log_model_artifacts(model.model_id, record["source"])
        client.log_outputs(self._run_id, [LoggedModelOutput(model.model_id, record["step"])])
        client.set_tag(self._run_id, "hardviews.encoder", record["digest"])
        client.finalize_logged_model(model.model_id, LoggedModelStatus.READY)
