"""One MLflow run for a job, through every restart.

Rank 0 writes; the other ranks hold a `NullRun` with the same interface. Everything after the start goes
through a spool, so no call here waits for the server.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal

from hardviews.errors import UserError
from hardviews.tracking.params import flatten
from hardviews.tracking.scrub import scrub, scrub_item
from hardviews.tracking.server import Server
from hardviews.tracking.spool import Spool

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from hardviews.models.encoder import Encoder

Status = Literal["FINISHED", "FAILED", "KILLED"]
logger = logging.getLogger(__name__)


class Run:
    """A job's record: parameters, metrics, figures, files, the encoder, and how it ended.

    As a context manager it ends as FINISHED, FAILED (an exception) or KILLED (an interrupt).
    """

    run_id: str

    def __init__(self, server: Server, run_id: str, spool: Spool, files: Path) -> None:
        self.run_id = run_id
        self._server = server
        self._spool = spool
        self._files = files
        self._count = 0
        self._closed = False
        # What earlier lives of this run have logged: the last step of each metric, and the parameters.
        self._logged_steps: dict[str, int] = {}
        self._params: dict[str, str] = {}

    @staticmethod
    def start(
        experiment: str,
        name: str,
        run_id: str | None = None,
        parent: str | None = None,
        tags: Mapping[str, str] | None = None,
        *,
        folder: str | os.PathLike[str] = ".hardviews",
        uri: str | None = None,
        rank: int = 0,
    ) -> Run:
        """Open a run: a new one, or with `run_id` the one that an earlier life of the job began.

        parent: the run that this one is shown under (evaluation runs). folder: the project's folder, where
        the spool lives and, unless `uri` or MLFLOW_TRACKING_URI names a server, the store (`mlflow.db`,
        `artifacts/`). rank: any but 0 gets a NullRun. Raises UserError where a new run cannot be made because
        the server does not answer; a resumed run does without it until it is back.
        """
        if rank != 0:
            return NullRun(run_id or "")
        place = Path(folder).absolute()
        server = Server.connect(uri, place)
        known: Mapping[str, int] = {}
        params: Mapping[str, str] = {}
        if run_id is None:
            run_id = server.create_run(experiment, name, parent, dict(tags or {}))
        else:
            known, params = server.resume_run(run_id)
        run = Run(
            server,
            run_id,
            Spool(place / "spool" / f"{run_id}.jsonl", server.sender(run_id)),
            place / "spool" / run_id,
        )
        run._logged_steps.update(known)
        run._params.update(params)
        run._remember_backlog()
        run._spool.start()
        if tags:
            run.set_tags(tags)
        return run

    def log_params(self, config: Any) -> None:
        """Log a configuration (dataclass or mapping), flattened; MLflow keeps the first value of a parameter
        for ever.
        """
        params = flatten(config)
        changed = {key: value for key, value in params.items() if self._params.get(key, value) != value}
        if changed:
            logger.warning("tracking: the run keeps its first value of %s", ", ".join(sorted(changed)))
            self.set_tags({f"hardviews.resumed.{key}": value for key, value in changed.items()})
        new = {key: value for key, value in params.items() if key not in self._params}
        self._params.update(new)
        if new:
            self._put("params", values=new)

    def log_metrics(self, values: Mapping[str, Any], step: int) -> None:
        """Log numbers at a step (samples seen). A step that an earlier life of the run logged already is left
        out.
        """
        new = {key: float(value) for key, value in values.items() if step > self._logged_steps.get(key, -1)}
        if new:
            self._put("metrics", values=new, step=int(step))

    def log_figure(self, figure: Figure, path: str) -> None:
        """Log a matplotlib figure as an image, e.g. at `figures/curves.png`."""
        with self._new_file(path) as file:
            figure.savefig(file.path, bbox_inches="tight")

    def log_text(self, text: str, path: str) -> None:
        """Log a text file, e.g. at `recipe.json`; passwords in it are hidden."""
        with self._new_file(path) as file:
            file.path.write_text(scrub(text))

    def log_dict(self, values: Mapping[str, Any], path: str) -> None:
        """Log a mapping as a JSON file."""
        self.log_text(json.dumps(values, indent=1, sort_keys=True, default=str), path)

    def log_artifact(self, source: str | os.PathLike[str], path: str | None = None) -> None:
        """Log a copy of a local file, under its own name or at `path`."""
        with self._new_file(path or Path(source).name) as file:
            shutil.copyfile(source, file.path)

    def set_tags(self, tags: Mapping[str, str]) -> None:
        """Set tags, over those of the same name."""
        self._put("tags", values={key: scrub_item(key, str(value)) for key, value in tags.items()})

    def log_encoder(self, encoder: Encoder, name: str = "encoder", step: int = 0) -> None:
        """Log the exported encoder as an MLflow model with a signature (see `model.py`)."""
        from hardviews.tracking.model import write_model  # imports mlflow, which takes seconds

        folder = self._new_folder()
        write_model(encoder, folder / name)
        self._put("model", source=str(folder / name), name=name, digest=encoder.digest, step=step)

    def drain(self, timeout: float = 30.0) -> bool:
        """Wait until what was logged so far has arrived; return whether it has."""
        return self._spool.drain(timeout)

    def close(self, status: Status | None = "FINISHED", timeout: float = 30.0, sending: float = 600.0) -> int:
        """End the run and return how many records could not be sent in time.

        Those stay on disk for the next start. status: None leaves the run open, for a job that goes on after a
        restart. timeout: seconds to wait for a server that is away; sending: for one that is taking what is left,
        the encoder perhaps.
        """
        if self._closed:
            return 0
        self._closed = True
        if status is not None:
            self._put("status", status=status)
        unsent = self._spool.close(timeout, sending)
        if unsent:
            logger.warning(
                "tracking: %d records of run %s were not sent to %s; those in %s are sent when the run is next opened",
                *(unsent, self.run_id, scrub(self._server.uri), self._spool.path),
            )
        else:
            shutil.rmtree(self._files, ignore_errors=True)
        return unsent

    def __enter__(self) -> Run:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        interrupted = kind is not None and not issubclass(kind, Exception)
        self.close("FINISHED" if kind is None else "KILLED" if interrupted else "FAILED")

    def _put(self, kind: str, **content: Any) -> None:
        self._spool.put({"kind": kind, "time": int(time.time() * 1000), **content})

    def _remember_backlog(self) -> None:
        """Count what an earlier life left in the spool as logged."""
        for record in self._spool.backlog():
            if record["kind"] == "metrics":
                for key in record["values"]:
                    self._logged_steps[key] = max(self._logged_steps.get(key, -1), record["step"])
            elif record["kind"] == "params":
                self._params.update(record["values"])

    def _new_folder(self) -> Path:
        self._count += 1
        folder = self._files / f"{time.time_ns()}-{self._count}"
        folder.mkdir(parents=True)
        return folder

    def _new_file(self, path: str) -> _SpooledFile:
        return _SpooledFile(self, self._new_folder(), path)


class _SpooledFile:
    """A file that is being written beside the spool; leaving the context queues it."""

    def __init__(self, run: Run, folder: Path, name: str) -> None:
        if Path(name).is_absolute() or ".." in Path(name).parts:
            raise UserError(f"An artifact's path must lie inside the run, and {name!r} does not.")
        self._run, self._folder, self._name = run, folder, name
        self.path = folder / name
        self.path.parent.mkdir(parents=True, exist_ok=True)

    def __enter__(self) -> _SpooledFile:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self._run._put("artifacts", source=str(self._folder))
        else:
            shutil.rmtree(self._folder, ignore_errors=True)


class NullRun(Run):
    """What the ranks that do not write hold: every call does nothing."""

    def __init__(self, run_id: str = "") -> None:
        self.run_id = run_id

    def log_params(self, config: Any) -> None: ...
    def log_metrics(self, values: Mapping[str, Any], step: int) -> None: ...
    def log_figure(self, figure: Figure, path: str) -> None: ...
    def log_text(self, text: str, path: str) -> None: ...
    def log_dict(self, values: Mapping[str, Any], path: str) -> None: ...
    def log_artifact(self, source: str | os.PathLike[str], path: str | None = None) -> None: ...
    def set_tags(self, tags: Mapping[str, str]) -> None: ...
    def log_encoder(self, encoder: Encoder, name: str = "encoder", step: int = 0) -> None: ...

    def drain(self, timeout: float = 30.0) -> bool:
        return True

    def close(self, status: Status | None = "FINISHED", timeout: float = 30.0, sending: float = 600.0) -> int:
        return 0
