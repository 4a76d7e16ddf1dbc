"""A clean copy of the training process from which its data loader's workers are forked.

Workers must not be forked from a process that trains. Its threads and its connections to other ranks and object stores
do not survive a fork. A connection that a worker holds open also hides the end of the process that opened it. Python's
own fork server begins with nothing imported, which costs every life of a run seconds before its first batch. So a
process that is about to train copies itself once, before it opens anything, and its workers are copies of the copy.
"""

import os
import signal
import socket
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from multiprocessing import connection, forkserver, resource_tracker, util
from typing import Any

import cv2
import torch

from hardviews.elastic.processes import end_with_parent
from hardviews.elastic.sockets import use_short_folder


@contextmanager
def nursery(workers: int) -> Iterator[None]:
    """Make processes started by the method `forkserver` copies of this process in its present state.

    Do nothing if no workers are needed, if they cannot be made to end with this process (Linux can), or if CUDA is
    initialised already, which no copy could use.
    """
    server: Any = forkserver._forkserver
    if not workers or not sys.platform.startswith("linux") or torch.cuda.is_initialized():
        yield
        return
    before = vars(server).copy()
    address, alive, pid = _copy()
    vars(server).update(_forkserver_address=address, _forkserver_alive_fd=alive, _forkserver_pid=pid)
    try:
        yield
    finally:
        names = ("_forkserver_address", "_forkserver_alive_fd", "_forkserver_pid")
        if vars(server)["_forkserver_pid"] == pid:
            vars(server).update({name: before[name] for name in names})
            os.close(alive)
        # Otherwise the copy was killed: Python has dropped it, and started a server of its own.
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
        with suppress(ChildProcessError):
            os.waitpid(pid, 0)


def _copy() -> tuple[str, int, int]:
    """Fork the server; return its address, the descriptor that all its users hold, and its process id."""
    use_short_folder()
    resource_tracker.ensure_running()
    parent = os.getpid()
    with socket.socket(socket.AF_UNIX) as listener:
        address = connection.arbitrary_address("AF_UNIX")  # type: ignore[attr-defined]
        listener.bind(address)
        if not util.is_abstract_socket_namespace(address):
            os.chmod(address, 0o600)
        listener.listen()
        alive_r, alive_w = os.pipe()
        # OpenCV's threads do not survive a fork: a copy that sets their number would wait for them for ever.
        threads = cv2.getNumThreads()
        cv2.setNumThreads(1)
        with warnings.catch_warnings():
            # Newer Pythons warn of threads; the threads of this process so far only watch other processes.
            warnings.simplefilter("ignore", DeprecationWarning)
            pid = os.fork()
        if pid == 0:
            try:
                os.close(alive_w)
                leave_with_parent()
                if os.getppid() == parent:
                    forkserver.main(os.dup(listener.fileno()), alive_r, [])
            finally:
                os._exit(1)
        os.close(alive_r)
        cv2.setNumThreads(threads)
    return address, alive_w, pid


def leave_with_parent() -> None:
    """Make this process end with its parent, and not before: signals to the group are meant for the parent.

    If a worker ended by SIGTERM, the training process would lack the batches for the steps before its last save.
    """
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    end_with_parent()
