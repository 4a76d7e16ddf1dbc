"""The agent: torchrun with the settings of an elastic job, started once on every node.

`python -m hardviews.launch.agent --job NAME --nodes 1:2 -- hardviews.cli pretrain ...` finds the coordinator,
waits a moment for the other nodes, and runs torchrun in this process. Every option of torchrun can be given
as an environment variable (`PET_MAX_RESTARTS=5`), which then wins over the settings here.
"""

from __future__ import annotations

import argparse
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from torch.distributed import DistError, Store, TCPStore
from torch.distributed.elastic.multiprocessing import SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
from torch.distributed.elastic.rendezvous.api import RendezvousError
from torch.distributed.run import parse_args as torchrun_arguments
from torch.distributed.run import run as torchrun

from hardviews.launch.address import RENDEZVOUS_VARIABLE, address
from hardviews.launch.coordinator import (
    ARRIVED,
    FAILED,
    FINISHED,
    LEFT,
    PULSE,
    announce_failure,
)
from hardviews.launch.store import connect
from hardviews.launch.worker import AGENT_VARIABLE

BEGUN = "hardviews/begun"  # set once the first round may start


@dataclass(frozen=True)
class AgentConfig:
    """One node's share of a job; times in seconds."""

    job: str  # equal on all nodes
    min_nodes: int
    max_nodes: int
    processes: int  # per node
    cpus: int  # of this node
    host: str  # the coordinator's
    port: int
    local: bool  # all nodes are processes of this machine
    gather: float  # at the job's start, at most so long for all nodes
    grace: int  # for workers to save and leave after SIGTERM


