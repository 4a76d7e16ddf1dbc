"""The agent: one a node, started once; it takes its node's processes from round to round until the job is over.

`python -m hardviews.launch.agent --job NAME --nodes 1:2 -- hardviews.cli pretrain ...` finds the coordinator, waits for
a round, and runs `python -m hardviews.cli pretrain ...` in as many processes as it is told, with the environment that
torchrun gives (RANK, WORLD_SIZE, MASTER_ADDR, ...). It imports no torch: it starts in a moment and takes little memory.

Exit codes: 0 when the training is complete, 2 when it failed by a mistake of the user, 3 when it failed for good
otherwise, 128 + signal when it was asked to leave.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import os
import signal
import socket
import sys
import time
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import FrameType

from hardviews import streams
from hardviews.errors import UserError
from hardviews.launch.address import NODE_VARIABLE, address, interface
from hardviews.launch.coordinator import FAILED
from hardviews.launch.identity import KEEPER_VARIABLE, processes
from hardviews.launch.messages import Bounds, Round, State, Verdict, View
from hardviews.launch.rendezvous import Rendezvous, RendezvousConfig
from hardviews.launch.timeline import mark
from hardviews.launch.worker import EVICTED, GRACE_VARIABLE, MISTAKE
from hardviews.launch.workers import ForkServer, Workers

TICK = 0.05  # seconds between two looks at everything
BEAT = 0.5  # seconds between two words to the processes

STRAGGLE = 2.0
"""Seconds that the other processes of a node, or one that has said that it fails, get to end by themselves."""

PREPARED = {"hardviews.cli": "hardviews.launch.preload"}
"""What to load before a command's processes are forked; else the command's own module."""


@dataclass(frozen=True)
class AgentConfig:
    """One node's share of a job; times in seconds."""

    job: str  # equal on all nodes
    bounds: Bounds  # in nodes
    processes: int  # per node
    cpus: int  # of this node
    host: str  # the coordinator's
    port: int
    local: bool  # all nodes are processes of this machine
    grace: float  # for workers to save and leave after SIGTERM
    node: str

    @property
    def threads(self) -> int:
        """How many threads of computation each process gets."""
        cores = max(1, len(os.sched_getaffinity(0)) // self.bounds.most) if self.local else self.cpus
        return max(1, cores // self.processes)


def prepared(config: AgentConfig) -> dict[str, str]:
    """Variables that have to stand in the environment before libraries are loaded for the processes."""
    return {
        "OMP_NUM_THREADS": str(config.threads),
        "OMP_WAIT_POLICY": os.environ.get("OMP_WAIT_POLICY") or "PASSIVE",
        # Threads of numpy's and Arrow's own (by pandas, by MLflow) would be there before the fork.
        "OPENBLAS_NUM_THREADS": "1",
        "JE_ARROW_MALLOC_CONF": "background_thread:false",
        # Counting GPUs through the driver would make it unusable after the fork.
        "PYTORCH_NVML_BASED_CUDA_CHECK": "1",
        "TORCHELASTIC_RUN_ID": config.job,
        NODE_VARIABLE: config.node,
        # On one machine the launcher starts nodes again; in a pod the kubelet does, which we do not see.
        **({KEEPER_VARIABLE: processes(os.getppid())} if config.local else {}),
    }


class _Over(Exception):
    """The agent's work is over, with this exit code."""

    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code


class Agent:
    """Takes a node's processes from round to round."""

    def __init__(self, config: AgentConfig, command: Sequence[str]) -> None:
        """Prepare; `run` does the work."""
        self.config = config
        self.command = list(command)
        self.asked: int | None = None  # the signal that asked to leave
        self.hasty = False  # asked twice: no grace
        self.launcher = os.getppid()
        self.reached: int | None = None
        self.server = ForkServer(PREPARED.get(command[0], command[0]))
        self.me = uuid.uuid4().hex
        self.rendezvous = Rendezvous(
            RendezvousConfig(
                config.host,
                config.port,
                config.job,
                digest(command),
                self.me,
                config.node,
                config.processes,
                config.bounds,
            )
        )

    def run(self) -> int:
        """Work until the job is over or a signal asks to leave; return the exit code."""
        mark("agent_started")
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, self._ask)
        os.environ.update(prepared(self.config))
        self.server.warm_up()
        self.rendezvous.start()
        try:
            while True:
                self._await_server()
                self._train(self._await_round())
        except _Over as over:
            return over.code
        finally:
            self.rendezvous.close()

    def _ask(self, number: int, frame: FrameType | None) -> None:
        self.hasty = self.asked is not None
        self.asked = number

    def _look(self) -> View | None:
        """Let a moment pass; return how the job stands.

        Raises:
            _Over: nothing is left to do for this agent.
        """
        time.sleep(TICK)
        _reap()
        if self.rendezvous.refusal:
            print(f"the agent of {self.config.node} is refused: {self.rendezvous.refusal}", file=sys.stderr, flush=True)
            raise _Over(MISTAKE)
        if self.config.local and os.getppid() != self.launcher:
            raise _Over(1)
        view = self.rendezvous.view
        if view and view.failed:
            raise _Over(MISTAKE if view.failed.user else FAILED)
        if view and view.finished:
            raise _Over(0)
        if view and view.reached is not None:
            self.reached = max(view.reached, self.reached or 0)
        return view

    def _await_server(self) -> None:
        """Wait until processes can be forked at once; the other nodes do not wait for this one until it asks."""
        if self.server.ready and self.server.lost:
            print("the prepared process has ended; loading anew", file=sys.stderr, flush=True)
            self.rendezvous.tell(State.PREPARING)
            self.server.warm_up()
        while not self.server.ready:
            self._look()
            if self.asked is not None and self.rendezvous.round is not None:
                raise _Over(128 + self.asked)

    def _await_round(self) -> Round:
        """Wait until the coordinator has chosen this agent for a round that it has not yet been in."""
        mark("rendezvous_began")
        serial = self.rendezvous.tell(State.WAITING, reached=self.reached)
        reminded = time.monotonic()
        while True:
            view = self._look()
            if self.asked is not None:
                raise _Over(128 + self.asked)
            if view and view.round and self.rendezvous.acknowledged(serial) and self._is_new(view.round):
                if not view.broken:
                    mark("rendezvous_done", round=view.round.number, nodes=len(view.round.members))
                    return view.round
                # Another member is lost already: take the round up and be through with it.
                serial = self.rendezvous.tell(State.WAITING, view.round)
            if view and not self.rendezvous.away and time.monotonic() - reminded > 30:
                reminded = time.monotonic()
                print(
                    f"waiting for a place among the nodes: {view.waiting} wait, {view.bounds.least} to "
                    f"{view.bounds.most} train",
                    file=sys.stderr,
                    flush=True,
                )

    def _is_new(self, round: Round) -> bool:
        """Whether this agent was chosen for a round and has not yet been in it."""
        last = self.rendezvous.round
        return round.place(self.me) is not None and (last is None or round.number > last.number)

    def _train(self, round: Round) -> None:
        """Run the processes of a round until they have ended."""
        place = round.place(self.me)
        assert place is not None  # the round was chosen for it
        variables = {GRACE_VARIABLE: str(self.config.grace)}
        if name := interface(round.members[place].address):
            # Else gloo takes the interface of whatever address the host's name has.
            variables |= {key: name for key in ("GLOO_SOCKET_IFNAME", "NCCL_SOCKET_IFNAME") if not os.environ.get(key)}
        self.rendezvous.tell(State.RUNNING, round)
        workers = Workers(self.server, round, place, self.reached, variables, self.command)
        mark("workers_started", round=round.number)
        try:
            self._watch(workers, round)
        except _Over as over:
            if over.code == 0:
                self._await_end(workers)
            # A job that has failed has nothing to save.
            workers.close(STRAGGLE if over.code else self.config.grace)
            raise
        except BaseException:
            workers.kill()
            raise

    def _await_end(self, workers: Workers) -> None:
        """The training is complete: let the processes end by themselves, for as long as a save may take."""
        deadline = time.monotonic() + self.config.grace
        while workers.alive and time.monotonic() < deadline and not self.hasty:
            workers.beat()
            time.sleep(TICK)

    def _watch(self, workers: Workers, round: Round) -> None:
        """Watch the processes of a round until all have ended, or have to."""
        deadline: float | None = None  # for the processes to end by themselves
        stopping = told = False
        beaten = 0.0
        while workers.alive:
            view = self._look()
            now = time.monotonic()
            workers.listen()
            if now - beaten >= BEAT:
                workers.beat()
                beaten = now
            self._tell_steps(workers)
            if (self.asked is not None or (view and view.joining)) and not stopping:
                stopping = True
                workers.signal(signal.SIGTERM)
                deadline = now + self.config.grace
            if self.asked is not None:
                self.rendezvous.tell(State.LEAVING)
                if self.hasty:
                    deadline = now
            if not told and self._is_broken(view, round):
                told = True
                if workers.failure is None:
                    mark("peer_lost", round=round.number, lost=list(view.lost) if view else [])
                workers.tell_broken()
                deadline = deadline or now + self.config.grace
            deadline = self._after_an_end(workers, deadline, stopping, now)
            if deadline is not None and now >= deadline:
                workers.kill()
        workers.listen()
        self._tell_steps(workers)
        self._conclude(workers, round, stopping)

    def _tell_steps(self, workers: Workers) -> None:
        if workers.reached is not None:
            self.reached = max(workers.reached, self.reached or 0)
            self.rendezvous.tell(stepped=True, reached=self.reached)

    def _is_broken(self, view: View | None, round: Round) -> bool:
        """Whether the coordinator says that this round cannot go on, or has gone on with another."""
        if view is None or view.round is None or view.round.number < round.number:
            return False
        return view.round != round or view.broken

    def _after_an_end(self, workers: Workers, deadline: float | None, stopping: bool, now: float) -> float | None:
        """When one process has ended, or says that it fails, limit the time of the others of this node."""
        codes = {worker.code for worker in workers.all}
        if any(worker.rank == 0 and worker.code == 0 for worker in workers.all):
            self.rendezvous.tell(finished=True)
        failure = workers.failure
        if failure and not stopping:
            self.rendezvous.tell(failure=failure)
            limit = now + STRAGGLE
            return limit if deadline is None or (EVICTED not in codes and deadline > limit) else deadline
        if EVICTED in codes and deadline is None:
            return now + self.config.grace
        return deadline

    def _conclude(self, workers: Workers, round: Round, stopping: bool) -> None:
        """Draw the consequence of how the processes have ended."""
        codes = [worker.code for worker in workers.all]
        failure = workers.failure
        mistake = next((worker for worker in workers.all if worker.user or worker.code == MISTAKE), None)
        workers.kill()
        if codes and all(code == 0 for code in codes):
            return self._await_finish(round, finished=any(worker.rank == 0 for worker in workers.all))
        if mistake is not None:
            reason = mistake.failing or f"rank {mistake.rank} met a mistake that no restart mends: see its output"
            self._fail(Verdict(reason, user=True))
        if self.asked is not None:
            raise _Over(128 + self.asked)
        if failure and not stopping:
            mark("worker_failed", round=round.number, failed=failure.rank, peer=failure.peer)
            self.rendezvous.tell(failure=failure)
        return None

    def _await_finish(self, round: Round, finished: bool) -> None:
        """This node is done: wait for the others, unless the round breaks before rank 0 is done as well."""
        self.rendezvous.tell(State.DONE, finished=finished)
        while not self._is_broken(self._look(), round):
            if self.asked is not None and not finished:
                raise _Over(128 + self.asked)

    def _fail(self, verdict: Verdict) -> None:
        """End the job on all nodes: tell the coordinator, as long as it takes."""
        self.rendezvous.tell(failed=verdict)
        while True:
            self._look()
            if self.asked is not None:
                raise _Over(128 + self.asked)


def digest(command: Sequence[str]) -> str:
    """Return what tells a job's command from others."""
    return hashlib.sha256("\0".join(command).encode()).hexdigest()


def _reap() -> None:
    """Take note of ended processes that were handed to this one, as to every first process of a container."""
    if os.getpid() != 1:
        return
    from multiprocessing import forkserver, resource_tracker

    own = {forkserver._forkserver._forkserver_pid, resource_tracker._resource_tracker._pid}  # type: ignore[attr-defined]
    with contextlib.suppress(ChildProcessError):
        while (found := os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)) and found.si_pid not in own:
            os.waitpid(found.si_pid, os.WNOHANG)


