"""Runs probes at the same time, each in a process that is ended after its time limit.

A thread cannot be ended while it hangs in a driver, in a request or on a dead disk. A crash in a thread would end all.
"""

import json
import os
import select
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import asdict
from itertools import groupby

from hardviews.doctor.finding import Finding, missing, skipped
from hardviews.doctor.masking import masked
from hardviews.doctor.probe import Probe
from hardviews.doctor.settings import Doctor

_CHILD = "hardviews.doctor.child"
_START = 10.0  # seconds to start Python and import all probes on a busy machine, in addition to a probe's own time
_LEAVING = 2.0  # seconds between SIGTERM and SIGKILL

Result = tuple[Probe, list[Finding]]


def look_all(probes: Sequence[Probe], settings: Doctor) -> Iterator[Result]:
    """Yield each probe with its findings, in the order of the probes, while the others still run."""
    groups = _groups(probes)
    processes: list[subprocess.Popen[bytes]] = []
    pool = ThreadPoolExecutor(max(1, len(groups)), "probe")
    try:
        futures = [pool.submit(_look, group, settings, processes) for group in groups]
        found = {probe.name: future for group, future in zip(groups, futures, strict=True) for probe in group}
        for probe in probes:
            yield probe, found[probe.name].result()[probe.name]
    finally:
        for process in list(processes):
            _end(process)
        pool.shutdown(wait=True, cancel_futures=True)


def _groups(probes: Sequence[Probe]) -> list[list[Probe]]:
    """Return the probes that share a process, one list for each process."""
    ordered = sorted(enumerate(probes), key=lambda entry: (entry[1].together or f"{entry[0]}", entry[0]))
    return [
        [probe for _, probe in group]
        for _, group in groupby(ordered, key=lambda entry: entry[1].together or f"{entry[0]}")
    ]


def _look(
    group: Sequence[Probe], settings: Doctor, processes: list[subprocess.Popen[bytes]]
) -> dict[str, list[Finding]]:
    """Return the findings of the probes of one process, by the names of the probes."""
    with tempfile.TemporaryFile() as errors:
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", _CHILD, *(probe.name for probe in group)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            env={**os.environ, "PYTHONSAFEPATH": "1", "PYTHONIOENCODING": "utf-8"},
            start_new_session=True,  # programs that it starts, such as a login, then end with it
        )
        processes.append(process)
        try:
            assert process.stdin is not None and process.stdout is not None
            with suppress(BrokenPipeError), process.stdin:
                process.stdin.write(json.dumps(asdict(settings)).encode())
            lines = _Lines(process.stdout.fileno())
            found: dict[str, list[Finding]] = {}
            for number, probe in enumerate(group):
                seconds = max(probe.least, settings.timeout)
                line = lines.next(seconds + (0.0 if number else _START))
                if line:
                    found[probe.name] = [Finding.from_json(entry) for entry in json.loads(line)["findings"]]
                    continue
                late = line is None
                _end(process)
                errors.seek(0)
                said = errors.read().decode(errors="replace")
                found[probe.name] = [_unanswered(probe, seconds) if late else _ended(probe, process.returncode, said)]
                reason = f"the examination of {probe.name} did not end"
                found |= {other.name: [skipped(other.name, reason)] for other in group[number + 1 :]}
                break
            return found
        finally:
            _end(process)
            if process.stdout is not None:
                process.stdout.close()


class _Lines:
    """Lines of a pipe, each with a limit of time."""

    def __init__(self, stream: int) -> None:
        self._stream, self._rest = stream, b""

    def next(self, seconds: float) -> bytes | None:
        """Return the next line; empty if there are no more, None if it does not come in time."""
        deadline = time.monotonic() + seconds
        while b"\n" not in self._rest:
            left = deadline - time.monotonic()
            if left <= 0 or not select.select([self._stream], [], [], left)[0]:
                return None
            data = os.read(self._stream, 1 << 16)
            if not data:
                return b""
            self._rest += data
        line, _, self._rest = self._rest.partition(b"\n")
        return line


def _unanswered(probe: Probe, seconds: float) -> Finding:
    return missing(
        probe.name,
        f"no answer within {seconds:.0f} s",
        f"Check whether a disk, a driver or a server hangs. --timeout {2 * seconds:.0f} waits longer.",
    )


def _ended(probe: Probe, code: int | None, said: str) -> Finding:
    """Return the finding of a probe whose process ended by itself."""
    how = f"ended with exit code {code}"
    if code is not None and code < 0:
        how = f"was ended by {signal.Signals(-code).name}"
    lines = [line.strip() for line in masked(said).splitlines() if line.strip()]
    last = f": {lines[-1][:300]}" if lines else ""
    remedy = "Repair the library or driver in this message, and run hardviews doctor again."
    if code == -signal.SIGKILL:
        remedy = "Give this machine or container more memory: the kernel kills a process that exceeds the limit."
    return missing(probe.name, f"the process of this probe {how}{last}", remedy)


def _end(process: subprocess.Popen[bytes]) -> None:
    """End a process and all that it has started."""
    for number, seconds in ((signal.SIGTERM, _LEAVING), (signal.SIGKILL, _LEAVING)):
        if process.poll() is not None:
            break
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, number)
        with suppress(subprocess.TimeoutExpired):
            process.wait(seconds)
    if process.poll() is not None:
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)  # its remaining children
