"""One node's share of a job: what the agent's command line and its environment say."""

import argparse
import hashlib
import os
import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from hardviews.elastic.address import NODE_VARIABLE, address
from hardviews.elastic.identity import KEEPER_VARIABLE, processes
from hardviews.elastic.messages import Bounds
from hardviews.elastic.watchdog import Limits


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
    limits: Limits  # of the watchdog
    prepare: str = ""  # module to import before processes are forked; empty: the command's own

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


def digest(command: Sequence[str]) -> str:
    """Return what tells a job's command from others."""
    return hashlib.sha256("\0".join(command).encode()).hexdigest()


def configure(arguments: Sequence[str], variables: Mapping[str, str]) -> tuple[AgentConfig, list[str]]:
    """Reads the command line; returns the configuration and the module to run with its arguments.

    Raises:
        UserError: the limits of the watchdog cannot be read.
    """
    parser = argparse.ArgumentParser(description="Run one node of an elastic job.")
    parser.add_argument("--job", required=True, help="name of the job, equal on all nodes")
    parser.add_argument("--nodes", required=True, metavar="MIN:MAX")
    parser.add_argument("--processes", type=int, default=1, help="per node")
    parser.add_argument("--cpus", type=int, default=1, help="of this node, for the number of threads")
    parser.add_argument("--host-variable", default="", help="environment variable that holds the coordinator's host")
    parser.add_argument("--port", type=int, default=29500, help="the coordinator's")
    parser.add_argument("--gather", type=float, default=15, metavar="SECONDS", help="for all nodes, at the job's start")
    parser.add_argument("--grace", type=float, default=60, metavar="SECONDS", help="to save and leave")
    parser.add_argument(
        "--prepare", default="", metavar="MODULE", help="to import before processes are forked (default: the command's)"
    )
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
        limits=Limits.read(variables),
        prepare=options.prepare,
    )
    return config, options.command