def configure(arguments: Sequence[str], variables: Mapping[str, str]) -> tuple[AgentConfig, list[str]]:
    """Reads the command line; returns the configuration and the module to run with its arguments."""
    parser = argparse.ArgumentParser(description="Run one node of an elastic job.")
    parser.add_argument("--job", required=True, help="name of the job, equal on all nodes")
    parser.add_argument("--nodes", required=True, metavar="MIN:MAX")
    parser.add_argument("--processes", type=int, default=1, help="per node")
    parser.add_argument("--cpus", type=int, default=1, help="of this node, for the number of threads")
    parser.add_argument("--host-variable", default="", help="environment variable that holds the coordinator's host")
    parser.add_argument("--port", type=int, default=29500, help="the coordinator's")
    parser.add_argument("--gather", type=float, default=15, metavar="SECONDS", help="for all nodes, at the job's start")
    parser.add_argument("--grace", type=float, default=60, metavar="SECONDS", help="to save and leave")
    parser.add_argument("command", nargs="+", metavar="MODULE [ARGUMENT ...]")
    options = parser.parse_args(arguments)
    least, _, most = options.nodes.partition(":")
    place = address(variables)
    local = place is not None
    host, port = place or (variables.get(options.host_variable) or "localhost", options.port)
    # A mistake in the code meets every restart; at a desk nobody waits for ten of them.
    bounds = Bounds(int(least), int(most or least), options.gather, tolerance=3 if local else 10)
    node = variables.get(NODE_VARIABLE) or (f"node-{os.getpid()}" if local else socket.gethostname())
    # TorchX's local scheduler kills what has not ended 10 s after SIGTERM; the workers have to be gone by then.
    grace = min(options.grace, 8.0) if local and "TORCHX_JOB_ID" in variables else options.grace
    config = AgentConfig(
        job=options.job,
        bounds=bounds,
        processes=options.processes,
        cpus=options.cpus,
        host=host,
        port=port,
        local=local,
        grace=grace,
        node=node,
    )
    return config, options.command


def main() -> int:
    """Run the agent of one node; return its exit code."""
    streams.prepare()
    try:
        return Agent(*configure(sys.argv[1:], os.environ)).run()
    except UserError as error:
        print(f"the agent cannot begin: {error}", file=sys.stderr, flush=True)
        return MISTAKE


if __name__ == "__main__":
    sys.exit(main())
