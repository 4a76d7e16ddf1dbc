"""One pair of processes in a gloo group, started once, that runs whatever two-process tests ask of it."""

import multiprocessing
import os
import pickle
import sys
import traceback
from collections.abc import Callable
from datetime import timedelta
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

WORLD = 2
# A process that fails leaves the other one waiting in a collective for so long.
PATIENCE = timedelta(seconds=30)
START = 150.0  # seconds until both have imported everything and found each other


class Pair:
    """Runs functions of importable modules on both ranks; processes that failed are replaced."""

    def __init__(self, folder: Path, patience: timedelta = PATIENCE) -> None:
        self.folder, self.patience = folder, patience
        self.started = 0
        self.processes: list[Any] = []
        self.pipes: list[Connection] = []

    def start(self, function: Callable[..., Any], *arguments: Any) -> None:
        """Have both ranks begin to run the function; `results` waits for them."""
        if not self.processes:
            self._spawn()
        for pipe in self.pipes:
            pipe.send_bytes(pickle.dumps((function, arguments)))

    def results(self) -> list[Any]:
        """Return the results of the ranks, in order."""
        answers: dict[int, Any] = {}
        while len(answers) < WORLD:
            waiting = [pipe for rank, pipe in enumerate(self.pipes) if rank not in answers]
            for pipe in wait(waiting, timeout=2 * self.patience.total_seconds()) or [None]:
                rank = self.pipes.index(pipe) if pipe is not None else -1
                try:
                    done, answer = pickle.loads(pipe.recv_bytes()) if pipe is not None else (False, "no answer")
                except EOFError:
                    done, answer = False, "the process died"
                if not done:
                    self.stop()
                    raise RuntimeError(f"rank {rank}: {answer}")
                answers[rank] = answer
        return [answers[rank] for rank in range(WORLD)]

    def run(self, function: Callable[..., Any], *arguments: Any) -> list[Any]:
        self.start(function, *arguments)
        return self.results()

    def stop(self) -> None:
        for process in self.processes:
            process.kill()
            process.join()
        self.processes, self.pipes = [], []

    def _spawn(self) -> None:
        self.started += 1
        spawn = multiprocessing.get_context("spawn")
        for rank in range(WORLD):
            ours, theirs = spawn.Pipe()
            store = self.folder / f"store{self.started}"
            process = spawn.Process(target=serve, args=(rank, str(store), theirs, self.patience), daemon=True)
            process.start()
            theirs.close()
            self.processes.append(process)
            self.pipes.append(ours)
        # Imports take long on a busy machine; later programs have their own patience.
        for pipe in self.pipes:
            if not pipe.poll(START):
                self.stop()
                raise RuntimeError("the pair did not start")
            pipe.recv_bytes()


def serve(rank: int, store: str, pipe: Connection, patience: timedelta) -> None:
    """Join the group and answer requests until the other end closes."""
    os.environ["GLOO_SOCKET_IFNAME"] = "lo0" if sys.platform == "darwin" else "lo"
    torch.set_num_threads(1)
    import hardviews.train.loop  # noqa: F401  (all that a test may need)

    dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=WORLD, timeout=patience)
    pipe.send_bytes(b"ready")
    while True:
        try:
            function, arguments = pickle.loads(pipe.recv_bytes())
        except EOFError:
            return
        try:
            answer = True, function(*arguments)
        except Exception:
            answer = False, traceback.format_exc()
        pipe.send_bytes(pickle.dumps(answer))
