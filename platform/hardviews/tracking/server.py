"""Opens MLflow's tracking store, and runs in it."""

from __future__ import annotations

import logging
import os
import threading
import time
import uuid
from pathlib import Path
from typing import TYPE_CHECKING

from hardviews.errors import UserError
from hardviews.tracking.errors import MissingRun, code, explain, is_denied, is_final, unusable
from hardviews.tracking.preload import preload
from hardviews.tracking.scrub import scrub, scrub_item

if TYPE_CHECKING:
    from mlflow.entities import Experiment
    from mlflow.entities import Run as MlflowRun
    from mlflow.tracking import MlflowClient

logger = logging.getLogger(__name__)

# Opens the experiment in the part of MLflow's pages that is about training, not about language models.
_KIND = {"mlflow.experimentKind": "custom_model_development"}
# Identifies a run before its id is known: an answer may get lost, or the process end, after it was made.
_KEY = "hardviews.key"
# Seconds for which a new run waits for a server that is away; in a pod, whose server may have been started with it or
# be moving to another node; and between attempts.
_PATIENCE, _PATIENCE_OF_A_POD, _PAUSE = 15.0, 60.0, 0.5


class Server:
    """An MLflow tracking store: a server by URL, or SQLite in the project's folder."""

    def __init__(self, uri: str, client: MlflowClient, folder: Path | None) -> None:
        self.uri = uri
        self.client = client
        self._folder = folder

    @staticmethod
    def connect(uri: str | None, folder: Path) -> Server:
        """Return the store at `uri`, else at MLFLOW_TRACKING_URI, else SQLite in `folder`; asks a server nothing."""
        preload()  # takes seconds, and only the writing rank needs it
        from mlflow.tracking import MlflowClient

        # How MLflow creates its tables is of no interest to the user.
        logging.getLogger("mlflow.store.db.utils").setLevel(logging.WARNING)
        logging.getLogger("alembic").setLevel(logging.WARNING)
        given = uri or os.environ.get("MLFLOW_TRACKING_URI")
        if given is None:
            try:
                folder.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise UserError(
                    f"The tracking record cannot be kept in {folder} ({error.strerror}). Give another --project, or "
                    "the address of a server in MLFLOW_TRACKING_URI."
                ) from error
        chosen = given or default_uri(folder)
        try:
            client = MlflowClient(chosen)
        except Exception as error:
            raise unusable(chosen, error) from error
        return Server(chosen, client, folder if given is None else None)

    @property
    def remote(self) -> bool:
        """Whether it is a server, which may be away."""
        return self.uri.startswith(("http://", "https://"))

    def create_run(
        self,
        experiment: str,
        name: str,
        parent: str | None,
        tags: dict[str, str],
        key: str | None = None,
    ) -> tuple[str, bool]:
        """Make a run (in its parent's experiment, where it has one); return its id and whether it is new.

        key: says what this run is the record of; one that was made before with the same key is returned instead.
        Waits 15 s (60 in a pod) for a server that is away or hangs. Raises UserError after that, and at once where it
        refuses.
        """
        found: list[tuple[str, bool]] = []
        failed: list[Exception] = []
        over = threading.Event()
        tags[_KEY] = (key or uuid.uuid4().hex).replace("'", "")  # it is quoted when it is searched for
        patience = _PATIENCE_OF_A_POD if in_a_pod() else _PATIENCE

        def attempt() -> None:
            # A request that hangs holds this thread, never the training.
            deadline, again = time.monotonic() + patience, key is not None
            while not over.is_set():
                try:
                    found.append(self._create_run(experiment, name, parent, tags, again))
                    return
                except Exception as error:
                    failed.append(error)
                    final = isinstance(error, UserError) or is_final(error) or is_denied(error) or not self.remote
                    if final or time.monotonic() + _PAUSE > deadline:
                        return
                    if len(failed) == 1:
                        reason = explain(self.uri, error)
                        logger.warning("tracking: waiting %.0f s for %s (%s)", patience, scrub(self.uri), reason)
                again = True  # the answer may have been lost, not the request
                over.wait(_PAUSE)

        thread = threading.Thread(target=attempt, name="tracking-start", daemon=True)
        thread.start()
        thread.join(patience)
        over.set()
        if found:
            return found[0]
        error = failed[-1] if failed else TimeoutError("no answer: timed out")
        raise error if isinstance(error, UserError) else unusable(self.uri, error) from error

    def find(self, run_id: str) -> MlflowRun:
        """Return a run; raises MissingRun where the store answers and does not know it."""
        try:
            run = self.client.get_run(run_id)
        except Exception as error:
            if code(error) not in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
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

    def _create_run(
        self, experiment: str, name: str, parent: str | None, tags: dict[str, str], again: bool
    ) -> tuple[str, bool]:
        if parent is None:
            experiment_id = self._experiment(experiment)
        else:
            experiment_id = self.find(parent).info.experiment_id
            tags["mlflow.parentRunId"] = parent
        if again:
            for run in self.client.search_runs([experiment_id], f"tags.`{_KEY}` = '{tags[_KEY]}'", max_results=1):
                return str(run.info.run_id), False
        tags = {key: scrub_item(key, str(value)) for key, value in tags.items()}
        return str(self.client.create_run(experiment_id, tags=tags, run_name=name).info.run_id), True

    def _experiment(self, name: str) -> str:
        found: Experiment | None = self.client.get_experiment_by_name(name)
        if found is not None and found.lifecycle_stage == "deleted":
            raise UserError(
                f"The experiment {name!r} was deleted from {scrub(self.uri)}. Restore it there, or choose another name."
            )
        if found is not None:
            return str(found.experiment_id)
        location = None if self._folder is None else (self._folder / "artifacts").as_uri()
        try:
            return str(self.client.create_experiment(name, artifact_location=location, tags=_KIND))
        except Exception:
            # Another job made it a moment ago.
            found = self.client.get_experiment_by_name(name)
            if found is None:
                raise
            return str(found.experiment_id)


def in_a_pod() -> bool:
    """Whether this process runs in a pod of Kubernetes, whose disk goes with it."""
    return "KUBERNETES_SERVICE_HOST" in os.environ


def default_uri(folder: Path) -> str:
    """The SQLite store in a project's folder."""
    return f"sqlite:///{folder.absolute() / 'mlflow.db'}"
