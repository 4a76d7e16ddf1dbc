"""Unsent records of jobs on this disk, and their later sending."""

import shutil
from dataclasses import dataclass
from pathlib import Path

from hardviews.errors import UserError
from hardviews.tracking.file_sender import FileSender, is_there
from hardviews.tracking.sender import LineSender
from hardviews.tracking.server import Server
from hardviews.tracking.spool import Spool, always

UPLOADS = ".files.jsonl"
"""End of the name of a spool of files."""

# Seconds to wait for a server that is away, and for a server that accepts records.
_PATIENCE, _SENDING = 30.0, 600.0


@dataclass(frozen=True)
class Leftover:
    """The unsent records of one run.

    Attributes:
        run_id: MLflow's id.
        folder: their folder.
        spools: files of records, in the order of lives; in each life files before lines, whose end comes last.
    """

    run_id: str
    folder: Path
    spools: tuple[Path, ...]


def leftovers(project: Path) -> list[Leftover]:
    """Return the runs with unsent records in a project's folder, including runs of living jobs."""
    found = []
    for folder in sorted(path for path in (project / "spool").glob("*") if path.is_dir()):
        spools = sorted(folder.glob("*.jsonl"), key=lambda path: (path.name.split(".")[0], path.name))
        if spools:
            found.append(Leftover(folder.name, folder, tuple(spools)))
    return found


def send(server: Server, left: Leftover) -> str:
    """Send the records of a run; return why some remain, empty if none do."""
    for path in left.spools:
        life = path.name.split(".")[0]
        files = path.name.endswith(UPLOADS)
        sender = FileSender(server, left.run_id) if files else LineSender(server, left.run_id, life, False, False)
        try:
            spool = Spool(path, sender, lock_timeout=0.0, counts=is_there if files else always)
        except UserError:
            return "a process of this machine still writes the run, and sends them itself"
        spool.start()
        spool.drain(_PATIENCE, _SENDING, _SENDING)
        reason = spool.trouble or spool.disk or "it did not answer in time"
        if spool.close(0.0):
            return reason
    if not any(left.folder.glob("*.jsonl")):
        shutil.rmtree(left.folder, ignore_errors=True)
    return ""
