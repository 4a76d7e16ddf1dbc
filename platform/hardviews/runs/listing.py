"""`hardviews runs`: the runs in the tracking store, dead ones among them, and unsent records on this disk."""

import time
from dataclasses import dataclass
from pathlib import Path

from hardviews.checked import OPTION, above, require
from hardviews.errors import UserError
from hardviews.runs.verdict import ago, judge
from hardviews.storage.url import check_given
from hardviews.tracking.failures import unusable
from hardviews.tracking.leftovers import leftovers, send
from hardviews.tracking.runs import Entry, close_run, entries
from hardviews.tracking.scrub import scrub
from hardviews.tracking.server import Server
from hardviews.tracking.settings import TRACKING_URI, setting
from hardviews.tracking.text import encodable


@dataclass(frozen=True)
class Runs:
    """Lists the runs in the tracking store, and the state of runs that are RUNNING there.

    Attributes:
        close: set runs that are RUNNING in the store, but dead, to their true end.
        send: send the records that jobs left on this disk because the store did not take them.
        silence: seconds without a report after which a run counts as dead.
        project: folder of the tracking record and of unsent records.
        experiment: only runs of this MLflow experiment.
    """

    close: bool = False
    send: bool = False
    silence: float = 900.0
    project: str = ".hardviews"
    experiment: str | None = None

    def __post_init__(self) -> None:
        """Refuse a silence of zero seconds and a folder without a name."""
        check_given(project=self.project)
        require(self, OPTION, silence=above(0).note("seconds"))


def run_runs(config: Runs) -> None:
    """Print a line for each run; close and send on request.

    Raises:
        UserError: the store cannot be used, or did not accept all records.
    """
    project = Path(config.project).absolute()
    if setting(TRACKING_URI) is None and not (project / "mlflow.db").exists():
        raise UserError(
            f"There is no tracking record in {project}. Run this where the jobs were started, give --project, or name "
            f"the server in {TRACKING_URI}."
        )
    server = Server.connect(None, project)
    try:
        unsent = _send(server, project) if config.send else ""
        found = entries(server, config.experiment)
        for entry in found:
            _show(server, entry, config)
    except UserError:
        raise
    except Exception as error:
        raise unusable(server.uri, error, own=setting(TRACKING_URI) is None) from error
    if not found:
        print(f"{scrub(server.uri)} has no runs of hardviews.")
    _show_left(project)
    if unsent:
        raise UserError(unsent)


def _show(server: Server, entry: Entry, config: Runs) -> None:
    now = time.time()
    status, note = entry.status, ""
    verdict = judge(entry, config.silence, now) if entry.running else None
    if verdict is not None:
        note = f"  dead: {verdict[1]}"
        if config.close:
            close_run(server, entry.run_id, *verdict, entry.heard)
            status, note = verdict[0], f"  closed: {verdict[1]}"
    place = "  ".join(part for part in (entry.output, entry.job) if part)
    print(encodable(f"{status:8}  {ago(now - entry.heard):>8} ago  {entry.run_id}  {entry.name}  {place}{note}"))


def _send(server: Server, project: Path) -> str:
    """Send all unsent records; return the failures and their reasons, as sentences."""
    left = []
    for leftover in leftovers(project):
        reason = send(server, leftover)
        if reason:
            left.append(f"Records of run {leftover.run_id} stay in {leftover.folder}: {reason.rstrip('.')}.")
        else:
            print(f"sent the remaining records of run {leftover.run_id}")
    return " ".join(left)


def _show_left(project: Path) -> None:
    for leftover in leftovers(project):
        print(f"records of run {leftover.run_id} wait in {leftover.folder}: hardviews runs --send")
