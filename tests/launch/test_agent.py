"""The agent's settings, and how agents find each other at the start."""

import dataclasses
import os
import threading
import time

import pytest
from torch.distributed.run import config_from_args, parse_args

from hardviews.launch.agent import AgentConfig, configure, gather, torchrun_settings
from hardviews.launch.store import connect, listen


def agent(**changes) -> AgentConfig:
    known = AgentConfig("job-1", 2, 4, processes=8, cpus=32, host="there", port=29500, local=False, gather=1, grace=90)
    return dataclasses.replace(known, **changes)


def torchrun_config(config: AgentConfig, monkeypatch: pytest.MonkeyPatch):
    for name, value in torchrun_settings(config).items():
        monkeypatch.setenv(name, value)
    return config_from_args(parse_args(["--module", "some.module", "--data", "x"]))


def test_torchrun_reads_every_setting(monkeypatch):
    config, _, command = torchrun_config(agent(), monkeypatch)
    assert (config.min_nodes, config.max_nodes, config.nproc_per_node) == (2, 4, 8)
    assert (config.rdzv_backend, config.rdzv_endpoint, config.run_id) == ("c10d", "there:29500", "job-1")
    # The measured row: a node that is lost costs seconds, and no trainer hosts the store.
    expected = {"is_host": "0", "keep_alive_interval": "1", "keep_alive_max_attempt": "3", "last_call_timeout": "2"}
    assert expected.items() <= config.rdzv_configs.items()
    assert (config.monitor_interval, config.max_restarts, config.shutdown_timeout) == (0.5, 100, 90)
    assert os.environ["TORCH_DISABLE_SHARE_RDZV_TCP_STORE"] == "1"
    assert os.environ["OMP_NUM_THREADS"] == "4"
    assert command[-4:] == ["-m", "some.module", "--data", "x"]


def test_on_one_machine_it_stays_on_loopback_and_leaves_before_the_local_scheduler_kills_it(monkeypatch):
    config, _, _ = torchrun_config(agent(local=True, host="127.0.0.1"), monkeypatch)
    assert config.local_addr == "127.0.0.1"
    assert config.shutdown_timeout < 10
    assert os.environ["GLOO_SOCKET_IFNAME"] in {"lo", "lo0"}


def test_the_coordinator_is_where_the_launcher_says_else_where_torchx_says():
    words = ["--job", "j", "--nodes", "1:2", "--host-variable", "VC_COORDINATOR_0_HOSTS"]
    words += ["--", "hardviews.cli", "pretrain", "--", "--lr", "1"]
    config, command = configure(words, {"VC_COORDINATOR_0_HOSTS": "pod-0"})
    assert (config.host, config.port, config.local) == ("pod-0", 29500, False)
    assert command[:2] == ["hardviews.cli", "pretrain"]
    assert command[-2:] == ["--lr", "1"]
    config, _ = configure(words, {"VC_COORDINATOR_0_HOSTS": "pod-0", "HARDVIEWS_RENDEZVOUS": "127.0.0.1:77"})
    assert (config.host, config.port, config.local) == ("127.0.0.1", 77, True)


def test_agents_wait_for_all_at_the_start_but_not_when_the_job_has_begun():
    store = listen("127.0.0.1", 0)
    begun: list[float] = []

    def come() -> None:
        gather(connect("127.0.0.1", store.port, patience=5), nodes=2, seconds=30)
        begun.append(time.monotonic())

    first = threading.Thread(target=come)
    first.start()
    time.sleep(0.4)
    assert begun == []
    come()
    first.join()
    assert abs(begun[0] - begun[1]) < 0.3
    start = time.monotonic()
    come()  # a replacement
    assert time.monotonic() - start < 1


def test_agents_begin_without_those_that_do_not_come():
    store = listen("127.0.0.1", 0)
    start = time.monotonic()
    gather(store, nodes=2, seconds=0.3)
    assert 0.3 <= time.monotonic() - start < 2
