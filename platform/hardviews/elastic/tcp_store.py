"""Key-value stores of torch.distributed that listen on one address instead of on all of them."""

import socket
import sys
import time
from datetime import timedelta

from torch.distributed import DistError, Store, TCPStore

from hardviews.elastic.environment import Launched
from hardviews.errors import UserError

_PATIENCE = 300.0  # seconds that processes wait for each other
_WORD = 15.0  # seconds of a wait until it is reported


def listen(host: str, port: int, shared: bool = False) -> TCPStore:
    """Serve a store on exactly `host:port`.

    TCPStore alone would bind every interface of the machine, so the socket is bound here and handed over.

    Args:
        host: name or address of this machine.
        port: port to listen on; 0 takes a free one, which the store's `port` holds.
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
    """Connect to the store at `host:port`, trying for `patience` seconds until it is there.

    Args:
        host: name or address; a name that does not resolve yet (a pod that starts) is tried again.
        port: port of the store.
        patience: seconds until the last failure is raised.
        timeout: seconds that an operation on the store may take afterwards.

    Raises:
        DistError: there was no answer in time.
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


def worker_store(me: Launched) -> Store:
    """Build the store of a process group.

    Use it as `init_process_group(..., store=worker_store(me), rank=me.rank, world_size=me.size)`. `init_method="env://"`
    does the same, but there rank 0 listens on every interface.

    Raises:
        UserError: the processes do not find each other, and were not started by our agent.
        OSError, DistError: the same for processes of an agent, which tries again.
    """
    try:
        if me.agent_store:
            # torchrun's agent serves the store itself, unless it is configured not to share it.
            return connect(me.host, me.port, patience=_PATIENCE, timeout=_PATIENCE)
        # Our agent keeps the port for us; torchrun's has only looked for a free one.
        if me.rank == 0:
            store = listen(me.host, me.port, shared=me.ours)
        else:
            store = connect(me.host, me.port, patience=_PATIENCE, timeout=_PATIENCE)
        if not me.ours:
            _gather(store, me)
    except (OSError, DistError) as error:
        if me.ours:
            raise
        raise UserError(
            f"Process {me.rank} of {me.size} (RANK, WORLD_SIZE) does not find the others at "
            f"{me.host}:{me.port} (MASTER_ADDR, MASTER_PORT): {_first_line(error)}. Start all {me.size} processes "
            "within five minutes, by `hardviews launch`, `torchx run` or `torchrun`; or, to train in one process, "
            "unset RANK and WORLD_SIZE."
        ) from error
    return store


def _gather(store: Store, me: Launched) -> None:
    """Wait for all processes, and report the wait: leftover variables may name processes that never come.

    Raises:
        DistError: not all processes came in time.
    """
    store.set(f"here/{me.rank}", "")
    keys = [f"here/{rank}" for rank in range(me.size)]
    deadline = time.monotonic() + _PATIENCE
    reported = False
    while True:
        try:
            store.wait(keys, timedelta(seconds=_WORD))
            return
        except DistError as error:
            missing = [str(rank) for rank, key in enumerate(keys) if not store.check([key])]
            if not missing:
                return
            text = f"of {me.size} processes, {len(missing)} have not come: rank {', '.join(missing[:8])}"
            if time.monotonic() >= deadline:
                raise DistError(text) from error
            if not reported:
                reported = True
                print(
                    f"process {me.rank} waits at {me.host}:{me.port}, at most {_PATIENCE:.0f} s: {text}",
                    file=sys.stderr,
                    flush=True,
                )


def _first_line(error: BaseException) -> str:
    return (str(error) or type(error).__name__).splitlines()[0].rstrip(".")
