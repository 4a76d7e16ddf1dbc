"""What a job needs in order to run as plain processes of this machine."""

from __future__ import annotations

import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from torchx.specs import AppDef, Role

from hardviews.launch.address import RENDEZVOUS_VARIABLE
from hardviews.launch.site import TRACKING

LOCAL_SCHEDULERS = ("local_cwd",)
"""TorchX schedulers whose roles are processes of this machine, started in the current directory."""

LOOPBACK = "127.0.0.1"


@contextmanager
def reserved_port() -> Iterator[int]:
    """Keeps a free loopback port from all others while a process of ours may listen on it.

    The socket is bound but does not listen, so connections reach only the process that binds it as well,
    with SO_REUSEPORT.
    """
    with socket.socket() as holder:
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        holder.bind((LOOPBACK, 0))
        yield holder.getsockname()[1]


def runs_hardviews(role: Role) -> bool:
    """Whether the role's command is one of this package's modules."""
    return role.entrypoint == "python" and len(role.args) > 1 and role.args[1].startswith("hardviews.")


def localise(app: AppDef, port: int) -> None:
    """Changes the roles of one of our jobs for this machine; other jobs stay as they are.

    They use this interpreter, rendezvous on the loopback interface at `port`, and track where the
    environment says, if it does.
    """
    for role in filter(runs_hardviews, app.roles):
        role.env["PATH"] = str(Path(sys.executable).parent)
        role.env[RENDEZVOUS_VARIABLE] = f"{LOOPBACK}:{port}"
        if role.env.get(TRACKING.variable) == TRACKING.placeholder:
            del role.env[TRACKING.variable]
