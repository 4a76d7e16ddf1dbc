"""`hardviews launch`: its command line, and one real elastic training in which a node is killed."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from hardviews.data.pack import pack
from hardviews.elastic.address import check_free, reserve
from hardviews.errors import UserError
from hardviews.launch.launcher import configure, run_launch
from tests.data.helpers import Noise
from tests.elastic.processes import descendants

HARDVIEWS = Path(sys.executable).parent / "hardviews"


def test_the_command_line_in_full():
    config = configure(["--nnodes", "1:3", "--nproc", "2", "--start", "2", "pretrain", "digits", "--nnodes", "x"])
    assert (config.least, config.most, config.processes, config.start) == (1, 3, 2, 2)
    assert config.command == ("hardviews.cli", "pretrain", "digits", "--nnodes", "x")
    assert config.gather == 0  # the third node comes when it is asked to
    assert configure(["--nnodes", "2", "--", "pretrain", "digits"]).least == 2


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--nnodes", "3:1", "pretrain"], "--nnodes 3:1 is no range"),
        (["--nnodes", "0:1", "pretrain"], "--nnodes 0:1 is no range"),
        (["--nnodes", "many", "pretrain"], "--nnodes many is no range"),
        (["--start", "3", "pretrain"], "--start 3 is not between 1 and 2"),
        (["--nproc", "0", "pretrain"], "--nproc is 0; it must be 1 or more."),
        (["--port", "-1", "pretrain"], "--port is -1; it must be from 0 to 65535."),
        (["--port", "65536", "pretrain"], "--port is 65536; it must be from 0 to 65535."),
        (["--gather", "-1", "pretrain"], "--gather is -1.0; it must be 0 or more (seconds)"),
        (["--gather", "nan", "pretrain"], "--gather is nan; it must be a finite number"),
        (["--grace", "-1", "pretrain"], "--grace is -1.0; it must be 0 or more (seconds)"),
        (["--grace", "nan", "pretrain"], "--grace is nan; it must be a finite number"),
        (["--grace", "inf", "pretrain"], "--grace is inf; it must be a finite number"),
        (["--join", "somewhere", "pretrain"], "--join somewhere is no address"),
        (["--join", "127.0.0.1:65536", "pretrain"], "--join 127.0.0.1:65536 is no address"),
        (["--nodes", "2", "pretrain"], "--nodes"),
        (["pack"], "runs pretrain, finetune and evaluations (knn, linear, fewshot, transfer, classify), not pack"),
        ([], "what to run at the end of the line"),
    ],
)
def test_a_mistake_is_one_paragraph(words, said):
    with pytest.raises(UserError) as error:
        configure(words)
    assert said in str(error.value)
    assert "\n" not in str(error.value)


def test_a_port_in_use_is_named_and_no_process_started(monkeypatch):
    monkeypatch.setattr(subprocess, "Popen", lambda *_, **__: pytest.fail("a process was started"))
    with socket.create_server(("127.0.0.1", 0)) as other, reserve("127.0.0.1") as job:
        for port in (other.getsockname()[1], job.getsockname()[1]):
            with pytest.raises(UserError, match=rf"^--port {port} cannot be used \(Address already in use\)"):
                run_launch(["--port", str(port), "pretrain", "digits"])


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "^Say which recipe to pretrain by"),
        (["digit", "--data", "d", "--output", "o"], "^There is no recipe 'digit'. Did you mean digits?"),
        (["digits", "--output", "o"], "--data"),
        (["digits", "--data", "d"], "--output"),
        (["digits", "--data", "d", "--output", ""], "^--output is empty"),
        (["digits", "--data", "d", "--output", "o", "--training.epochs", "0"], r"^training.epochs is 0"),
        (
            ["digits", "--data", "d", "--output", "o", "--training.batch", "32"],
            r"^--nnodes 1:2 invites up to 2 processes, and a batch of 32 has 1 group of 32 .* at most --nnodes 1:1,",
        ),
    ],
)
def test_words_that_every_node_would_refuse_start_no_process(words, said, monkeypatch, tmp_path):
    monkeypatch.setattr(subprocess, "Popen", lambda *_, **__: pytest.fail("a process was started"))
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=said):
        run_launch(["pretrain", *words])
    assert not list(tmp_path.iterdir())


def test_a_port_that_a_job_has_left_is_free():
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        with socket.create_connection(("127.0.0.1", port)) as client:
            server.accept()[0].close()  # the side that closes first holds the connection for a minute
            client.recv(1)
    check_free("127.0.0.1", port)


def test_joining_where_no_job_is():
    done = subprocess.run(
        [HARDVIEWS, "launch", "--join", "127.0.0.1:1", "pretrain", "digits"], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 2
    assert done.stderr.startswith("hardviews: No job answers at 127.0.0.1:1")


class Launch:
    """A launched job, its timeline and its output."""

    def __init__(self, folder: Path, *words: str) -> None:
        self.timeline = folder / "timeline"
        self.log = folder / "log"
        variables = {"HARDVIEWS_TIMELINE": str(self.timeline), "MLFLOW_TRACKING_URI": f"sqlite:///{folder}/mlflow.db"}
        with self.log.open("w") as log:
            self.process = subprocess.Popen(
                [HARDVIEWS, "launch", *words], env=os.environ | variables, stdout=log, stderr=log, cwd=folder
            )

    def events(self, *names: str) -> list[dict]:
        lines = self.timeline.read_text().splitlines() if self.timeline.exists() else []
        return [event for event in map(json.loads, lines) if event["event"] in names]

    def until(self, what, seconds: float = 120):
        deadline = time.monotonic() + seconds
        while not (found := what()):
            assert time.monotonic() < deadline and self.process.poll() is None, self.log.read_text()
            time.sleep(0.05)
        return found

    def close(self) -> None:
        for pid in descendants(self.process.pid):
            os.kill(pid, signal.SIGKILL)
        self.process.wait(10)


@pytest.fixture
def launched(tmp_path) -> Iterator[list[Launch]]:
    jobs: list[Launch] = []
    yield jobs
    for job in jobs:
        if job.process.poll() is None:
            job.close()


@pytest.mark.laws
@pytest.mark.timeout(240)
@pytest.mark.xdist_group("elastic")
def test_a_node_is_killed_the_others_train_on_it_comes_back_and_an_interrupt_saves(tmp_path, launched):
    pack(Noise(90), str(tmp_path / "data"), shard_bytes=40_000)
    output = tmp_path / "run"
    words = ["--nnodes", "1:2", "--grace", "40", "pretrain", "digits", "--data", str(tmp_path / "data")]
    words += ["--output", str(output), "--training.batch", "16", "--training.group", "4"]
    words += ["--training.epochs", "1000", "--training.checkpoint-steps", "5", "--strategy.candidates", "2"]
    job = Launch(tmp_path, *words)
    launched.append(job)

    def whole(after: int = 0) -> list[dict]:
        """Steps of a round of both nodes that is newer than another."""
        done = [e["round"] for e in job.events("rendezvous_done") if e["nodes"] == 2 and e["round"] > after]
        return [e for e in job.events("step") if done and e["round"] == max(done)]

    first = job.until(whole)[0]["round"]
    job.until(lambda: len(whole()) > 8)
    leader = next(e["node"] for e in job.events("joined") if e["round"] == first and e["rank"] == 0)
    agent = next(e["pid"] for e in job.events("agent_started") if e["node"] == leader)
    for pid in descendants(agent):
        os.kill(pid, signal.SIGKILL)
    killed = time.time()
    alone = job.until(lambda: [e for e in job.events("first_step") if e["round"] > first and e["time"] > killed])[0]
    assert alone["node"] != leader
    assert alone["time"] - killed < 20
    second = job.until(lambda: whole(first))[0]["round"]
    job.until(lambda: len(whole(second - 1)) > 3)
    job.process.send_signal(signal.SIGINT)
    assert job.process.wait(60) == 130, job.log.read_text()
    said = job.log.read_text()
    assert f"launch: {leader} was killed by SIGKILL; starting it again" in said
    assert "Traceback" not in said
    # The last step that was taken is the one that was saved.
    last = max(e["step"] for e in job.events("first_step", "step"))
    assert json.loads(max(output.glob("checkpoints/step-*/manifest.json")).read_text())["progress"]["step"] == last
    assert [pid for pid in descendants(job.process.pid) if Path(f"/proc/{pid}").exists()] == []
