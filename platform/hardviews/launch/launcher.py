"""`hardviews launch`: an elastic job whose nodes are processes of this machine.

It starts a coordinator and the nodes, and restarts processes that die, as a cluster would: any process may be killed.
If it is asked to stop, it makes the nodes save and leave.
"""

import argparse
import http.client
import json
import multiprocessing
import os
import re
import signal
import socket
import time
import uuid
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from multiprocessing.connection import Connection
from types import FrameType
from typing import NoReturn

from hardviews.checked import OPTION, at_least, require, within
from hardviews.elastic.address import LAST_PORT, NODE_VARIABLE, RENDEZVOUS_VARIABLE, check_free, reserve
from hardviews.elastic.coordinator import FAILED
from hardviews.elastic.node import digest
from hardviews.elastic.watchdog import Limits
from hardviews.elastic.worker import MISTAKE
from hardviews.errors import UserError
from hardviews.launch import EVALUATIONS, PREPARE, TRAININGS
from hardviews.launch.child import Child, say
from hardviews.launch.command_check import check_words
from hardviews.launch.invited import Invited

LOOPBACK = "127.0.0.1"
LEFT = (128 + signal.SIGTERM, 128 + signal.SIGINT, 128 + signal.SIGHUP)
"""Exit codes of a node that was asked to leave."""

_MODULE = "hardviews.cli"
_END = 40.0  # seconds for nodes to end after their coordinator

_DESCRIPTION = """Run an elastic job on this machine, a pretraining or an evaluation: a coordinator and some nodes, each
of them a process that may be killed at any time; it is started again. Ctrl-C saves and stops; the same command goes on
from there."""


@dataclass(frozen=True)
class LaunchConfig:
    """An elastic job on this machine."""

    least: int  # least number of nodes
    most: int
    processes: int  # number per node
    start: int  # number of nodes at first
    join: tuple[str, int] | None  # a running job to join with one node
    port: int  # port of the coordinator; 0: any
    gather: float  # seconds
    grace: float  # seconds
    command: tuple[str, ...]


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise UserError(f"hardviews launch: {message}. See hardviews launch --help.")


def configure(words: Sequence[str]) -> LaunchConfig:
    """Read the command line.

    Raises:
        UserError: it does not name a command to launch.
    """
    parser = _Parser(prog="hardviews launch", description=_DESCRIPTION, allow_abbrev=False)
    parser.add_argument("--nnodes", metavar="MIN:MAX", help="nodes (default: 1:2 to train, 1 to evaluate)")
    parser.add_argument("--nproc", type=int, default=1, metavar="N", help="processes a node (default: %(default)s)")
    parser.add_argument("--start", type=int, metavar="K", help="start only K nodes; others may join")
    parser.add_argument("--join", metavar="HOST:PORT", help="join a running job of this machine with one more node")
    parser.add_argument("--port", type=int, default=0, help="the coordinator's (default: a free one)")
    parser.add_argument("--gather", type=float, metavar="SECONDS", help="wait for nodes that have yet to come")
    parser.add_argument("--grace", type=float, default=60, metavar="SECONDS", help="to save and leave")
    parser.add_argument("command", nargs=argparse.REMAINDER, metavar="pretrain|knn|... ...", help="what each node runs")
    options = parser.parse_args(words)
    command = options.command[1:] if options.command[:1] == ["--"] else options.command
    options.nnodes = options.nnodes or ("1" if command[:1] and command[0] in EVALUATIONS else "1:2")
    match = re.fullmatch(r"(?:(\d+):)?(\d+)", options.nnodes)
    least, most = (int(match[1] or match[2]), int(match[2])) if match else (0, 0)
    if not 1 <= least <= most:
        raise UserError(
            f"--nnodes {options.nnodes} is no range of nodes. Write MIN:MAX, for example 1:3, or one number."
        )
    start = most if options.start is None else options.start
    if not 1 <= start <= most:
        raise UserError(f"--start {start} is not between 1 and {most}, the most nodes that --nnodes allows.")
    seconds = at_least(0).note("seconds")
    require(
        options,
        OPTION,
        nproc=at_least(1),
        port=within(0, LAST_PORT),
        gather=seconds.or_none(),
        grace=seconds,
    )
    if not command or command[0] not in (*TRAININGS, *EVALUATIONS):
        known = f"{', '.join(TRAININGS)} and evaluations ({', '.join(EVALUATIONS)})"
        said = f"runs {known}, not {command[0]}" if command else "is told what to run at the end of the line"
        raise UserError(f"hardviews launch {said}: hardviews launch --nnodes 1:2 pretrain digits --data D --output O")
    return LaunchConfig(
        least=least,
        most=most,
        processes=options.nproc,
        start=start,
        join=_place(options.join) if options.join else None,
        port=options.port,
        # A user who starts fewer nodes than allowed does not want to wait for the rest.
        gather=options.gather if options.gather is not None else (15.0 if start == most else 0.0),
        grace=options.grace,
        command=(_MODULE, *command),
    )


