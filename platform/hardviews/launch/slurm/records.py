"""Slurm's records of jobs: jobs in its queue and, if it keeps accounts, earlier jobs."""

from dataclasses import dataclass
from pathlib import Path

from hardviews.launch.slurm.client import Refused, rows, slurm

_QUEUE = ("id", "state", "reason", "nodes", "name", "folder")
_QUEUE_FORMAT = "%i|%T|%r|%N|%j|%Z"
_ACCOUNTS = ("id", "state", "nodes", "name", "folder")
_ACCOUNTS_FORMAT = "JobID,State,NodeList,JobName,WorkDir"


@dataclass(frozen=True)
class Part:
    """A part of a job.

    Attributes:
        job: the id of the whole job.
        number: number of the part, from 0.
        state: Slurm's name for the state, in capitals, such as RUNNING.
        reason: Slurm's name for the reason of its wait.
        nodes: its nodes in Slurm's short form of a list.
        name: name of the part.
        folder: folder in which it runs.
    """

    job: str
    number: int
    state: str
    reason: str
    nodes: str
    name: str
    folder: Path


def parts_of(job: str) -> list[Part]:
    """Return the parts of a job; an empty list if Slurm has no record of it.

    Raises:
        UserError: Slurm does not answer.
    """
    if not job.isdecimal():
        return []
    try:
        found = _read(slurm("squeue", "--noheader", "--states=all", "--jobs", job, "--format", _QUEUE_FORMAT), _QUEUE)
    except Refused:
        found = []  # it has left the queue
    found = found or _accounts("--jobs", job)
    return [part for part in found if part.job == job]


def parts_of_mine() -> list[Part]:
    """Return the parts of this user's jobs in the queue and in the last days.

    Raises:
        UserError: Slurm does not answer.
    """
    try:
        queued = _read(slurm("squeue", "--noheader", "--me", "--states=all", "--format", _QUEUE_FORMAT), _QUEUE)
    except Refused:
        queued = []
    known = {part.job for part in queued}
    return [part for part in _accounts("--starttime", "now-7days") if part.job not in known] + queued


def _accounts(*words: str) -> list[Part]:
    """Read accounts; a cluster without accounts refuses."""
    command = ("sacct", "--noheader", "--parsable2", "--allocations", "--format", _ACCOUNTS_FORMAT)
    try:
        return _read(slurm(*command, *words), _ACCOUNTS)
    except Refused:
        return []


def _read(text: str, names: tuple[str, ...]) -> list[Part]:
    found = []
    for row in rows(text, names):
        job, _, number = row["id"].partition("+")
        if job.isdecimal() and number.isdecimal() | (not number):
            # Accounts contain `CANCELLED by 1000`.
            state = row["state"].partition(" ")[0].rstrip("+")
            reason = row.get("reason", "None")
            found.append(Part(job, int(number or 0), state, reason, row["nodes"], row["name"], Path(row["folder"])))
    return sorted(found, key=lambda part: (int(part.job), part.number))
