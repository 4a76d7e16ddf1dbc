"""Key-value stores of torch.distributed that listen on one address instead of on all of them."""

from __future__ import annotations

import os
import socket
import time
from datetime import timedelta

from torch.distributed import DistError, Store, TCPStore

from hardviews.launch.worker import ROUND_VARIABLE


def listen(host: str, port: int, shared: bool = False) -> TCPStore:
    """Serves a store on exactly `host:port`.

    TCPStore alone would bind every interface of the machine, so the socket is bound here and handed over.

    Args:
        host: a name or an address of this machine.
        port: 0 takes a free one; read it from the store's `port`.
        shared: whether another process of this user holds the port reserved with SO_REUSEPORT.

    Raises:
        OSError: the address is not of this machine, or the port is taken.
    """
    family, kind, protocol, _, address = socket.getaddrinfo(
        host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )[0]
    with socket.socket(family, kind, protocol) as server:
        server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if shared:
            server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        server.bind(address)
        server.listen(1024)
        bound = server.getsockname()[1]
        # The store owns the descriptor from here on and closes it.
        return TCPStore(
            host_name=host if host not in {"0.0.0.0", "::"} else "localhost",
            port=bound,
            is_master=True,
            wait_for_workers=False,
            master_listen_fd=server.detach(),
        )


def connect(host: str, port: int, patience: float, timeout: float = 60.0) -> TCPStore:
    """Connects to the store at `host:port`, trying for `patience` seconds until it is there.

    Args:
        host: name or address; a name that does not resolve yet (a pod that starts) is tried again.
        port: port of the store.
        patience: seconds until the last failure is raised.
        timeout: seconds that an operation on the store may take afterwards.

    Raises:
        DistError: nobody answered in time.
    """
    deadline = time.monotonic() + patience
    while True:
        try:
            store = TCPStore(
                host_name=host,
                port=port,
                is_master=False,
                timeout=timedelta(seconds=max(1.0, deadline - time.monotonic())),
            )
        except DistError:
            if time.monotonic() >= deadline:
                raise
            time.sleep(0.5)
        else:
            store.set_timeout(timedelta(seconds=timeout))
            return store


def worker_store() -> tuple[Store, int, int]:
    """Builds the store of a process group from the environment that torchrun sets.

    Use it as `store, rank, world = worker_store(); init_process_group(..., store=store, rank=rank,
    world_size=world)`. `init_method="env://"` does the same, but there rank 0 listens on every interface.

    Returns:
        The store, this process's rank and the number of processes.
    """
    host, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
    rank, world = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    if os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True":
        # torchrun's agent serves the store itself, as it does unless it is told not to share it.
        return connect(host, port, patience=300, timeout=300), rank, world
    # Our agent keeps the port for us; torchrun's has only looked for a free one.
    kept = ROUND_VARIABLE in os.environ
    store = listen(host, port, shared=kept) if rank == 0 else connect(host, port, patience=300, timeout=300)
    return store, rank, world
