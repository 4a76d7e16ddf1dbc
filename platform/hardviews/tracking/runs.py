"""The runs of this platform in the tracking store, and the time of the last report of each."""

import calendar
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from hardviews.tracking.job import JOB_TAG, OUTPUT, PROCESSES
from hardviews.tracking.metric_groups import LOSS
from hardviews.tracking.notes import NOTE, fitted
from hardviews.tracking.sender import ALIVE, TIME
from hardviews.tracking.server import KEY, Server
from hardviews.tracking.unfinished import closed

if TYPE_CHECKING:
    from mlflow.entities import Run as MlflowRun


@dataclass(frozen=True)
class Entry:
    """A run in the tracking store.

    Attributes:
        run_id: MLflow's id.
        name: name of the run.
        status: status in MLflow: RUNNING, FINISHED, FAILED, KILLED.
        heard: time at which a process last wrote the run, in seconds since 1970.
        output: address of a pretraining's output; empty for an evaluation.
        job: its job as SCHEDULER://SESSION/NAME, empty outside a job.
        processes: processes that write it, in the form of `elastic.identity`; empty if an older version wrote it.
    """

    run_id: str
    name: str
    status: str
    heard: float
    output: str
    job: str
    processes: str = ""

    @property
    def running(self) -> bool:
        """Return whether the run is RUNNING in the store."""
        return self.status in ("RUNNING", "SCHEDULED")


def entries(server: Server, experiment: str | None = None, running: bool = False) -> list[Entry]:
    """Return the runs of this platform, the latest first; other runs in the store are left alone.

    `experiment` restricts to one experiment, `running` to runs that are RUNNING. MLflow's errors pass through.
    """
    wanted = f"tags.`{KEY}` LIKE '%'" + (" AND attributes.status = 'RUNNING'" if running else "")
    experiments = [found for found in server.client.search_experiments() if experiment in (None, found.name)]
    identifiers = [found.experiment_id for found in experiments]
    runs: list[Entry] = []
    token = None
    while identifiers:
        page = server.client.search_runs(identifiers, wanted, max_results=500, page_token=token)
        runs += [_entry(run) for run in page]
        token = page.token
        if not token:
            break
    return runs


def close_run(server: Server, run_id: str, status: str, evidence: str, heard: float | None = None) -> None:
    """Set a run that is RUNNING to its true end, and add the end and the last step to its description.

    `evidence` is the evidence of the end, in words. `heard` is the time of the end in seconds since 1970, by default
    now.
    """
    run = server.find(run_id)
    if not _entry(run).running:
        return
    # The description first: if it fails, the run stays RUNNING, and the next check closes it completely.
    note = run.data.tags.get(NOTE, "")
    new = closed(note, _samples(run), status, evidence)
    if new != note:
        server.client.set_tag(run_id, NOTE, fitted(new))
    server.client.set_terminated(run_id, status, end_time=None if heard is None else int(1000 * heard))


def _samples(run: "MlflowRun") -> int:
    """Return the samples seen by a training's last report, 0 if there is none: its metrics are logged by samples."""
    return max((metric.step for metric in getattr(run.data, "_metric_objs", []) if metric.key == LOSS), default=0)


def _entry(run: "MlflowRun") -> Entry:
    tags = run.data.tags
    times = [run.info.start_time or 0, run.info.end_time or 0]
    times += [metric.timestamp for metric in getattr(run.data, "_metric_objs", [])]
    heard = max(times) / 1000
    with suppress(KeyError, ValueError):
        heard = max(heard, calendar.timegm(time.strptime(tags[ALIVE], TIME)))
    # An evaluation is below a training and has its output; a fine-tuning is below one too, but has its own output.
    below = "mlflow.parentRunId" in tags and "hardviews.recipe_digest" not in tags
    output = "" if below else tags.get(OUTPUT, "")
    return Entry(
        *(str(run.info.run_id), str(run.info.run_name or ""), str(run.info.status), heard),
        output=output,
        job=tags.get(JOB_TAG, ""),
        processes=tags.get(PROCESSES, ""),
    )