def _place(text: str) -> tuple[str, int]:
    host, _, port = text.rpartition(":")
    if not host or not port.isdecimal() or int(port) > LAST_PORT:
        raise UserError(f"--join {text} is no address. Write HOST:PORT, as the running job has printed it.")
    return host, int(port)


def _reserve(port: int) -> socket.socket:
    """Reserve the coordinator's port; if two jobs shared one, they would get each other's nodes."""
    try:
        check_free(LOOPBACK, port)
        return reserve(LOOPBACK, port)
    except OSError as error:
        raise UserError(
            f"--port {port} cannot be used ({error.strerror}). Give another one, or none: then a free one is taken. To "
            f"add a node to a job that runs there: hardviews launch --join {LOOPBACK}:{port} ..."
        ) from None


def _check(config: LaunchConfig) -> None:
    """Refuse words that every node would refuse, and more nodes than a batch has groups for, before any starts.

    A separate process reads them, because it loads large libraries that are not needed here again. A pipe returns
    the answer, since a pool would need locks in /dev/shm.
    """
    context = multiprocessing.get_context("fork")
    ours, theirs = context.Pipe(duplex=False)
    reader = context.Process(target=_read, args=(theirs, config))
    reader.start()
    theirs.close()
    try:
        answer = ours.recv()
    except EOFError:
        reader.join()
        raise UserError(
            f"The words after the options of launch could not be read: the process that reads them ended with exit "
            f"code {reader.exitcode}. Its own output says more."
        ) from None
    finally:
        ours.close()
        reader.join()
    if answer is not None:
        raise answer


def _read(answer: Connection, config: LaunchConfig) -> None:
    nodes = Invited(config.least, config.most, config.processes)
    form = "--nnodes {least}:{most}" + (" --nproc {processes}" if config.processes > 1 else "")
    try:
        check_words(config.command[1:], nodes, form)
    except (UserError, SystemExit) as error:
        answer.send(error)
    else:
        answer.send(None)


