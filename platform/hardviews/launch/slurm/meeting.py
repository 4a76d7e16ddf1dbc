"""The address of a job's coordinator, in the job's folder, for jobs that add nodes to it."""

import http.client
import json
from pathlib import Path

from hardviews.errors import UserError
from hardviews.launch.slurm.client import Refused, slurm


def meeting_file(folder: Path, job: str) -> Path:
    """Return the file that holds HOST:PORT of a job's coordinator while the job runs."""
    return folder / f"slurm-{job}.coordinator"


def publish(folder: Path, job: str, place: str) -> None:
    """Write the address of a coordinator."""
    file = meeting_file(folder, job)
    partial = file.with_suffix(".part")
    partial.write_text(place + "\n")
    partial.replace(file)


def place_of(job: str) -> str:
    """Return HOST:PORT of another job's coordinator.

    Raises:
        UserError: there is no such job, or it does not run.
    """
    try:
        said = slurm("squeue", "--noheader", "--jobs", job, "--format", "%T|%Z").splitlines()
    except Refused:
        said = []
    state, _, folder = said[0].partition("|") if said else ("", "", "")
    if state != "RUNNING":
        raise UserError(f"The job {job} does not run{f', it is {state}' if state else ''}. See torchx list -s slurm.")
    try:
        return meeting_file(Path(folder), job).read_text().strip()
    except OSError as error:
        raise UserError(
            f"The job {job} has no coordinator that nodes could join ({error.strerror}): it has just begun, or it "
            "is not an elastic job of hardviews."
        ) from None


def reached(host: str, port: int) -> int | None:
    """Return the last step of a job; None if it has not taken a step, or if its coordinator does not answer."""
    connection = http.client.HTTPConnection(host, port, timeout=5)
    try:
        connection.request("GET", "/status")
        found = json.loads(connection.getresponse().read())["reached"]
        return None if found is None else int(found)
    except (OSError, http.client.HTTPException, ValueError, KeyError):
        return None
    finally:
        connection.close()
