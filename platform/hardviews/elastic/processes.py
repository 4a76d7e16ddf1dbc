"""The kernel's figures of processes on this machine, from /proc; without /proc nothing is known."""

import contextlib
import ctypes
import os
import signal
import sys
from pathlib import Path

STATES = {
    "R": "it runs",
    "S": "it waits",
    "D": "it waits for a disk or a network file system, and nothing can wake it",
    "T": "it was stopped by a signal",
    "t": "a debugger holds it",
    "Z": "it has ended",
    "I": "it is idle",
}
"""Descriptions of states of a process by their letters in /proc/PID/stat."""

STOPPED = ("T", "t")

_PR_SET_PDEATHSIG = 1  # linux/prctl.h
_TICKS = os.sysconf("SC_CLK_TCK")


def _stat(pid: int) -> list[str]:
    """Return the fields of /proc/PID/stat from the state on; empty if there is no such process."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (OSError, ValueError):
        return []


def state(pid: int) -> str:
    """Return the letter of a process's state; empty if it is not known."""
    fields = _stat(pid)
    return fields[0] if fields else ""


def seconds_used(pid: int) -> float | None:
    """Return the processor time of all threads of a process, in seconds; None if it is not known."""
    fields = _stat(pid)
    return (int(fields[11]) + int(fields[12])) / _TICKS if fields else None


def descendants(pid: int) -> list[int]:
    """Return the descendants of a process, without itself, parents first."""
    children: dict[int, list[int]] = {}
    try:
        listed = [int(name) for name in os.listdir("/proc") if name.isdigit()]
    except OSError:
        return []
    for other in listed:
        if fields := _stat(other):
            children.setdefault(int(fields[1]), []).append(other)
    found, ahead = [], [pid]
    while ahead:
        below = children.get(ahead.pop(0), [])
        found += below
        ahead += below
    return found


def catches(pid: int, number: int) -> bool:
    """Return whether a process has its own handler for a signal; without one the signal would kill it."""
    return bool(_mask(pid, "SigCgt") >> (number - 1) & 1)


def _mask(pid: int, name: str) -> int:
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1], 16) for line in lines if line.startswith(f"{name}:")), 0)


def described(pid: int) -> str:
    """Return a description of a process's state from the kernel, in a few words."""
    letter = state(pid)
    if not letter:
        return "gone"
    words = f"state {letter}: {STATES.get(letter, 'unknown')}"
    try:
        waiting = Path(f"/proc/{pid}/wchan").read_text().strip("0 \n")
    except OSError:
        waiting = ""
    return words + (f"; in the kernel's {waiting}" if waiting and letter in "DS" else "")


def memory_limit() -> tuple[int, str]:
    """Return the memory limit of this container, else of this machine: bytes, and the owner in words."""
    machine = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    for file in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        try:
            limit = int(Path(file).read_text())
        except (OSError, ValueError):
            continue  # the other version of cgroups, or no limit
        if limit < machine:
            return limit, "the limit"
    return machine, "the memory of this machine"


def end_with_parent() -> None:
    """Let the kernel kill this process when the thread that started it ends, also while it is stopped."""
    if sys.platform.startswith("linux"):
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)


def reap() -> None:
    """Reap ended orphans, which the first process of a container inherits."""
    if os.getpid() != 1:
        return
    from multiprocessing import forkserver, resource_tracker

    own = {forkserver._forkserver._forkserver_pid, resource_tracker._resource_tracker._pid}  # type: ignore[attr-defined]
    with contextlib.suppress(ChildProcessError):
        while (found := os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)) and found.si_pid not in own:
            os.waitpid(found.si_pid, os.WNOHANG)
