"""Opens MLflow's tracking store, and runs in it."""

import logging
import threading
import time
import uuid
from functools import cached_property
from itertools import chain, count
from pathlib import Path
from typing import TYPE_CHECKING

from hardviews.elastic.identity import have_ended
from hardviews.errors import UserError
from hardviews.failures import Needs
from hardviews.tracking.answers import NotMlflow
from hardviews.tracking.experiment import complete, experiment_tags
from hardviews.tracking.failures import MissingRun, code, diagnose, unusable
from hardviews.tracking.job import PROCESSES, WRITER
from hardviews.tracking.mlflow_import import preload
from hardviews.tracking.scrub import scrub, scrub_item
from hardviews.tracking.settings import TRACKING_URI, setting
from hardviews.tracking.sqlite import open_once
from hardviews.tracking.text import encodable
from hardviews.tracking.uri import check_uri, default_uri, is_remote

if TYPE_CHECKING:
    from mlflow.entities import Experiment
    from mlflow.entities import Run as MlflowRun
    from mlflow.tracking import MlflowClient

logger = logging.getLogger(__name__)

# Identifies a run before its id is known: after its creation the answer may get lost, or the process may end.
KEY = "hardviews.key"
# Seconds that a new run waits for a server that is away; the same in a pod, whose server may have been started with it
# or may move to another node; and seconds between attempts.
_PATIENCE, _PATIENCE_OF_A_POD, _PAUSE = 15.0, 60.0, 0.5


