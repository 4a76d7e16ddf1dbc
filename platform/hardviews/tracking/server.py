"""Talks to MLflow: opens a run and sends spooled records to it."""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hardviews.errors import UserError
from hardviews.tracking.scrub import scrub, scrub_item
from hardviews.tracking.spool import Record, Rejected

if TYPE_CHECKING:
    from mlflow.entities import Experiment
    from mlflow.entities import Run as MlflowRun
    from mlflow.tracking import MlflowClient

# Answers that sending the same record again will not change. Anything else may be a server that is away.
_FINAL = {
    "INVALID_PARAMETER_VALUE",
    "BAD_REQUEST",
    "RESOURCE_DOES_NOT_EXIST",
    "INVALID_STATE",
    "MALFORMED_REQUEST",
}
# Opens the experiment in the part of MLflow's pages that is about training, not about language models.
_KIND = {"mlflow.experimentKind": "custom_model_development"}
# Metrics in one request (MLflow's own limit is 1000).
_METRICS_AT_ONCE = 900
# MLflow's own defaults retry for minutes inside a call; the spool retries outside.
_DEFAULTS = {
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "30",
    # A training job reports to its owner's server, not to MLflow's authors.
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
}


class MissingRun(UserError):
    """The tracking store does not know the run."""


class Server:
    """An MLflow tracking store: a server by URL, or SQLite in the project's folder."""

    def __init__(self, uri: str, client: MlflowClient, folder: Path | None) -> None:
        self.uri = uri
        self._client = client
        self._folder = folder

    @staticmethod
    def connect(uri: str | None, folder: Path) -> Server:
        """Return the store at `uri`, else at MLFLOW_TRACKING_URI, else SQLite in `folder`."""
        for name, value in _DEFAULTS.items():
            os.environ.setdefault(name, value)
        from mlflow.tracking import MlflowClient  # takes seconds, and only the writing rank needs it

        # How MLflow creates its tables is of no interest to the user.
        logging.getLogger("mlflow.store.db.utils").setLevel(logging.WARNING)
        logging.getLogger("alembic").setLevel(logging.WARNING)
        given = uri or os.environ.get("MLFLOW_TRACKING_URI")
        if given is None:
            folder.mkdir(parents=True, exist_ok=True)
        chosen = given or default_uri(folder)
        try:
            client = MlflowClient(chosen)
        except Exception as error:
            raise UserError(_unreachable(chosen, error)) from error
        return Server(chosen, client, folder if given is None else None)

    def create_run(self, experiment: str, name: str, parent: str | None, tags: dict[str, str]) -> str:
        """Make a run (in its parent's experiment, where it has one) and return its id."""
        try:
            if parent is None:
                experiment_id = self._experiment(experiment)
            else:
                experiment_id = self._find(parent).info.experiment_id
                tags["mlflow.parentRunId"] = parent
            tags = {key: scrub_item(key, str(value)) for key, value in tags.items()}
            return str(self._client.create_run(experiment_id, tags=tags, run_name=name).info.run_id)
        except UserError:
            raise
        except Exception as error:
            raise UserError(_unreachable(self.uri, error)) from error

    def resume_run(self, run_id: str) -> tuple[Mapping[str, int], Mapping[str, str]]:
        """Set a run to RUNNING; return the last step of each of its metrics, and its parameters.

        Returns nothing where the server is away. Raises UserError where it is there and does not know the
        run.
        """
        try:
            run = self._find(run_id)
            self._client.update_run(run_id, status="RUNNING")
        except MissingRun:
            raise
        except Exception:
            return {}, {}
        # The public `metrics` has values only; the entities behind it have the steps.
        entities = getattr(run.data, "_metric_objs", [])
        return {metric.key: metric.step for metric in entities}, dict(run.data.params)

    def sender(self, run_id: str) -> Callable[[Sequence[Record]], None]:
        """Return the function that sends spooled records to a run; it raises Rejected for one that is refused
        for good.
        """

        def send(records: Sequence[Record]) -> None:
            try:
                self._send(run_id, records)
            except Exception as error:
                if getattr(error, "error_code", None) in _FINAL:
                    raise Rejected(str(error)) from error
                raise

        return send

    def _find(self, run_id: str) -> MlflowRun:
        """Return a run; raises MissingRun where the store answers and does not know it."""
        try:
            run = self._client.get_run(run_id)
        except Exception as error:
            if getattr(error, "error_code", None) not in _FINAL:
                raise
            raise MissingRun(
                f"The run {run_id} is not in the tracking store {scrub(self.uri)}: it was deleted, or this "
                "is not the store that it was logged to. Set MLFLOW_TRACKING_URI, or the project's folder, "
                "to that one."
            ) from error
        if run.info.lifecycle_stage == "deleted":
            raise MissingRun(
                f"The run {run_id} was deleted from {scrub(self.uri)}; restore it there (`mlflow runs restore`)."
            )
        return run

    def _experiment(self, name: str) -> str:
        found: Experiment | None = self._client.get_experiment_by_name(name)
        if found is not None and found.lifecycle_stage == "deleted":
            raise UserError(
                f"The experiment {name!r} was deleted from {scrub(self.uri)}. Restore it there, or choose another name."
            )
        if found is not None:
            return str(found.experiment_id)
        location = None if self._folder is None else (self._folder / "artifacts").as_uri()
        try:
            return str(self._client.create_experiment(name, artifact_location=location, tags=_KIND))
        except Exception:
            # Another job made it a moment ago.
            found = self._client.get_experiment_by_name(name)
            if found is None:
                raise
            return str(found.experiment_id)

    def _send(self, run_id: str, records: Sequence[Record]) -> None:
        """Send records in order; neighbouring metrics travel in one request."""
        from mlflow.entities import Metric, Param, RunTag

        metrics: list[Any] = []
        for record in records:
            if record["kind"] == "metrics":
                for key, value in record["values"].items():
                    metrics.append(Metric(key, value, record["time"], record["step"]))
                if len(metrics) < _METRICS_AT_ONCE:
                    continue
            self._send_metrics(run_id, metrics)
            if record["kind"] == "params":
                params = [Param(key, value) for key, value in record["values"].items()]
                for start in range(0, len(params), 100):
                    self._client.log_batch(run_id, params=params[start : start + 100])
            elif record["kind"] == "tags":
                self._client.log_batch(run_id, tags=[RunTag(key, value) for key, value in record["values"].items()])
            elif record["kind"] == "artifacts":
                # Removed once sent, so a missing one was sent before the process ended.
                if os.path.isdir(record["source"]):
                    self._client.log_artifacts(run_id, record["source"])
                shutil.rmtree(record["source"], ignore_errors=True)
            elif record["kind"] == "model":
                self._send_model(run_id, record)
            elif record["kind"] == "status":
                self._client.set_terminated(run_id, record["status"], end_time=record["time"])
        self._send_metrics(run_id, metrics)

    def _send_metrics(self, run_id: str, metrics: list[Any]) -> None:
        while metrics:
            self._client.log_batch(run_id, metrics=metrics[:_METRICS_AT_ONCE])
            del metrics[:_METRICS_AT_ONCE]

    def _send_model(self, run_id: str, record: Record) -> None:
        """Register the folder as a logged model of the run; sending it again finds the one begun before."""
        from mlflow.entities import LoggedModelOutput, LoggedModelStatus

        if not os.path.isdir(record["source"]):
            return
        run = self._client.get_run(run_id)
        mine = f"source_run_id = '{run_id}' AND name = '{record['name']}'"
        begun = self._client.search_logged_models([run.info.experiment_id], filter_string=mine)
        model = next((model for model in begun if model.tags.get("spooled") == record["source"]), None)
        if model is None:
            model = self._client.create_logged_model(
                run.info.experiment_id,
                name=record["name"],
                source_run_id=run_id,
                tags={"spooled": record["source"], "digest": record["digest"]},
                model_type="hardviews encoder",
            )
        self._client.log_model_artifacts(model.model_id, record["source"])
        self._client.finalize_logged_model(model.model_id, LoggedModelStatus.READY)
        self._client.log_outputs(run_id, [LoggedModelOutput(model.model_id, record["step"])])
        self._client.set_tag(run_id, "hardviews.encoder", record["digest"])
        shutil.rmtree(record["source"], ignore_errors=True)


def default_uri(folder: Path) -> str:
    """The SQLite store in a project's folder."""
    return f"sqlite:///{folder.absolute() / 'mlflow.db'}"


def _unreachable(uri: str, error: Exception) -> str:
    reason = scrub((str(error).splitlines() or [type(error).__name__])[0][:300])
    return (
        f"The tracking store {scrub(uri)} cannot be used ({reason}). Start it, correct MLFLOW_TRACKING_URI, "
        f"or unset it to keep the record in SQLite in the project's folder."
    )
