"""The settings of one node in a job: the agent's command line and its environment."""

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
    """The settings of one node in a job; times in seconds."""

    job: str  # equal on all nodes
    bounds: Bounds  # number of nodes
    processes: int  # number per node
    cpus: int  # cores of this node
    host: str  # host of the coordinator
    port: int
    local: bool  # all nodes are processes of this machine
    grace: float  # time for workers to save and leave after SIGTERM
    node: str
    limits: Limits  # limits of the watchdog
    prepare: str = ""  # module to import before processes are forked; empty: the command's own

    @property
    def threads(self) -> int:
        """Number of computing threads of each process."""
        cores = max(1, len(os.sched_getaffinity(0)) // self.bounds.most) if self.local else self.cpus
        return max(1, cores // self.processes)


def prepared(config: AgentConfig) -> dict[str, str]:
    """Return the variables that must be set before libraries are loaded for the processes."""
    return {
        "OMP_NUM_THREADS": str(config.threads),
        "OMP_WAIT_POLICY": os.environ.get("OMP_WAIT_POLICY") or "PASSIVE",
        # Otherwise numpy and Arrow (imported by pandas and MLflow) would start threads before the fork.
        "OPENBLAS_NUM_THREADS": "1",
        "JE_ARROW_MALLOC_CONF": "background_thread:false",
        # If GPUs were counted through the driver, it would be unusable after the fork.
        "PYTORCH_NVML_BASED_CUDA_CHECK": "1",
        "TORCHELASTIC_RUN_ID": config.job,
        NODE_VARIABLE: config.node,
        # On one machine the launcher restarts nodes; in a pod the kubelet does, which is invisible from here.
        **({KEEPER_VARIABLE: processes(os.getppid())} if config.local else {}),
    }


def digest(command: Sequence[str]) -> str:
    """Return a digest that identifies a job's command."""
    return hashlib.sha256("\0".join(command).encode()).hexdigest()


def configure(arguments: Sequence[str], variables: Mapping[str, str]) -> tuple[AgentConfig, list[str]]:
    """Read the command line; return the configuration and the module to run with its arguments.

    Raises:
        UserError: the limits of the watchdog cannot be read.
    """
    parser = argparse.ArgumentParser(description="Run one node of an elastic job.")
    parser.add_argument("--job", required=True, help="name of the job, equal on all nodes")
    parser.add_argument("--nodes", required=True, metavar="MIN:MAX")
    parser.add_argument("--processes", type=int, default=1, help="per node")
    parser.add_argument("--cpus", type=int, default=1, help="cores of this node, for the number of threads")
    parser.add_argument("--host-variable", default="", help="environment variable that holds the coordinator's host")
    parser.add_argument("--port", type=int, default=29500, help="the coordinator's")
    parser.add_argument(
        "--gather", type=float, default=15, metavar="SECONDS", help="wait for all nodes at the job's start"
    )
    parser.add_argument("--grace", type=float, default=60, metavar="SECONDS", help="time to save and leave")
    parser.add_argument(
        "--prepare",
        default="",
        metavar="MODULE",
        help="module to import before processes are forked (default: the command's)",
    )
    parser.add_argument("command", nargs="+", metavar="MODULE [ARGUMENT ...]")
    options = parser.parse_args(arguments)
    least, _, most = options.nodes.partition(":")
    place = address(variables)
    local = place is not None
    host, port = place or (variables.get(options.host_variable) or "localhost", options.port)
    # A mistake in the code fails every restart; on a local machine nobody waits for ten of them.
    bounds = Bounds(int(least), int(most or least), options.gather, tolerance=3 if local else 10)
    node = variables.get(NODE_VARIABLE) or (f"node-{os.getpid()}" if local else socket.gethostname())
    # TorchX's local scheduler kills remaining processes 10 s after SIGTERM; the workers must be gone by then.
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
