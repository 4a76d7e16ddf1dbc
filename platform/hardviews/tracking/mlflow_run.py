"""One MLflow run for a job, through every restart.

Rank 0 writes; the other ranks hold a `NullRun` with the same interface. After a new run is made, everything goes
through spools on disk, so no call here waits for the server. There is one spool for lines and one for files, so that
files do not delay lines.
"""

import contextlib
import logging
import os
import shlex
import shutil
import time
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import islice
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal

from hardviews.elastic.identity import job_processes
from hardviews.failures import of_machine
from hardviews.interrupts import GivenUp, ending
from hardviews.tracking.content import Content
from hardviews.tracking.file_sender import FileSender, is_there
from hardviews.tracking.job import NOWHERE, PROCESSES, USER, WRITER
from hardviews.tracking.journal import Record
from hardviews.tracking.leftovers import UPLOADS
from hardviews.tracking.scrub import scrub
from hardviews.tracking.sender import BEAT, LineSender
from hardviews.tracking.server import Server, in_a_pod
from hardviews.tracking.spool import Spool

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from hardviews.models.encoder import Encoder

Status = Literal["FINISHED", "FAILED", "KILLED"]
CLOSING = 15.0
"""Longest time in seconds to close a run after a request to hurry: two waits, and the ends of four threads."""

logger = logging.getLogger(__name__)

# Seconds that a resumed run waits for the server's answer whether the run exists; a store on disk takes longer to open,
# and is never away.
_FIRST_ANSWER, _FIRST_LOCAL_ANSWER = 2.0, 30.0
# Seconds that the end of a run waits for a server that is away. A local machine keeps unsent records; a pod's disk is
# deleted with the pod.
_AT_THE_END, _AT_A_PODS_END = 30.0, 600.0
# The same if the job goes on, or ends in another way than finished: the next life sends the important records.
_IN_BETWEEN = 5.0
# Seconds for a reachable server to accept all remaining records at the end, perhaps with the encoder.
_SENDING = 600.0
# Reports in one record of a replay.
_REPLAYED_AT_ONCE = 100


