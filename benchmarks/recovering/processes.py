"""Processes of this machine as a tree, read from /proc, and how to end a part of it at once."""

import os
import signal
from contextlib import suppress


def alive(pid: int) -> bool:
    """Return whether a process runs (a zombie does not)."""
    return _stat(pid)[0] not in ("", "Z")


def children() -> dict[int, list[int]]:
    """Return the children of every process."""
    found: dict[int, list[int]] = {}
    for name in os.listdir("/proc"):
        if name.isdigit():
            found.setdefault(_stat(int(name))[1], []).append(int(name))
    return found


def tree(root: int) -> list[int]:
    """Return a process and all that descend from it."""
    below = children()
    found = [root]
    for pid in found:
        found += below.get(pid, [])
    return found


def below(boss: int, pid: int) -> int | None:
    """Return the child of `boss` that `pid` is or descends from; None if there is none."""
    while pid > 1:
        parent = _stat(pid)[1]
        if parent == boss:
            return pid
        pid = parent
    return None


def kill_tree(root: int) -> list[int]:
    """Kill a process and its descendants outright, as a lost machine loses them; return who they were."""
    doomed = tree(root)
    for pid in doomed:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    return doomed


def _stat(pid: int) -> tuple[str, int]:
    """Return a process's state letter and its parent; ("", 0) if it is gone."""
    try:
        with open(f"/proc/{pid}/stat") as stat:
            state, parent = stat.read().rsplit(")", 1)[1].split()[:2]
        return state, int(parent)
    except (OSError, ValueError):
        return "", 0
