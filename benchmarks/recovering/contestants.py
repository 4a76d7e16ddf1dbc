"""Ways to run the same elastic training on two nodes of this machine."""

import os
import shutil
import signal
import subprocess
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from recovering.processes import alive, below, kill_tree, tree
from recovering.timeline import Event, Tail, by_time

NODES = 2


class Contestant(ABC):
    """A job on this machine that can be started, disturbed and ended.

    `words` are the arguments of `hardviews`, `environment` that of all processes; `folder` keeps logs and timeline.
    """

    name = ""

    def __init__(self, words: Sequence[str], environment: Mapping[str, str], folder: Path) -> None:
        self.words, self.folder = list(words), folder
        folder.mkdir(parents=True)
        timeline = folder / "timeline.jsonl"
        self.tail = Tail(timeline)
        self.environment = {
            **environment,
            "HARDVIEWS_TIMELINE": str(timeline),
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",  # TorchX looks for torchrun there
        }
        self.processes: list[subprocess.Popen[bytes]] = []

    @abstractmethod
    def start(self) -> None:
        """Start the job, or start it again if it has ended."""

    def revive(self) -> None:
        """Start the killed nodes, if the job does not do that itself."""
        return

    def bosses(self) -> list[int]:
        """Return the processes whose children are nodes."""
        return [process.pid for process in self.processes]

    def over(self) -> bool:
        """Return whether the job has ended, or was never started."""
        return all(process.poll() is not None for process in self.processes)

    def events(self) -> list[Event]:
        """Return the notes of the processes so far."""
        return by_time(self.tail.events())

    def living(self, who: str) -> bool:
        """Return whether a process runs."""
        return alive(int(who))

    def kill(self, who: str) -> set[str]:
        """Kill the node that a process belongs to: agent, processes and all; return who was killed."""
        roots = [root for boss in self.bosses() if (root := below(boss, int(who))) is not None]
        return {str(pid) for root in roots for pid in kill_tree(root)}

    def end(self) -> None:
        """End whatever is left."""
        for process in self.processes:
            # Its children may have left its process group, but not its tree.
            with suppress(ProcessLookupError):
                os.kill(process.pid, signal.SIGSTOP)
            for pid in reversed(tree(process.pid)):
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            process.wait(30)
        self.processes = []

    def run(self, command: Sequence[str]) -> None:
        """Start a command beside those that run."""
        with (self.folder / "output.log").open("ab") as log:
            self.processes.append(
                subprocess.Popen(
                    command, stdout=log, stderr=log, cwd=self.folder, env=self.environment, start_new_session=True
                )
            )


class Hardviews(Contestant):
    """`hardviews launch`."""

    name = "hardviews launch"

    def start(self) -> None:
        """Start coordinator and nodes; those that die are started again by it."""
        self.run([program("hardviews"), "launch", "--nnodes", f"1:{NODES}", *self.words])


class Torchrun(Contestant):
    """`torchrun` with its defaults, once a node."""

    name = "torchrun"

    def __init__(self, words: Sequence[str], environment: Mapping[str, str], folder: Path, port: int) -> None:
        super().__init__(words, environment, folder)
        self.port = port

    def start(self) -> None:
        """Start all nodes."""
        for _ in range(NODES):
            self._start_node()

    def revive(self) -> None:
        """Start the killed processes again, as a cluster would."""
        self.processes = [process for process in self.processes if process.poll() is None]
        for _ in range(NODES - len(self.processes)):
            self._start_node()

    def bosses(self) -> list[int]:
        """Return this process: it has started the nodes."""
        return [os.getpid()]

    def _start_node(self) -> None:
        rendezvous = ["--rdzv-backend", "c10d", "--rdzv-endpoint", f"localhost:{self.port}", "--rdzv-id", "recovery"]
        node = ["--nnodes", f"1:{NODES}", "--nproc-per-node", "1"]
        self.run([program("torchrun"), *node, *rendezvous, "-m", "hardviews.cli", *self.words])


class DistDdp(Contestant):
    """TorchX's own component for elastic jobs, under its scheduler for this machine."""

    name = "dist.ddp"

    def start(self) -> None:
        """Start the job."""
        component = ["dist.ddp", "-j", f"1:{NODES}x1", "-m", "hardviews.cli", "--", *self.words]
        self.run([program("torchx"), "run", "-s", "local_cwd", "-cfg", f"log_dir={self.folder}/logs", *component])

    def end(self) -> None:
        """End it, and forget its logs, in which TorchX would refuse to run again."""
        super().end()
        shutil.rmtree(self.folder / "logs", ignore_errors=True)


def until(seconds: float, done: Callable[[], object], interval: float = 0.1) -> bool:
    """Wait until a function returns something true, for so long at most; return whether it has."""
    deadline = time.monotonic() + seconds
    while not done():
        if time.monotonic() > deadline:
            return False
        time.sleep(interval)
    return True


def program(name: str) -> str:
    """Return the path of a command that is installed beside this Python."""
    return str(Path(sys.executable).parent / name)
