"""The processes' store listens where it is told, on a port that is kept for it."""

import socket
import time

import pytest
from torch.distributed import DistError

from hardviews.launch.address import address, interface, reserve
from hardviews.launch.store import connect, listen, worker_store


def test_a_store_answers_on_its_address_alone():
    store = listen("127.0.0.1", 0)
    store.set("key", "value")
    assert connect("127.0.0.1", store.port, patience=5).get("key") == b"value"
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.2", store.port), timeout=5)


def test_connecting_gives_up_after_its_patience():
    with reserve("127.0.0.1") as holder:
        start = time.monotonic()
        with pytest.raises(DistError):
            connect("127.0.0.1", holder.getsockname()[1], patience=1)
        assert time.monotonic() - start < 10


def test_rank_0_takes_the_port_that_its_agent_keeps_and_nobody_else_does(monkeypatch):
    with reserve("127.0.0.1") as holder:
        port = holder.getsockname()[1]
        for name, value in {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "RANK": 0, "WORLD_SIZE": 1}.items():
            monkeypatch.setenv(name, str(value))
        monkeypatch.delenv("HARDVIEWS_ROUND", raising=False)
        with pytest.raises(OSError, match="in use"):
            worker_store()
        monkeypatch.setenv("HARDVIEWS_ROUND", "1")
        store, rank, world = worker_store()
        assert (rank, world) == (0, 1)
        store.set("key", "value")
        assert connect("127.0.0.1", port, patience=5).get("key") == b"value"


def test_the_interface_of_an_address():
    assert interface("127.0.0.1") in {"lo", "lo0"}
    assert interface("203.0.113.77") is None  # of nobody: set aside for documentation


def test_the_coordinators_address_in_the_environment():
    assert address({"HARDVIEWS_RENDEZVOUS": "127.0.0.1:77"}) == ("127.0.0.1", 77)
    assert address({}) is None