def torchrun_settings(config: AgentConfig) -> dict[str, str]:
    """The job's settings as torchrun's environment variables.

    A lost node is noticed after 3 s (keep-alive), and a smaller world goes on 2 s later (last call): with
    torchrun's defaults that takes 45 s. Sharing the store is off because a node that joins a running job
    would wait for an address that only the first round publishes.
    """
    cores = config.cpus
    settings = {
        "PET_NNODES": f"{config.min_nodes}:{config.max_nodes}",
        "PET_NPROC_PER_NODE": str(config.processes),
        "PET_RDZV_BACKEND": "c10d",
        "PET_RDZV_ENDPOINT": f"{config.host}:{config.port}",
        "PET_RDZV_ID": config.job,
        "PET_RDZV_CONF": "is_host=0,keep_alive_interval=1,keep_alive_max_attempt=3,last_call_timeout=2",
        "PET_MONITOR_INTERVAL": "0.5",
        "PET_MAX_RESTARTS": "100",
        "PET_SHUTDOWN_TIMEOUT": str(config.grace),
        "PET_TEE": "3" if config.processes > 1 else "0",
        "TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1",
        RENDEZVOUS_VARIABLE: f"{config.host}:{config.port}",
        AGENT_VARIABLE: str(os.getpid()),
    }
    if config.local:
        cores = max(1, len(os.sched_getaffinity(0)) // config.max_nodes)
        interface = "lo0" if sys.platform == "darwin" else "lo"
        settings |= {
            "PET_LOCAL_ADDR": config.host,
            # A mistake in the code meets every restart; nobody waits for a hundred of them at a desk.
            "PET_MAX_RESTARTS": "3",
            # The local scheduler kills the agent 10 s after SIGTERM; the workers have to be gone by then.
            "PET_SHUTDOWN_TIMEOUT": str(min(config.grace, 8)),
            "GLOO_SOCKET_IFNAME": interface,
            "NCCL_SOCKET_IFNAME": interface,
        }
    return settings | {"OMP_NUM_THREADS": str(max(1, cores // config.processes))}


def gather(store: Store, nodes: int, seconds: float) -> None:
    """Waits at the start of a job until `nodes` agents are there, at most `seconds`.

    Without it the first node would start alone after the last call and restart at once for the second. A
    node that joins later does not wait.
    """
    deadline = time.monotonic() + seconds
    store.add(ARRIVED, 1)
    while not store.check([BEGUN]) and store.add(ARRIVED, 0) < nodes and time.monotonic() < deadline:
        time.sleep(0.05)
    store.set(BEGUN, "1")


class Watch(threading.Thread):
    """Shows the coordinator that this agent lives, and ends the agent when its job or its launcher has ended.

    torchrun leaves on SIGTERM: it stops the workers and keeps the rendezvous open for the others.
    """

    def __init__(self, store: TCPStore, interval: float = 0.5) -> None:
        super().__init__(daemon=True)
        self.reason: str | None = None
        self._store = store
        self._interval = interval
        self._launcher = os.getppid()
        self._over = threading.Event()

    def run(self) -> None:
        """Looks twice a second until `stop`."""
        while not self._over.wait(self._interval):
            try:
                self._store.add(PULSE, 1)
                if self._store.check([FAILED]):
                    self.reason = self._store.get(FAILED).decode()
            except DistError:
                self.reason = "the coordinator is gone"
            if os.getppid() != self._launcher:
                self.reason = "the process that launched the job is gone"
            if self.reason is not None:
                logging.disable(logging.WARNING)  # torchrun's remarks on the signal would hide the reason
                os.kill(os.getpid(), signal.SIGTERM)
                return

    def stop(self) -> None:
        """Ends the thread."""
        self._over.set()
        self.join()


def run_agent(config: AgentConfig, command: Sequence[str]) -> int:
    """Runs `python -m COMMAND...` under torchrun until the job is over.

    Returns:
        The exit code: 0 when the job is done, 128 + signal where one ended this agent, else 1.
    """
    os.environ.update({k: v for k, v in torchrun_settings(config).items() if k not in os.environ or k[:4] != "PET_"})
    try:
        store = connect(config.host, config.port, patience=120)
        gather(store, config.max_nodes, config.gather)
        watch = Watch(connect(config.host, config.port, patience=10))
    except DistError:
        print(f"no coordinator answers at {config.host}:{config.port}", file=sys.stderr)
        return 1
    watch.start()
    code, over = 1, False
    try:
        torchrun(torchrun_arguments(["--module", *command]))
        code, over = 0, True
    except ChildFailedError as error:
        rank, failure = error.get_first_failure()
        over = True
        announce_failure(f"rank {rank} failed (exit code {failure.exitcode}) after all restarts: see its output")
    except SignalException as error:
        over = watch.reason is not None
        code = 1 if over else 128 + error.sigval
    except (RendezvousError, DistError) as error:
        # A node that comes when the work is done finds the rendezvous closed: nothing is left to do.
        code = 0 if _finished(store) else 1
        if code:
            print(f"the rendezvous at {config.host}:{config.port} failed: {error}", file=sys.stderr)
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        watch.stop()
        if over:
            _leave(store)
    return code


def _finished(store: Store) -> bool:
    try:
        return store.check([FINISHED])
    except DistError:
        return False


def _leave(store: Store) -> None:
    try:
        store.add(LEFT, 1)
    except DistError:
        return  # the coordinator has gone before us: nobody counts any more


def configure(arguments: Sequence[str], variables: Mapping[str, str]) -> tuple[AgentConfig, list[str]]:
    """Reads the command line; returns the configuration and the module to run with its arguments."""
    parser = argparse.ArgumentParser(description="Run one node of an elastic job.")
    parser.add_argument("--job", required=True, help="name of the job, equal on all nodes")
    parser.add_argument("--nodes", required=True, metavar="MIN:MAX")
    parser.add_argument("--processes", type=int, default=1, help="per node")
    parser.add_argument("--cpus", type=int, default=1, help="of this node, for the number of threads")
    parser.add_argument("--host-variable", default="", help="environment variable that holds the coordinator's host")
    parser.add_argument("--port", type=int, default=29500, help="the coordinator's")
    parser.add_argument("--gather", type=float, default=60, metavar="SECONDS")
    parser.add_argument("--grace", type=int, default=60, metavar="SECONDS")
    parser.add_argument("command", nargs="+", metavar="MODULE [ARGUMENT ...]")
    options = parser.parse_args(arguments)
    least, _, most = options.nodes.partition(":")
    place = address(variables)
    host = variables.get(options.host_variable) or "localhost"
    config = AgentConfig(
        job=options.job,
        min_nodes=int(least),
        max_nodes=int(most),
        processes=options.processes,
        cpus=options.cpus,
        host=place[0] if place else host,
        port=place[1] if place else options.port,
        local=place is not None,
        gather=options.gather,
        grace=options.grace,
    )
    return config, options.command


if __name__ == "__main__":
    sys.exit(run_agent(*configure(sys.argv[1:], os.environ)))