class Run(Content):
    """A job's record: parameters, metrics, figures, files, the encoder, and its end.

    As a context manager it ends as FINISHED, FAILED (an exception) or KILLED (an interrupt).
    """

    run_id: str

    def __init__(self, server: Server, run_id: str, folder: Path, life: str, fresh: bool) -> None:
        self.run_id = run_id
        self._server = server
        self._sender = LineSender(server, run_id, life, fresh)
        self._folder = folder
        self._files = folder / life
        self._lines = Spool(folder / f"{life}.jsonl", self._sender, beat=BEAT)
        self._uploads = Spool(folder / f"{life}{UPLOADS}", FileSender(server, run_id), counts=is_there)
        self._count = 0
        self._left_out = 0
        self._closed = self._over = False
        self.unsent = 0
        """Records that could not be sent in time, or were refused or lost, once the run is closed."""
        self.undelivered = ""
        """Reasons why they were not sent, and remedies, as sentences."""

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
        life: int = 0,
        key: str | None = None,
        aside: str = "",
        broken_off: bool = False,
    ) -> "Run":
        """Open a run: a new one, or with `run_id` the one that an earlier life of the job began.

        A resumed run works without a server until the server is back.

        Args:
            experiment: name of the experiment.
            name: name of a new run.
            run_id: id of a run to resume.
            parent: run above this one in MLflow's list, for evaluations.
            tags: further tags.
            folder: folder of the project. It holds the spool and, unless `uri` or MLFLOW_TRACKING_URI names a server,
                the store (`mlflow.db`, `artifacts/`).
            uri: address of the store.
            rank: rank of this process; all but rank 0 get a NullRun.
            life: number of the job's life. If two processes hold the run, the later life writes; by default their
                clocks decide.
            key: identity of the content of a new run. If a life ended before it noted the id, its run is found by the
                key.
            aside: addition to a new run's name if the experiment has a run of that name; without it names may repeat.
            broken_off: take a run with the same key only if it did not finish and no process goes on with it.

        Raises:
            UserError: a new run cannot be made. Either the server does not answer for 15 s, or 60 s in a pod, whose
                server may have been started with it. Or the failure cannot pass, and is raised at once.
            MissingRun: the server answers within 2 s that `run_id` does not exist.
        """
        if rank != 0:
            return NullRun(run_id or "")
        tags = {**(tags or {}), PROCESSES: job_processes() or NOWHERE}
        if life > 1:
            tags["hardviews.restarts"] = str(life - 1)
        place = Path(folder).absolute()
        server = Server.connect(uri, place)
        own = f"{life:06d}-{time.time_ns() // 1_000_000:013d}-{uuid.uuid4().hex[:6]}"
        fresh = False
        if run_id is None:
            run_id, fresh = server.create_run(experiment, name, parent, {**tags, WRITER: own}, key, aside, broken_off)
        run = Run(server, run_id, place / "spool" / run_id, own, fresh)
        run._begin()
        if not fresh:
            run.set_tags({name: value for name, value in tags.items() if name != USER})
        return run

    def replay(self, rows: Iterable[Mapping[str, Any]]) -> None:
        """Log again the reports in a checkpoint that the server lacks; call before new ones.

        `rows` are as in the history: `samples`, `step` and metrics. So no report in a checkpoint is lost with the disk
        of an earlier life. System metrics are not in it.
        """
        known = self._sender.known() or {}
        new = (
            (int(row["samples"]), values)
            for row in rows
            if (values := _newer(_metrics_of(row), int(row["samples"]), known))
        )
        while chunk := list(islice(new, _REPLAYED_AT_ONCE)):
            self._put("replay", rows=chunk)

    def use_store(self, act: Callable[[Server, str], object]) -> None:
        """Call a function with the tracking store and the id of this run, on the rank that writes."""
        act(self._server, self.run_id)

    def drain(self, timeout: float = 30.0) -> bool:
        """Wait until the records so far have arrived; return whether they have."""
        deadline = time.monotonic() + timeout
        return self._uploads.drain(timeout) and self._lines.drain(max(0.0, deadline - time.monotonic()))

    def close(self, status: Status | None = "FINISHED", timeout: float | None = None) -> int:
        """End the run and return the number of records that could not be sent in time.

        Unsent records stay on disk for a later life. `status` None leaves the run open, for a job that goes on after a
        restart. `timeout` is the time in seconds to wait for a server that is away or hangs. By default it is 30 for a
        finished run, 600 in a pod of Kubernetes, whose disk is deleted with it, and 5 for any other end.
        """
        if self._closed:
            return 0
        self._closed = True
        begun = time.monotonic()
        timeout = _patience(status) if timeout is None else timeout
        sending = _SENDING if status == "FINISHED" else timeout
        unsent = self._uploads.close(timeout, sending, quiet=sending)
        lost = self._uploads.lost() + self._lines.lost() + self._left_out
        if lost:
            self._put("lost", text=f"{lost} records or files were lost or refused in one life: see the job's log")
        self._put("end", status=status)
        left = max(min(timeout, 1.0), timeout - (time.monotonic() - begun))
        unsent += self._lines.close(left, sending)
        # The notes of the losses and of the end do not count as lost records.
        self._report(unsent, lost)
        if not unsent:
            alone = not any(self._folder.glob("*.jsonl"))
            shutil.rmtree(self._folder if alone else self._files, ignore_errors=True)
        self.unsent = unsent + lost
        self._over = True
        return unsent

    def abandon(self) -> None:
        """Print the command that ends the run, if this process gives up before."""
        if not self._over:
            logger.warning(
                "tracking: given up. Run %s stays RUNNING in %s, and unsent records stay in %s. Send that and "
                "close the run with `hardviews runs --send --close%s`.",
                *(self.run_id, scrub(self._server.uri), self._folder, self._project()),
            )

    def _project(self) -> str:
        """Return the option that names the project's folder, empty for the usual one."""
        folder = self._folder.parent.parent
        return "" if folder == Path(".hardviews").absolute() else f" --project {shlex.quote(str(folder))}"

    def _report(self, unsent: int, lost: int) -> None:
        """Report the unsent records, the reason, their place, and the command to send them later."""
        if not unsent and not lost:
            return
        where = scrub(self._server.uri)
        reason = self._uploads.trouble or self._lines.trouble or self._uploads.disk or self._lines.disk
        words = [f"{unsent + lost} records of run {self.run_id} are not in {where}"]
        words[0] += f" ({reason.rstrip('.')})." if reason else "."
        memory = self._lines.left_in_memory + self._uploads.left_in_memory
        if unsent > memory and in_a_pod():
            words.append("They lie on the disk of this pod and go with it; the same job, run again, logs them.")
        elif unsent > memory:
            send = f"hardviews runs --send{self._project()}"
            words.append(f"They are kept in {self._folder}: send them later with `{send}`.")
        if lost or memory:
            words.append(f"{lost + memory} of them are lost: the disk or the server did not take them.")
        self.undelivered = " ".join(words)
        logger.warning("tracking: %s", self.undelivered)

    def __enter__(self) -> "Run":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        interrupted = kind is not None and not issubclass(kind, Exception)
        try:
            with ending(CLOSING):
                self.close("FINISHED" if kind is None else "KILLED" if interrupted else "FAILED")
        except GivenUp:
            self.abandon()
            raise

    def _begin(self) -> None:
        """Take over the unsent records of earlier lives in this folder, and make contact."""
        for path in sorted(self._folder.glob("*.jsonl")):
            uploads = path.name.endswith(UPLOADS)
            if not path.name.startswith(self._files.name):
                (self._uploads if uploads else self._lines).adopt(path, _still_wanted)
        self._lines.start()
        self._uploads.start()
        self._sender.tried.wait(_FIRST_ANSWER if self._server.remote else _FIRST_LOCAL_ANSWER)
        if self._sender.missing is not None:
            self._closed = True
            self._lines.close(0.0)
            self._uploads.close(0.0)
            with contextlib.suppress(OSError):
                self._folder.rmdir()
            raise self._sender.missing

    def _put(self, kind: str, **content: Any) -> None:
        self._lines.put({"kind": kind, "time": int(time.time() * 1000), **content})

    def _upload(self, kind: str, **content: Any) -> None:
        self._uploads.put({"kind": kind, **content})

    def _leave_out(self, path: str, error: Exception) -> None:
        self._left_out += 1
        remedy = of_machine(error, str(self._files))
        words = remedy.words if remedy is not None else f"{error}."
        logger.warning("tracking: %s is not logged. %s", path, words)

    def _new_folder(self) -> Path:
        if self._closed:  # a thread that still draws: nobody would send its records
            raise RuntimeError("the run is closed")
        self._count += 1
        folder = self._files / f"{time.time_ns()}-{self._count}"
        folder.mkdir(parents=True)
        return folder


