"""The main program of an elastic job on Slurm: it runs the coordinator, and one step for each trainer.

It restarts a process that dies. Slurm and users send signals to it:

* SIGUSR1, sent by Slurm before the time limit: the trainers save and leave, and the job is queued again.
* SIGUSR2, sent by `torchx cancel`: the trainers save and leave, and the job is cancelled.
* SIGTERM, sent by Slurm to all processes of a job that it ends: the trainers leave already.
"""

import argparse
import contextlib
import os
import signal
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

from hardviews import streams
from hardviews.elastic.address import NODE_VARIABLE
from hardviews.elastic.coordinator import FAILED
from hardviews.elastic.node import digest
from hardviews.elastic.watchdog import Limits
from hardviews.elastic.worker import MISTAKE
from hardviews.errors import UserError
from hardviews.launch.child import Child
from hardviews.launch.launcher import ask_job
from hardviews.launch.slurm.client import Refused, slurm
from hardviews.launch.slurm.meeting import meeting_file, place_of, publish, reached
from hardviews.launch.slurm.step import LEFT, LINGER, Step, say
from hardviews.launch.slurm.surroundings import HOST_VARIABLE, Surroundings, address_of, free_port

_AGENT = "hardviews.elastic.agent"
_COORDINATOR = "hardviews.elastic.coordinator"
_LOOK = 0.2  # seconds between two checks of all processes
_LOOK_AT_JOB = 10.0  # seconds between two checks of a joined job
_KILLED = 120.0  # seconds for Slurm to end this script after the job is queued again or cancelled


@dataclass(frozen=True)
class BatchConfig:
    """The settings of an elastic job inside its batch script.

    Attributes:
        role: role of the trainers, which is part of the names of their logs.
        group: number of the job's part with the trainers; None if the job has one part.
        bounds: MIN:MAX, in nodes.
        cpus: cores of a trainer.
        gpus: GPUs of a trainer.
        grace: seconds that a trainer may take to save and leave.
        requeue: whether the job may be queued again.
        trains: whether the job takes steps; an evaluation does not.
        join: id of the job that these nodes join; empty if they do not join a job.
        secrets: file with credentials.
        srun: further arguments of `srun`.
        words: arguments of the agent, without job, bounds and coordinator.
    """

    role: str
    group: int | None
    bounds: str
    cpus: int
    gpus: int
    grace: float
    requeue: bool
    trains: bool
    join: str
    secrets: str
    srun: tuple[str, ...]
    words: tuple[str, ...]


def configure(arguments: Sequence[str]) -> BatchConfig:
    """Read the command line; the arguments of the agent come after the first `--`."""
    parser = argparse.ArgumentParser(description="Run an elastic job inside a batch script of Slurm.")
    parser.add_argument("--role", default="trainer", help="name of the role of the nodes")
    parser.add_argument("--group", type=int, help="number of the job's part with these nodes")
    parser.add_argument("--nodes", required=True, metavar="MIN:MAX")
    parser.add_argument("--cpus", type=int, default=1, help="cores of a node")
    parser.add_argument("--gpus", type=int, default=0, help="GPUs of a node")
    parser.add_argument("--grace", type=float, default=60, metavar="SECONDS", help="time to save and leave")
    parser.add_argument("--requeue", action="store_true", help="queue the job again before its time limit")
    parser.add_argument("--join", default="", metavar="JOB", help="running job to join")
    parser.add_argument("--secrets", default="", metavar="FILE", help="file with credentials")
    parser.add_argument("--srun", action="append", default=[], metavar="OPTION", help="further option of srun")
    place = arguments.index("--")
    read = parser.parse_args(arguments[:place])
    return BatchConfig(
        role=read.role,
        group=read.group,
        bounds=read.nodes,
        cpus=read.cpus,
        gpus=read.gpus,
        grace=read.grace,
        requeue=read.requeue,
        trains=read.role == "trainer",
        join=read.join,
        secrets=read.secrets,
        srun=tuple(read.srun),
        words=tuple(arguments[place + 1 :]),
    )