class Server:
    """An MLflow tracking store: a server by URL, or a database, by default SQLite in the project's folder."""

    def __init__(self, uri: str, folder: Path | None) -> None:
        """Keep the address; `folder` is the project's folder if the store is there."""
        self.uri = uri
        self._folder = folder

    @staticmethod
    def connect(uri: str | None, folder: Path) -> "Server":
        """Return the store at `uri`, else at MLFLOW_TRACKING_URI, else SQLite in `folder`; opens nothing.

        Raises:
            UserError: the address has an impossible form, or the folder cannot be made.
        """
        preload()  # takes seconds, and only the writing rank needs it
        given = uri or setting(TRACKING_URI)
        if given is not None:
            return Server(check_uri(given), None)
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(
                f"The tracking record cannot be kept in {folder} ({error.strerror}). Give another --project, or "
                f"the address of a server in {TRACKING_URI}."
            ) from error
        return Server(default_uri(folder), folder)

    @cached_property
    def client(self) -> "MlflowClient":
        """MLflow's client, made on first use: a store that is a database is opened by it."""
        from mlflow.tracking import MlflowClient

        if self.remote:
            return MlflowClient(self.uri)
        import mlflow.store.db.utils

        # This hides MLflow's own lines about its tables, and its tracebacks of a failing database: errors are reported
        # here.
        logging.getLogger("mlflow.store.db.utils").setLevel(logging.CRITICAL)
        logging.getLogger("alembic").setLevel(logging.WARNING)
        # MLflow would try for a minute and a half inside a call. The callers try again by themselves.
        mlflow.store.db.utils.MAX_RETRY_COUNT = 1
        return open_once(self.uri, lambda: MlflowClient(self.uri))

    @property
    def remote(self) -> bool:
        """Whether it is a server, which may be away."""
        return is_remote(self.uri)

    def create_run(
        self,
        experiment: str,
        name: str,
        parent: str | None,
        tags: dict[str, str],
        key: str | None = None,
        aside: str = "",
        broken_off: bool = False,
    ) -> tuple[str, bool]:
        """Make a run, in its parent's experiment if it has one; return its id and whether it is new.

        This waits 15 s, or 60 s in a pod, for a server that is away or hangs. `key` is the identity of the run's
        content: an earlier run with the same key is returned instead, with `broken_off` only if it did not finish and
        its processes are gone. `aside` distinguishes a further run of the same name; without it names may repeat.

        Raises:
            UserError: the server does not answer in time, or a failure cannot pass.
        """
        found: list[tuple[str, bool]] = []
        failed: list[Exception] = []
        over = threading.Event()
        tags[KEY] = (key or uuid.uuid4().hex).replace("'", "")  # it is quoted when it is searched for
        patience = _PATIENCE_OF_A_POD if in_a_pod() else _PATIENCE
        preload(local=not self.remote)  # takes seconds, which must not count as the store's
        if self.uri.startswith("sqlite:"):
            self._open()  # the creation of tables may take longer than the wait for a server

        def attempt() -> None:
            # A request that hangs holds this thread, never the training.
            deadline, again = time.monotonic() + patience, key is not None
            while not over.is_set():
                try:
                    found.append(self._create_run(experiment, name, parent, tags, again, aside, broken_off))
                    return
                except Exception as error:
                    failed.append(error)
                    remedy = diagnose(error, self.uri)
                    if remedy.needs is not Needs.TIME or time.monotonic() + _PAUSE > deadline:
                        return
                    if len(failed) == 1:
                        logger.warning("tracking: waiting %.0f s for %s (%s)", patience, scrub(self.uri), remedy.words)
                again = True  # the answer may have been lost, not the request
                over.wait(_PAUSE)

        thread = threading.Thread(target=attempt, name="tracking-start", daemon=True)
        thread.start()
        thread.join(patience)
        over.set()
        if found:
            return found[0]
        error = failed[-1] if failed else TimeoutError("no answer: timed out")
        raise error if isinstance(error, UserError) else unusable(self.uri, error, self._folder is not None) from error

    def _open(self) -> None:
        """Open the store in this thread; raise UserError if that fails."""
        try:
            _ = self.client
        except UserError:
            raise
        except Exception as error:
            raise unusable(self.uri, error, own=self._folder is not None) from error

    def find(self, run_id: str) -> "MlflowRun":
        """Return a run; raise MissingRun if the store answers that it does not exist."""
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
        _given(run.info.run_id)
        if run.info.lifecycle_stage == "deleted":
            raise MissingRun(
                f"The run {run_id} was deleted from {scrub(self.uri)}; restore it there (`mlflow runs restore`)."
            )
        return run

    def _create_run(
        self,
        experiment: str,
        name: str,
        parent: str | None,
        tags: dict[str, str],
        again: bool,
        aside: str,
        broken_off: bool,
    ) -> tuple[str, bool]:
        if parent is None:
            experiment_id = self._experiment(experiment)
        else:
            experiment_id = self.find(parent).info.experiment_id
            tags["mlflow.parentRunId"] = parent
        if again:
            for run in self.client.search_runs([experiment_id], f"tags.`{KEY}` = '{tags[KEY]}'", max_results=20):
                if not broken_off or _broken_off(run) or run.data.tags.get(WRITER) == tags.get(WRITER):
                    return str(run.info.run_id), False
        tags = {key: scrub_item(key, str(value)) for key, value in tags.items()}
        name = self._distinct(experiment_id, encodable(name), encodable(aside)) if aside else encodable(name)
        run = self.client.create_run(experiment_id, tags=tags, run_name=name)
        return _given(run.info.run_id), True

    def _distinct(self, experiment_id: str, name: str, aside: str) -> str:
        """Return a name that no run of the experiment has: `name`, `name, aside`, `name, aside (2)` and so on."""
        quoted = name.replace("'", "_").replace("%", "_")  # `_` stands for any character
        found = self.client.search_runs([experiment_id], f"attributes.run_name LIKE '{quoted}%'", max_results=1000)
        taken = {run.info.run_name for run in found}
        candidates = chain([name, f"{name}, {aside}"], (f"{name}, {aside} ({number})" for number in count(2)))
        return next(candidate for candidate in candidates if candidate not in taken)

    def _experiment(self, name: str) -> str:
        found: Experiment | None = self.client.get_experiment_by_name(name)
        if found is not None and found.lifecycle_stage == "deleted":
            raise UserError(
                f"The experiment {name!r} was deleted from {scrub(self.uri)}. Restore it there, or choose another name."
            )
        if found is not None:
            complete(self.client, _given(found.experiment_id), found.tags)
            return _given(found.experiment_id)
        location = None if self._folder is None else (self._folder / "artifacts").as_uri()
        try:
            return str(self.client.create_experiment(name, artifact_location=location, tags=experiment_tags()))
        except Exception:
            # Another job has just made it.
            found = self.client.get_experiment_by_name(name)
            if found is None:
                raise
            return str(found.experiment_id)


def _broken_off(run: "MlflowRun") -> bool:
    """Return whether a run did not finish and does not go on: its processes were on this machine and are gone."""
    return run.info.status != "FINISHED" and have_ended(run.data.tags.get(PROCESSES, ""))


def _given(identifier: object) -> str:
    """Return an id from an answer; raise NotMlflow if there is none, as in an empty answer of another program."""
    if not identifier:
        raise NotMlflow("an answer lacks its id")
    return str(identifier)


def in_a_pod() -> bool:
    """Return whether this process runs in a pod of Kubernetes, whose disk is deleted with it."""
    return setting("KUBERNETES_SERVICE_HOST") is not None
