"""A job of real agents, a real coordinator and toy processes, for tests that harm it."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from hardviews.elastic.address import reserve
from tests.elastic.processes import descendants

NODES = 3


class Job:
    """A coordinator and nodes of the toy, each a process of its own."""

    def __init__(self, folder: Path, *options: str, nodes: int = NODES, watchdog: str = "", **variables: str) -> None:
        self.folder = folder
        self.watchdog = watchdog
        self.gather = 10 if nodes == NODES else 0.5 * nodes
        self.options = options
        self.holder = reserve("127.0.0.1")
        self.place = f"127.0.0.1:{self.holder.getsockname()[1]}"
        self.log = (folder / "log").open("ab")
        self.everything: list[subprocess.Popen[bytes]] = []
        self.nodes: dict[str, subprocess.Popen[bytes]] = {}
        self.coordinator = self.start_coordinator()
        for number in range(nodes):
            self.start_node(f"n{number}", **variables)

    def _start(self, *words: str, **variables: str) -> subprocess.Popen[bytes]:
        environment = os.environ | {"HARDVIEWS_RENDEZVOUS": self.place, "HARDVIEWS_WATCHDOG": self.watchdog} | variables
        process = subprocess.Popen(
            [sys.executable, "-m", *words], env=environment, stdout=self.log, stderr=self.log, start_new_session=True
        )
        self.everything.append(process)
        return process

    def start_coordinator(self) -> subprocess.Popen[bytes]:
        self.coordinator = self._start("hardviews.elastic.coordinator")
        return self.coordinator

    def start_node(self, name: str, **variables: str) -> subprocess.Popen[bytes]:
        words = ["--job", "toy", "--nodes", f"1:{NODES}", "--gather", str(self.gather), "--grace", "20", "--"]
        words += ["tests.elastic.toy_member", str(self.folder), *self.options]
        self.nodes[name] = self._start("hardviews.elastic.agent", *words, HARDVIEWS_NODE=name, **variables)
        return self.nodes[name]

    def kill_node(self, name: str) -> None:
        """As a crash of the node does: everything at once."""
        for pid in descendants(self.nodes[name].pid):
            os.kill(pid, signal.SIGKILL)

    def lines(self, name: str) -> list[dict]:
        file = self.folder / name
        return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []

    def life(self, node: str) -> dict:
        """The newest life of a node's process."""
        return [life for life in self.lines("lives") if life["node"] == node][-1]

    def leader(self) -> str:
        return next(life["node"] for life in reversed(self.lines("lives")) if life["rank"] == 0)

    def step(self) -> dict:
        return self.lines("steps")[-1]

    def stepping(self, world: int, since: float) -> bool:
        """Whether a world of that size has taken steps since a time."""
        steps = self.lines("steps")
        return bool(steps) and steps[-1]["world"] == world and steps[-1]["time"] > since

    def said(self) -> str:
        return (self.folder / "log").read_text(errors="replace")

    def until(self, what: Callable[[], object], seconds: float = 30) -> float:
        """Wait for something; return how long it took."""
        began = time.monotonic()
        while not what():
            assert time.monotonic() - began < seconds, self.said()
            time.sleep(0.02)
        return time.monotonic() - began

    def until_stepping(self, world: int, seconds: float = 30) -> float:
        since = time.time()
        return self.until(lambda: self.stepping(world, since), seconds)

    def make_whole(self) -> None:
        """Start ended nodes again, and wait until all nodes train."""
        if self.coordinator.poll() is not None:
            self.start_coordinator()
        for name, process in list(self.nodes.items()):
            if process.poll() is not None:
                self.start_node(name)
        self.until_stepping(NODES)

    def close(self) -> None:
        pids = [pid for process in self.everything for pid in descendants(process.pid)]
        for pid in pids:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        for process in self.everything:
            process.wait(10)
        self.holder.close()
        self.log.close()