class Batch:
    """Keeps the processes of a job alive until the job is over."""

    def __init__(self, config: BatchConfig, here: Surroundings) -> None:
        """Prepare the job; `run` starts it."""
        self.config = config
        self.here = here
        self.folder = Path.cwd()
        self.asked: list[int] = []  # received signals

    def run(self) -> int:
        """Run the job; return its exit code."""
        for number in (signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2):
            signal.signal(number, self._ask)
        if self.config.join:
            return self._join()
        host, port = address_of(os.environ.get("SLURMD_NODENAME", "localhost")), free_port(self.here.job)
        command = [_COORDINATOR, "--host", "0.0.0.0", "--port", str(port)]
        silent = Limits.read(os.environ).silent
        coordinator = Child("the coordinator", command, {NODE_VARIABLE: "coordinator"}, "", silent, trains=False)
        steps = self._steps(f"slurm-{self.here.job}", self.config.bounds, host, port)
        publish(self.folder, self.here.job, f"{host}:{port}")
        say(f"the coordinator is at {host}:{port}; more nodes join with -cfg join={self.here.job}")
        try:
            return self._watch(coordinator, steps, port)
        finally:
            with contextlib.suppress(OSError):
                meeting_file(self.folder, self.here.job).unlink(missing_ok=True)

    def _ask(self, number: int, frame: FrameType | None) -> None:
        self.asked.append(number)

    def _steps(self, job: str, bounds: str, host: str, port: int) -> list[Step]:
        config = self.config
        task = [sys.executable, "-P", "-m", "hardviews.launch.slurm.task", "--folder", str(self.folder)]
        task += ["--secrets", config.secrets] if config.secrets else []
        agent = [_AGENT, "--job", job, "--nodes", bounds, "--host-variable", HOST_VARIABLE, "--port", str(port)]
        steps = []
        for number, node in enumerate(self.here.nodes):
            log = self.folder / f"slurm-{self.here.job}-{config.role}-{number}.log"
            step = ["srun", "--nodes=1", "--ntasks=1", f"--nodelist={node}", f"--cpus-per-task={config.cpus}"]
            step += [] if config.group is None else [f"--het-group={config.group}"]
            step += [f"--gpus-per-node={config.gpus}"] if config.gpus else []
            # A step uses all resources of its job even if the previous step has not ended yet. It does not end the job.
            step += ["--overlap", "--no-kill", "--kill-on-bad-exit=0", "--mpi=none", "--export=ALL"]
            step += ["--quiet", "--unbuffered", "--open-mode=append", f"--output={log}", *config.srun]
            variables = os.environ | {HOST_VARIABLE: host, NODE_VARIABLE: node}
            steps.append(
                Step(f"{config.role} {number} on {node}", [*step, *task, "--", *agent, *config.words], variables)
            )
        return steps

    def _watch(self, coordinator: Child, steps: Sequence[Step], port: int) -> int:
        alone: float | None = None  # time since which no trainer runs
        while (code := coordinator.look((0, FAILED))) is None and not self.asked:
            time.sleep(_LOOK)
            codes = [step.look() for step in steps]
            if None in codes:
                continue
            if all(one in LEFT for one in codes):
                say(f"every {self.config.role} was asked to leave")
                self.asked.append(signal.SIGUSR2)
            alone = alone or time.monotonic()
            if time.monotonic() - alone > LINGER:
                say(f"no {self.config.role} can run: the job fails")
                coordinator.signal(signal.SIGTERM)
                coordinator.end(5)
                return MISTAKE if MISTAKE in codes else FAILED
        if self.asked:
            return self._stop(steps, coordinator, port)
        if coordinator.given_up:
            say(coordinator.given_up)
        ends = [step.end(LINGER) for step in steps]
        return MISTAKE if code and MISTAKE in ends else code or 0

    def _stop(self, steps: Sequence[Step], coordinator: Child | None, port: int | None) -> int:
        """Let all trainers save and leave; then queue the job again or cancel it if that was requested."""
        number = self.asked[0]
        worked = not self.config.trains or port is None or reached("127.0.0.1", port) is not None
        say(f"{signal.Signals(number).name}: the processes save and leave")
        if number != signal.SIGTERM:  # Slurm sends SIGTERM to all of them
            self._tell("--signal=TERM", self.here.part)
        deadline = time.monotonic() + self.config.grace + 10
        for step in steps:
            step.end(deadline - time.monotonic())
        if coordinator:
            coordinator.signal(signal.SIGTERM)
            coordinator.end(5)
        if number == signal.SIGUSR2:
            self._tell(self.here.job)
            self._await_end()
        elif port is not None:
            self._requeue(number, worked)
        return 128 + signal.SIGTERM

    def _requeue(self, number: int, worked: bool) -> None:
        """Queue the job again, unless Slurm queues it or has cancelled it."""
        if number == signal.SIGTERM and self._state() != "RUNNING":
            return
        if not self.config.requeue:
            return say(
                "the job is not queued again: requeue=false. The same command continues from the last checkpoint"
            )
        if number == signal.SIGUSR1 and not worked:
            return say("the job is not queued again: its time limit came before its first step. Give it more time.")
        try:
            slurm("scontrol", "requeue", self.here.job)
        except (Refused, UserError) as error:
            return say(f"the job cannot be queued again ({error}); the same command continues from the last checkpoint")
        say("the job is queued again, and continues from the last checkpoint")
        self._await_end()

    def _await_end(self) -> None:
        """Wait until Slurm ends this script; an end of its own would end the job."""
        deadline, before = time.monotonic() + _KILLED, len(self.asked)
        while time.monotonic() < deadline and signal.SIGTERM not in self.asked[before:]:
            time.sleep(_LOOK)

    def _tell(self, *words: str) -> None:
        try:
            slurm("scancel", *words)
        except (Refused, UserError) as error:
            say(f"scancel {' '.join(words)}: {error}")

    def _state(self) -> str:
        try:
            return slurm("squeue", "--noheader", "--jobs", self.here.job, "--format", "%T").split("\n")[0].strip()
        except (Refused, UserError):
            return ""

    def _join(self) -> int:
        place = place_of(self.config.join)
        host, _, port = place.rpartition(":")
        job, bounds, command = ask_job(host, int(port))
        words = self.config.words
        if command != digest(words[words.index("--") + 1 :]):
            raise UserError(f"The job {self.config.join} runs another command. Give the same command.")
        steps = self._steps(job, bounds, host, int(port))
        looked = time.monotonic()
        while not self.asked and any(step.look() is None and step.running for step in steps):
            time.sleep(_LOOK)
            if time.monotonic() - looked > _LOOK_AT_JOB:
                looked = time.monotonic()
                with contextlib.suppress(UserError):
                    if place_of(self.config.join) == place:
                        continue
                say(f"the job {self.config.join} is over, or begins again: the nodes of this job leave")
                self.asked.append(signal.SIGUSR1)
        if self.asked:
            return self._stop(steps, None, None)
        return max(step.end(0) or 0 for step in steps)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the job; print one sentence for a mistake of the user."""
    streams.prepare()
    try:
        config = configure(sys.argv[1:] if arguments is None else arguments)
        return Batch(config, Surroundings.read(os.environ, config.group)).run()
    except UserError as error:
        print(f"the job cannot begin: {error}", file=sys.stderr, flush=True)
        return MISTAKE


if __name__ == "__main__":
    sys.exit(main())
