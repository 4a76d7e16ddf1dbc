"""The checks of a job's command before the job starts, in a separate process that runs meanwhile.

Its imports take seconds, more than all other work of `torchx run`. A job on this machine waits for them too: otherwise
each of its processes would report a mistake, after the same imports.
"""

import json
import os
import select
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from torchx.specs import AppDef, Role

from hardviews.launch.command_check import STORE_BOUND, Job
from hardviews.launch.component import AGENT, COMMAND, module

READING = 120.0  # seconds: on a busy machine the imports take long

_CHECK = "hardviews.launch.command_check"


def command(role: Role) -> list[str] | None:
    """Return the words of the `hardviews` command that a role runs, or None if it runs another program."""
    if module(role) is None or COMMAND not in role.args:
        return None
    return list(role.args[role.args.index(COMMAND) + 1 :])


def job_of(app: AppDef, scratch: int | None = None, local: bool = False) -> Job | None:
    """Return the checkable facts of an application, or None if it does not run our command.

    Args:
        app: the application.
        scratch: local disk of a pod in MB, if it is limited and the cache of shards lies there.
        local: whether its processes run on this machine, with all its GPUs.
    """
    for role in app.roles:
        words = command(role)
        if words:
            elastic = module(role) == AGENT
            nodes = (role.min_replicas or 1, role.num_replicas, _processes(role)) if elastic else None
            gpus = None if local else max(0, role.resource.gpu)
            return Job(words, nodes, scratch, gpus, here=local, variables=dict(role.env))
    return None


def _processes(role: Role) -> int:
    return int(role.args[role.args.index("--processes") + 1])


class Preflight:
    """Checks one job after the other, the first from its creation on; `close` ends its process."""

    def __init__(self, job: Job) -> None:
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115  # closed by `close`
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", _CHECK],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            # Messages are extracted from frames, whose lines depend on the encoding.
            env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONIOENCODING": "utf-8", "PYTHONSAFEPATH": "1"},
        )
        self._rest = b""
        self._late = False
        self.begin(job)

    def begin(self, job: Job) -> None:
        """Begin the check of a job; `words` and `places` then refer to this job."""
        self._send(asdict(job))

    def words(self) -> tuple[list[str], list[str], str | None]:
        """Return the mistakes in the command's words, the checks that need torch, and why none were made."""
        answer = self._receive(READING)
        return (answer["mistakes"], answer["unchecked"], None) if answer else ([], [], self._failure())

    def places(self, store: Mapping[str, str]) -> tuple[list[str], list[str], str | None]:
        """Return the mistakes in the job's places, remarks on them, and the reason if some could not be checked.

        Args:
            store: environment variables with which the object store is reached from here.
        """
        self._send({"store": dict(store)})
        answer = self._receive(STORE_BOUND + 10)
        return (answer["mistakes"], answer["remarks"], answer["unseen"]) if answer else ([], [], self._failure())

    def close(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.communicate()
        self._errors.close()

    def _send(self, message: Mapping[str, Any]) -> None:
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps(message).encode() + b"\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            return  # it has ended: there will be no answer

    def _receive(self, seconds: float) -> dict[str, Any] | None:
        assert self._process.stdout is not None
        stream, deadline = self._process.stdout.fileno(), time.monotonic() + seconds
        while b"\n" not in self._rest:
            left = deadline - time.monotonic()
            if left <= 0 or not select.select([stream], [], [], left)[0]:
                self._late = True
                return None
            data = os.read(stream, 1 << 16)
            if not data:
                return None
            self._rest += data
        line, _, self._rest = self._rest.partition(b"\n")
        return dict(json.loads(line))

    def _failure(self) -> str:
        if self._late:
            return "it took too long"
        self._process.wait()
        self._errors.seek(0)
        lines = [line for line in self._errors.read().decode(errors="replace").splitlines() if line.strip()]
        return lines[-1] if lines else f"the process ended with exit code {self._process.returncode}"