class NullRun(Run):
    """The run of ranks that do not write: every call does nothing."""

    def __init__(self, run_id: str = "") -> None:
        self.run_id = run_id
        self.unsent = 0
        self.undelivered = ""

    def replay(self, rows: Iterable[Mapping[str, Any]]) -> None: ...
    def log_figure(self, figure: "Figure", path: str) -> None: ...
    def log_image(self, picture: Any, key: str, step: int) -> None: ...
    def log_table(self, rows: Sequence[Mapping[str, Any]], path: str) -> None: ...
    def log_text(self, text: str, path: str) -> None: ...
    def log_artifact(self, source: str | os.PathLike[str], path: str | None = None) -> None: ...
    def log_encoder(self, encoder: "Encoder", name: str = "encoder", step: int = 0) -> None: ...
    def _put(self, kind: str, **content: Any) -> None: ...
    def _upload(self, kind: str, **content: Any) -> None: ...

    def drain(self, timeout: float = 30.0) -> bool:
        return True

    def abandon(self) -> None: ...
    def use_store(self, act: Callable[[Server, str], object]) -> None: ...

    def close(self, status: Status | None = "FINISHED", timeout: float | None = None) -> int:
        return 0


def _still_wanted(record: Record) -> bool:
    """Return whether a later life sends this record: it writes its own end."""
    return str(record["kind"]) != "end"


def _metrics_of(row: Mapping[str, Any]) -> dict[str, float]:
    return {key: float(value) for key, value in row.items() if key not in ("step", "samples")}


def _newer(values: Mapping[str, float], step: int, known: Mapping[str, int]) -> dict[str, float]:
    return {key: value for key, value in values.items() if step > known.get(key, -1)}


def _patience(status: Status | None) -> float:
    if status != "FINISHED":
        return _IN_BETWEEN
    return _AT_A_PODS_END if in_a_pod() else _AT_THE_END
