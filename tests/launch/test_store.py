"""Who serves the store of a process group: our rank 0, or torchrun's agent."""

import pytest

from hardviews.launch.store import listen, worker_store


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    monkeypatch.delenv("HARDVIEWS_ROUND", raising=False)
    monkeypatch.delenv("TORCHELASTIC_USE_AGENT_STORE", raising=False)
    for name, value in (("MASTER_ADDR", "127.0.0.1"), ("RANK", "0"), ("WORLD_SIZE", "1")):
        monkeypatch.setenv(name, value)
    return monkeypatch


def test_rank_0_serves_it(environment: pytest.MonkeyPatch) -> None:
    environment.setenv("MASTER_PORT", "0")
    store, rank, world = worker_store()
    assert (rank, world, store.num_keys() >= 0) == (0, 1, True)


def test_nobody_serves_it_where_torchruns_agent_does(environment: pytest.MonkeyPatch) -> None:
    served = listen("127.0.0.1", 0)
    environment.setenv("MASTER_PORT", str(served.port))
    environment.setenv("TORCHELASTIC_USE_AGENT_STORE", "True")
    store, _, _ = worker_store()
    store.set("key", "value")
    assert served.get("key") == b"value"
