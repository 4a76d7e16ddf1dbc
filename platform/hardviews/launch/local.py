"""The changes of a job that runs as plain processes on this machine."""

import os
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from torchx.specs import AppDef

from hardviews.elastic.address import RENDEZVOUS_VARIABLE
from hardviews.launch.component import COORDINATOR, GATE, module
from hardviews.launch.site import TRACKING

LOCAL_SCHEDULERS = ("local_cwd",)
"""TorchX schedulers whose roles are processes on this machine, started in the current folder."""

LOOPBACK = "127.0.0.1"


@contextmanager
def reserved_port() -> Iterator[int]:
    """Reserve a free loopback port, on which only our processes can listen.

    The socket is bound but does not listen, so connections reach only the process that binds it as well,
    with SO_REUSEPORT.
    """
    with socket.socket() as holder:
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        holder.bind((LOOPBACK, 0))
        yield holder.getsockname()[1]


def store_of(app: AppDef) -> dict[str, str]:
    """Return the variables with which a job on this machine reaches its object store, from its own environment."""
    given = {**os.environ, **{name: value for role in app.roles for name, value in role.env.items()}}
    return {name: value for name, value in given.items() if name.startswith("AWS_")}


def localise(app: AppDef, port: int) -> None:
    """Change the roles of one of our jobs for this machine; other jobs stay as they are.

    They use this interpreter, rendezvous on the loopback interface at `port`, and the tracking server of the
    environment, if there is one. Nothing holds the coordinator back: the other processes wait themselves, and no pods
    can be saved.
    """
    for role in app.roles:
        if module(role) is None:
            continue
        if module(role) == GATE:
            role.args = ["-m", COORDINATOR, *role.args[role.args.index("--") + 1 :]]
        role.env["PATH"] = str(Path(sys.executable).parent)
        role.env[RENDEZVOUS_VARIABLE] = f"{LOOPBACK}:{port}"
        if role.env.get(TRACKING.variable) == TRACKING.placeholder:
            del role.env[TRACKING.variable]
