"""The environment of a job's script on Slurm: the job's id, its nodes, and the address of its coordinator."""

import random
import re
import socket
from collections.abc import Mapping
from dataclasses import dataclass

from hardviews.elastic.address import check_free
from hardviews.errors import UserError
from hardviews.launch.slurm.client import Refused, slurm

HOST_VARIABLE = "HARDVIEWS_COORDINATOR"
"""Environment variable of a trainer: the host of its job's coordinator."""

_PORTS = range(20000, 32768)  # below the kernel's ports for outgoing connections


@dataclass(frozen=True)
class Surroundings:
    """Id and nodes of a job, from the environment of its script.

    Attributes:
        job: id of the whole job.
        part: id of the part with the trainers; the same as `job` if the job has one part.
        nodes: names of the nodes of that part.
        group: number of that part; None if the job has one part.
    """

    job: str
    part: str
    nodes: tuple[str, ...]
    group: int | None

    @classmethod
    def read(cls, variables: Mapping[str, str], group: int | None) -> "Surroundings":
        """Read the variables that Slurm sets for a batch script.

        Raises:
            UserError: a variable is not set.
        """
        suffix = "" if group is None else f"_HET_GROUP_{group}"
        try:
            job, part = variables["SLURM_JOB_ID"], variables[f"SLURM_JOB_ID{suffix}"]
            listed = variables[f"SLURM_JOB_NODELIST{suffix}"]
        except KeyError as error:
            raise UserError(
                f"{error.args[0]} is not set: this program runs only inside a job of `torchx run -s slurm`."
            ) from None
        return cls(job, part, hostnames(listed), group)


def hostnames(listed: str) -> tuple[str, ...]:
    """Return the names in Slurm's short form of a list, such as `node[1-3]`."""
    if not listed or listed == "(null)":
        return ()
    if not re.search(r"[\[,]", listed):
        return (listed,)
    try:
        return tuple(slurm("scontrol", "show", "hostnames", listed).split())
    except Refused as error:
        raise UserError(f"Slurm cannot read its list of nodes {listed}: {error}.") from error


def address_of(node: str) -> str:
    """Return the address at which the other nodes reach a node."""
    try:
        found = re.search(r"\bNodeAddr=(\S+)", slurm("scontrol", "--oneliner", "show", "node", node))
    except (Refused, UserError):
        found = None
    return found[1] if found else node


def free_port(job: str) -> int:
    """Return a free port of this machine; jobs begin their search at different ports.

    Raises:
        UserError: no port is free.
    """
    order = list(_PORTS)
    random.Random(job).shuffle(order)
    for port in order[:1000]:
        try:
            check_free("0.0.0.0", port)
            return port
        except OSError:
            continue
    raise UserError(f"No port between {_PORTS.start} and {_PORTS.stop - 1} is free on {socket.gethostname()}.")
