"""Names of jobs and of processes, by which a run recognises the job that trains it."""

import functools
import os
import socket
import uuid
from collections.abc import Mapping
from pathlib import Path

from hardviews.elastic.worker import ROUND_VARIABLE

KEEPER_VARIABLE = "HARDVIEWS_KEEPER"
"""Environment variable: the process that restarts a job's nodes on this machine, in the form of `processes`."""


def job_name(variables: Mapping[str, str] = os.environ) -> str:
    """Return the name of this process's job, which is the same in all its lives and differs from all other jobs.

    An agent's job has the id that the agent sets in the environment. A process that was started by hand is a job by
    itself.
    """
    run = variables.get("TORCHELASTIC_RUN_ID", "")
    if not run or not variables.get("RANK") or not variables.get("WORLD_SIZE"):
        return _by_hand()
    if variables.get(ROUND_VARIABLE):
        return run
    # torchrun's id is `none` unless it is given, and people copy the id from an example.
    place = f"{variables.get('MASTER_ADDR', '')}:{variables.get('MASTER_PORT', '')}"
    if variables.get("TORCHELASTIC_USE_AGENT_STORE") != "True":  # the port may differ in each life
        place = f"process {os.getppid()}" if run == "none" else ""
    return "-".join(part for part in ("torchrun", "" if run == "none" else run, socket.gethostname(), place) if part)


@functools.cache
def _by_hand() -> str:
    return f"process-{os.getpid()}-{uuid.uuid4().hex[:8]}"


def job_processes(variables: Mapping[str, str] = os.environ) -> str:
    """Return the processes of this machine that have all ended once the job of this process is over."""
    keeper = variables.get(KEEPER_VARIABLE)
    if keeper:
        place, _, rest = keeper.partition(" ")
        return f"{processes(os.getpid())} {rest}" if place == _place() else ""
    if variables.get("TORCHELASTIC_RUN_ID") and variables.get("RANK"):
        return processes(os.getpid(), os.getppid())  # torchrun, or the agent's prepared process
    return processes(os.getpid())


def processes(*pids: int) -> str:
    """Return a text that identifies processes of this machine, empty if it would not distinguish them from later ones.

    It has the machine's boot and namespace of process ids, then for each process its id and its start.
    """
    starts = [_start(pid) for pid in pids]
    if not _place() or None in starts:
        return ""
    return " ".join([_place(), *(f"{pid}:{start}" for pid, start in zip(pids, starts, strict=True))])


def have_ended(text: str) -> bool:
    """Return whether processes have certainly all ended; never true for processes of another machine."""
    place, *named = text.split(" ")
    if not named or place != _place():
        return False
    return all(_start(pid) != start for pid, _, start in (entry.partition(":") for entry in named))


@functools.cache
def _place() -> str:
    """Return a text that identifies this machine since its last boot, and its namespace of process ids."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{socket.gethostname()}/{boot}/{os.readlink('/proc/self/ns/pid')}".replace(" ", "_")
    except OSError:
        return ""


def _start(pid: int | str) -> str | None:
    """Return the clock tick at which a process began, None if it has ended."""
    try:
        state, *fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (OSError, ValueError):
        return None
    return None if state in "ZX" else fields[18]
