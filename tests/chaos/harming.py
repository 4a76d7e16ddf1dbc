"""A launched job and a server, and ways to harm them."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

from tests.elastic.processes import descendants
from tests.tracking.servers import free_port, mlflow_server

HARDVIEWS = Path(sys.executable).parent / "hardviews"


def _says(pid: int) -> str:
    try:
        return (Path("/proc") / str(pid) / "cmdline").read_text().replace("\0", " ")
    except OSError:
        return ""  # ended meanwhile


class Job:
    """The launched job and ways to harm it; each returns a description of its harm."""

    def __init__(self, folder: Path, words: list[str], environment: dict[str, str], seed: int) -> None:
        self._random = random.Random(seed)
        self.log = folder / "launch.log"
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [HARDVIEWS, "launch", "--nnodes", "1:3", *words],
                env=environment,
                stdout=log,
                stderr=log,
                cwd=folder,
                start_new_session=True,
            )

    def _named(self, module: str) -> list[int]:
        return [pid for pid in descendants(self.process.pid)[1:] if f"-m {module} " in f"{_says(pid)} "]

    def _agent(self) -> int | None:
        agents = self._named("hardviews.elastic.agent")
        return self._random.choice(agents) if agents else None

    def kill_node(self) -> str:
        agent = self._agent()
        return self._signal(descendants(agent), signal.SIGKILL, "a node killed") if agent else "no node to kill"

    def kill_process(self) -> str:
        agent = self._agent()
        below = descendants(agent)[1:] if agent else []
        return self._signal([self._random.choice(below)], signal.SIGKILL, "a process killed") if below else "no process"

    def freeze_node(self) -> str:
        agent = self._agent()
        if agent is None:
            return "no node to freeze"
        frozen, seconds = descendants(agent), self._random.uniform(1, 14)
        self._signal(frozen, signal.SIGSTOP, "")
        time.sleep(seconds)
        self._signal(frozen, signal.SIGCONT, "")
        return f"a node frozen for {seconds:.0f} s"

    def kill_coordinator(self) -> str:
        return self._signal(self._named("hardviews.elastic.coordinator"), signal.SIGKILL, "the coordinator killed")

    def end_process(self) -> str:
        agent = self._agent()
        below = descendants(agent)[1:] if agent else []
        return self._signal(below[-1:], signal.SIGTERM, "a process asked to leave")

    def _signal(self, pids: list[int], number: int, what: str) -> str:
        for pid in pids:
            try:
                os.kill(pid, number)
            except ProcessLookupError:
                continue
        return what

    def over(self) -> bool:
        return self.process.poll() is not None

    def close(self) -> None:
        for pid in reversed(descendants(self.process.pid)):
            self._signal([pid], signal.SIGCONT, "")
            self._signal([pid], signal.SIGKILL, "")
        self.process.wait(20)


class Server:
    """The MLflow server, ended and begun again at the same port."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._port = folder, free_port()
        self._begin()

    def _begin(self) -> None:
        self._context = mlflow_server(self._folder, self._port)
        self.uri = self._context.__enter__()

    def restart(self) -> str:
        self.close()
        time.sleep(2)
        self._begin()
        return "the MLflow server killed and begun again"

    def close(self) -> None:
        self._context.__exit__(None, None, None)
