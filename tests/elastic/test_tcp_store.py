"""The processes' store listens at the given address, on a port that is kept for it."""

import socket
import time
from dataclasses import replace

import pytest
from torch.distributed import DistError

from hardviews.elastic.address import address, interface, reserve
from hardviews.elastic.environment import Launched
from hardviews.elastic.tcp_store import connect, listen, worker_store
from hardviews.errors import UserError


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


def test_rank_0_takes_the_port_that_its_agent_keeps_and_nobody_else_does():
    with reserve("127.0.0.1") as holder:
        port = holder.getsockname()[1]
        me = Launched(host="127.0.0.1", port=port)
        with pytest.raises(UserError, match=rf"does not find the others at 127\.0\.0\.1:{port} .*in use"):
            worker_store(me)
        store = worker_store(replace(me, ours=True))
        store.set("key", "value")
        assert connect("127.0.0.1", port, patience=5).get("key") == b"value"


def test_processes_that_never_come_are_named(monkeypatch, capsys):
    monkeypatch.setattr("hardviews.elastic.tcp_store._PATIENCE", 0.5)
    monkeypatch.setattr("hardviews.elastic.tcp_store._WORD", 0.1)
    with reserve("127.0.0.1") as holder:
        port = holder.getsockname()[1]
    me = Launched(rank=0, size=3, host="127.0.0.1", port=port)
    with pytest.raises(UserError, match=r"of 3 processes, 2 have not come: rank 1, 2.*unset RANK and WORLD_SIZE"):
        worker_store(me)
    assert "waits at 127.0.0.1" in capsys.readouterr().err
    with pytest.raises(UserError, match=r"Process 1 of 3 .* does not find the others at 127\.0\.0\.1"):
        worker_store(replace(me, rank=1))
    with pytest.raises(UserError, match=r"does not find the others at no-such-host\.invalid"):
        worker_store(replace(me, host="no-such-host.invalid"))


def test_the_interface_of_an_address():
    assert interface("127.0.0.1") in {"lo", "lo0"}
    assert interface("203.0.113.77") is None  # of nobody: set aside for documentation


def test_the_coordinators_address_in_the_environment():
    assert address({"HARDVIEWS_RENDEZVOUS": "127.0.0.1:77"}) == ("127.0.0.1", 77)
    assert address({}) is None and address({"HARDVIEWS_RENDEZVOUS": ""}) is None
    for text in ("here", "here:", ":77", "here:port", "here:99999"):
        with pytest.raises(UserError, match="not an address HOST:PORT"):
            address({"HARDVIEWS_RENDEZVOUS": text})
