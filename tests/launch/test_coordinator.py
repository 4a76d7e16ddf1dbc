"""The coordinator ends when the job does, and the store listens where it is told."""

import socket
import threading
import time

import pytest
from torch.distributed import DistError

from hardviews.errors import UserError
from hardviews.launch.coordinator import (
    LEFT,
    PULSE,
    CoordinatorConfig,
    announce_done,
    announce_failure,
    main,
    serve,
)
from hardviews.launch.local import reserved_port
from hardviews.launch.store import connect, listen
from hardviews.launch.worker import supervised


class Serving:
    """A coordinator in a thread of this process."""

    def __init__(self, port: int, **changes) -> None:
        config = CoordinatorConfig("127.0.0.1", port, shared=True, interval=0.01, **changes)
        self.outcome: list[str | None] = []
        self.thread = threading.Thread(target=lambda: self.outcome.append(serve(config)), daemon=True)
        self.thread.start()
        self.store = connect("127.0.0.1", port, patience=10)

    def result(self, seconds: float = 5) -> str | None:
        self.thread.join(seconds)
        assert self.outcome, "the coordinator still runs"
        return self.outcome[0]


@pytest.fixture
def port(monkeypatch):
    with reserved_port() as free:
        monkeypatch.setenv("HARDVIEWS_RENDEZVOUS", f"127.0.0.1:{free}")
        monkeypatch.setenv("GROUP_WORLD_SIZE", "2")
        yield free


def test_done_waits_for_the_agents_of_the_last_round(port):
    coordinator = Serving(port)
    announce_done()
    coordinator.store.add(LEFT, 1)
    time.sleep(0.2)
    assert coordinator.thread.is_alive()
    coordinator.store.add(LEFT, 1)
    assert coordinator.result() is None


def test_done_does_not_wait_for_ever_for_an_agent_that_was_killed(port):
    coordinator = Serving(port, linger=0.3)
    announce_done()
    assert coordinator.result() is None


def test_a_failure_is_passed_on(port):
    coordinator = Serving(port)
    announce_failure("no disk")
    assert coordinator.result() == "no disk"


def test_a_job_whose_agents_are_all_dead_ends_where_nobody_restarts_them(port):
    coordinator = Serving(port, patience=0.5)
    for _ in range(10):
        coordinator.store.add(PULSE, 1)
        time.sleep(0.1)
    assert coordinator.thread.is_alive()
    assert "no trainer" in str(coordinator.result())


def test_announcing_without_a_coordinator_does_nothing(monkeypatch):
    monkeypatch.delenv("HARDVIEWS_RENDEZVOUS", raising=False)
    announce_done()
    announce_failure("nobody hears it")


def test_a_supervised_block_announces_its_end_once_and_from_rank_0(port, monkeypatch):
    coordinator = Serving(port, linger=0.1)
    monkeypatch.setenv("RANK", "1")
    with supervised():
        pass
    time.sleep(0.1)
    assert coordinator.thread.is_alive()
    monkeypatch.setenv("RANK", "0")
    with supervised():
        pass
    assert coordinator.result() is None


@pytest.mark.parametrize("error", [SystemExit(3), RuntimeError("a peer is lost")])
def test_what_a_restart_can_mend_is_not_announced(port, error):
    coordinator = Serving(port)
    with pytest.raises(type(error)), supervised():
        raise error
    time.sleep(0.1)
    assert coordinator.thread.is_alive()
    announce_failure("end of the test")
    coordinator.result()


def test_a_mistake_of_the_user_is_announced(port):
    coordinator = Serving(port)
    with pytest.raises(UserError), supervised():
        raise UserError("no such folder")
    assert coordinator.result() == "no such folder"


def test_a_taken_port_is_one_line(capsys, monkeypatch):
    monkeypatch.delenv("HARDVIEWS_RENDEZVOUS", raising=False)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        assert main(["--port", str(taken.getsockname()[1])]) == 1
    assert "give another --port" in capsys.readouterr().err


def test_a_store_answers_on_its_address_alone():
    store = listen("127.0.0.1", 0)
    store.set("key", "value")
    assert connect("127.0.0.1", store.port, patience=5).get("key") == b"value"
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.2", store.port), timeout=5)


def test_connecting_gives_up_after_its_patience():
    with reserved_port() as port:
        start = time.monotonic()
        with pytest.raises(DistError):
            connect("127.0.0.1", port, patience=1)
        assert time.monotonic() - start < 10