class Launcher:
    """Keeps the processes of a job alive until it is over."""

    def __init__(self, config: LaunchConfig) -> None:
        """Prepare; `run` starts."""
        self.config = config
        self.asked: list[int] = []  # signals received
        self.limits = Limits.read(os.environ)

    def run(self) -> int:
        """Run the job; return its exit code."""
        config = self.config
        cores = len(os.sched_getaffinity(0))
        if config.join is None and config.start * config.processes > cores:
            say(f"{config.start * config.processes} processes share {cores} cores: this tries elasticity, not speed")
        with ExitStack() as stack:
            for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
                stack.callback(signal.signal, number, signal.signal(number, self._ask))
            if config.join:
                return self._join(*config.join)
            holder = stack.enter_context(_reserve(config.port))
            _check(config)
            return self._run(f"local-{uuid.uuid4().hex[:8]}", LOOPBACK, holder.getsockname()[1])

    def _ask(self, number: int, frame: FrameType | None) -> None:
        self.asked.append(number)

    def _node(self, name: str, job: str, host: str, port: int, nodes: str, prefix: str) -> Child:
        config = self.config
        command = ["hardviews.elastic.agent", "--job", job, "--nodes", nodes, "--processes", str(config.processes)]
        command += ["--grace", str(config.grace), "--gather", str(config.gather)]
        command += ["--prepare", PREPARE, "--", *config.command]
        place = {RENDEZVOUS_VARIABLE: f"{host}:{port}", NODE_VARIABLE: name}
        return Child(name, command, place, prefix, self.limits.silent)

    def _run(self, job: str, host: str, port: int) -> int:
        config = self.config
        say(f"the coordinator is at {host}:{port}; another node joins with: hardviews launch --join {host}:{port} ...")
        place = {RENDEZVOUS_VARIABLE: f"{host}:{port}", NODE_VARIABLE: "coordinator"}
        silent = self.limits.silent
        coordinator = Child("the coordinator", ["hardviews.elastic.coordinator"], place, "", silent, trains=False)
        nodes = [
            self._node(name, job, host, port, f"{config.least}:{config.most}", f"[{name}] " if config.most > 1 else "")
            for name in (f"node-{i}" for i in range(config.start))
        ]
        told: set[str] = set()
        while (code := coordinator.look((0, FAILED))) is None and not self.asked:
            time.sleep(0.1)
            # A killed node is restarted, like a pod; a node that was asked to leave is not.
            codes = [node.look((0, MISTAKE, FAILED, *LEFT)) for node in nodes]
            if all(code in LEFT for code in codes):
                say("every node was asked to leave")
                self.asked.append(signal.SIGTERM)
            hopeless = [node for node in nodes if node.given_up]
            for node in hopeless:
                if node.name not in told:
                    told.add(node.name)
                    say(node.given_up)
            if len(nodes) - len(hopeless) < min(config.least, config.start):
                return self._give_up(nodes, coordinator)
        if coordinator.given_up:
            say(coordinator.given_up)
            return self._give_up(nodes, coordinator)
        if self.asked:
            return self._stop(nodes, coordinator)
        ends = [node.end(_END) for node in nodes]
        return MISTAKE if code and MISTAKE in ends else code or 0

    def _give_up(self, nodes: Sequence[Child], coordinator: Child) -> int:
        """End a job that cannot go on, because too few of its processes can be started."""
        for process in (*nodes, coordinator):
            process.signal(signal.SIGTERM)
        deadline = time.monotonic() + self.config.grace + 10
        for process in (*nodes, coordinator):
            process.end(deadline - time.monotonic())
        say("the job failed: too few of its nodes can be started")
        return FAILED

    def _stop(self, nodes: Sequence[Child], coordinator: Child | None) -> int:
        """Make all nodes save and leave."""
        number = self.asked[0]
        say("stopping: the nodes save and leave (once more: at once)")
        for node in nodes:
            node.signal(signal.SIGTERM)
        deadline = time.monotonic() + self.config.grace + 10
        impatient = False
        while any(node.running for node in nodes) and time.monotonic() < deadline:
            time.sleep(0.1)
            if len(self.asked) > 1 and not impatient:
                impatient = True
                for node in nodes:
                    node.signal(signal.SIGTERM)
        forced = [node.end(0) for node in nodes].count(None)
        if coordinator:
            coordinator.signal(signal.SIGTERM)
            coordinator.end(5)
        if forced:
            say(f"{forced} of {len(nodes)} nodes did not end in time and were killed")
        say("stopped; the same command goes on from the last checkpoint")
        return 128 + number

    def _join(self, host: str, port: int) -> int:
        job, bounds, command = ask_job(host, port)
        if command != digest(self.config.command):
            raise UserError(
                f"The job at {host}:{port} runs another command. A node that joins must be given the same words after "
                "the options of launch as the job was."
            )
        node = self._node(f"node-{uuid.uuid4().hex[:6]}", job, host, port, bounds, "")
        while (code := node.look((0, MISTAKE, FAILED, *LEFT))) is None and not self.asked:
            time.sleep(0.1)
        if node.given_up:
            say(node.given_up)
        return self._stop([node], None) if self.asked and code is None else code or 0


def ask_job(host: str, port: int) -> tuple[str, str, str]:
    """Ask a coordinator for its job: name, bounds, digest of the command."""
    connection = http.client.HTTPConnection(host, port, timeout=10)
    try:
        connection.request("GET", "/status")
        said = json.loads(connection.getresponse().read())
        bounds = said["bounds"]
        if said["job"] is None:
            raise UserError(f"The job at {host}:{port} has only begun. Try again in a moment.")
        return str(said["job"]), f"{bounds['least']}:{bounds['most']}", str(said["command"])
    except (OSError, http.client.HTTPException, ValueError, KeyError) as error:
        raise UserError(
            f"No job answers at {host}:{port} ({error or type(error).__name__}). Give the address that the running job "
            "has printed."
        ) from None
    finally:
        connection.close()


def run_launch(words: Sequence[str]) -> int:
    """Run `hardviews launch WORDS`; return the exit code of the job."""
    return Launcher(configure(words)).run()
