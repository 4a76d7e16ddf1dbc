"""The agent's settings."""

import os
import signal
import subprocess
import sys
import time

import pytest

from hardviews.elastic import agent
from hardviews.elastic.messages import Verdict
from hardviews.elastic.node import configure
from tests.elastic.test_coordinator import Serving


def test_the_launchers_address_of_the_coordinator_comes_before_torchxs():
    words = ["--job", "j", "--nodes", "1:2", "--host-variable", "VC_COORDINATOR_0_HOSTS"]
    words += ["--", "hardviews.cli", "pretrain", "--", "--lr", "1"]
    config, command = configure(words, {"VC_COORDINATOR_0_HOSTS": "pod-0"})
    assert (config.host, config.port, config.local) == ("pod-0", 29500, False)
    assert command[:2] == ["hardviews.cli", "pretrain"]
    assert command[-2:] == ["--lr", "1"]
    config, _ = configure(words, {"VC_COORDINATOR_0_HOSTS": "pod-0", "HARDVIEWS_RENDEZVOUS": "127.0.0.1:77"})
    assert (config.host, config.port, config.local) == ("127.0.0.1", 77, True)


def test_a_mistake_in_the_code_is_tried_less_often_at_a_desk():
    words = ["--job", "j", "--nodes", "1:2", "--", "m"]
    assert configure(words, {})[0].bounds.tolerance == 10
    assert configure(words, {"HARDVIEWS_RENDEZVOUS": "127.0.0.1:77"})[0].bounds.tolerance == 3


def test_processes_share_the_cores_of_their_node_and_local_nodes_those_of_the_machine():
    words = ["--job", "j", "--nodes", "2:4", "--processes", "8", "--cpus", "32", "--", "m"]
    assert configure(words, {})[0].threads == 4
    local = configure([*words[:4], "--", "m"], {"HARDVIEWS_RENDEZVOUS": "127.0.0.1:77"})[0]
    assert local.threads == max(1, len(os.sched_getaffinity(0)) // 4)


def test_it_leaves_before_the_local_scheduler_kills_it():
    words = ["--job", "j", "--nodes", "1", "--grace", "90", "--", "m"]
    here = {"HARDVIEWS_RENDEZVOUS": "127.0.0.1:77"}
    assert configure(words, here)[0].grace == 90
    assert configure(words, here | {"TORCHX_JOB_ID": "local_cwd://torchx/x"})[0].grace < 10


@pytest.mark.parametrize(
    ("given", "imported"), [([], "m.train"), (["--prepare", "m.all"], "m.all"), (["--prepare="], "m.train")]
)
def test_the_module_that_is_imported_before_the_fork_is_given_or_the_commands_own(monkeypatch, given, imported):
    made = []
    monkeypatch.setattr(agent, "ForkServer", lambda *words: made.append(words))
    agent.Agent(*configure(["--job", "j", "--nodes", "1", *given, "--", "m.train", "--prepare", "x"], {}))
    assert [(module, words) for module, _, words in made] == [(imported, ["--prepare", "x"])]


PROGRAM = """
import sys
from pathlib import Path
import hardviews.elastic.agent as agent
agent.TERMINATION_LOG = Path(sys.argv[1])
sys.exit(agent.Agent(*agent.configure(sys.argv[2:], {})).run())
"""


@pytest.mark.parametrize("in_pod", [True, False])
def test_the_agent_of_a_failed_job_waits_in_a_pod_to_be_ended(tmp_path, in_pod):
    """If it ended, the kubelet would start its container again, in a job that is over."""
    log = tmp_path / "termination-log"
    if in_pod:
        log.touch()
    serving = Serving()
    words = [
        "--job",
        "j",
        "--nodes",
        "1:2",
        "--port",
        str(serving.port),
        "--",
        "tests.elastic.toy_member",
        str(tmp_path),
    ]
    process = subprocess.Popen([sys.executable, "-c", PROGRAM, str(log), *words])
    try:
        wait_until(lambda: serving.server.membership.heard(time.monotonic(), within=60))
        with serving.server.lock:
            serving.server.membership.failed = Verdict("it is over")
        assert serving.result(60) == "it is over"  # the coordinator does not wait for it
        if in_pod:
            time.sleep(0.3)
            assert process.poll() is None
            process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 3
    finally:
        process.kill()
        process.wait()


def wait_until(look, seconds=60):
    deadline = time.monotonic() + seconds
    while not look():
        assert time.monotonic() < deadline
        time.sleep(0.05)
