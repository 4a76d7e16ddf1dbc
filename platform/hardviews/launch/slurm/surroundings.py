"""What Slurm tells a job's own script of the job: its id, its nodes, where its coordinator is."""

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

_PORTS = range(20000, 32768)  # below those that the kernel gives to outgoing connections


@dataclass(frozen=True)
class Surroundings:
    """A job as its script finds it.

    Attributes:
        job: the id by which the whole job is known.
        part: the id of the part that has the trainers; the same as `job` if the job has one part.
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
            UserError: they are not there.
        """
        suffix = "" if group is None else f"_HET_GROUP_{group}"
        try:
            job, part = variables["SLURM_JOB_ID"], variables[f"SLURM_JOB_ID{suffix}"]
            listed = variables[f"SLURM_JOB_NODELIST{suffix}"]
        except KeyError as error:
            raise UserError(
                f"{error.args[0]} is not set: this runs inside a job that `torchx run -s slurm` makes."
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
    """Return the address under which the other nodes reach one."""
    try:
        found = re.search(r"\bNodeAddr=(\S+)", slurm("scontrol", "--oneliner", "show", "node", node))
    except (Refused, UserError):
        found = None
    return found[1] if found else node


def free_port(job: str) -> int:
    """Return a port of this machine that nobody listens on; each job begins to look at another one.

    Raises:
        UserError: there is none.
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
