"""An elastic training on this machine while everything around it is killed, frozen and restarted at random.

`make chaos` runs it; CHAOS_SEED repeats a run's faults and CHAOS_FAULTS says how many there are. What must hold at the
end is what holds of a run that nothing disturbed: every sample once, one complete MLflow run, the same losses.
"""

import os
import random
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from hardviews.data.pack_command import Packing
from tests.cluster.cluster import wait_for
from tests.cluster.record import Output, check_reports, parting, pretraining_runs
from tests.cluster.reference import undisturbed
from tests.elastic.processes import descendants
from tests.tracking.servers import free_port, mlflow_server

HARDVIEWS = Path(sys.executable).parent / "hardviews"
OVERRIDES = ("--training.checkpoint-seconds", "4")
PACKING = ("--source", "photographs", "--shard-bytes", "1000000")
TOLERANCE = 1e-3  # of the losses, relative


def _says(pid: int) -> str:
    try:
        return (Path("/proc") / str(pid) / "cmdline").read_text().replace("\0", " ")
    except OSError:
        return ""  # ended meanwhile


class Job:
    """The launched job and ways to harm it; each says what it did."""

    def __init__(self, folder: Path, words: list[str], environment: dict[str, str], seed: int) -> None:
        self._random = random.Random(seed)
        self.log = folder / "launch.log"
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [HARDVIEWS, "launch", "--nnodes", "1:3", *words],
                env=environment,
                stdout=log,
                stderr=log,
                cwd=folder,
                start_new_session=True,
            )

    def _named(self, module: str) -> list[int]:
        return [pid for pid in descendants(self.process.pid)[1:] if f"-m {module} " in f"{_says(pid)} "]

    def _agent(self) -> int | None:
        agents = self._named("hardviews.elastic.agent")
        return self._random.choice(agents) if agents else None

    def kill_node(self) -> str:
        agent = self._agent()
        return self._signal(descendants(agent), signal.SIGKILL, "a node killed") if agent else "no node to kill"

    def kill_process(self) -> str:
        agent = self._agent()
        below = descendants(agent)[1:] if agent else []
        return self._signal([self._random.choice(below)], signal.SIGKILL, "a process killed") if below else "no process"

    def freeze_node(self) -> str:
        agent = self._agent()
        if agent is None:
            return "no node to freeze"
        frozen, seconds = descendants(agent), self._random.uniform(1, 14)
        self._signal(frozen, signal.SIGSTOP, "")
        time.sleep(seconds)
        self._signal(frozen, signal.SIGCONT, "")
        return f"a node frozen for {seconds:.0f} s"

    def kill_coordinator(self) -> str:
        return self._signal(self._named("hardviews.elastic.coordinator"), signal.SIGKILL, "the coordinator killed")

    def end_process(self) -> str:
        agent = self._agent()
        below = descendants(agent)[1:] if agent else []
        return self._signal(below[-1:], signal.SIGTERM, "a process asked to leave")

    def _signal(self, pids: list[int], number: int, what: str) -> str:
        for pid in pids:
            try:
                os.kill(pid, number)
            except ProcessLookupError:
                continue
        return what

    def over(self) -> bool:
        return self.process.poll() is not None

    def close(self) -> None:
        for pid in reversed(descendants(self.process.pid)):
            self._signal([pid], signal.SIGCONT, "")
            self._signal([pid], signal.SIGKILL, "")
        self.process.wait(20)


class Server:
    """The MLflow server, ended and begun again at the same port."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._port = folder, free_port()
        self._begin()

    def _begin(self) -> None:
        self._context = mlflow_server(self._folder, self._port)
        self.uri = self._context.__enter__()

    def restart(self) -> str:
        self.close()
        time.sleep(2)
        self._begin()
        return "the MLflow server killed and begun again"

    def close(self) -> None:
        self._context.__exit__(None, None, None)


@pytest.mark.chaos
@pytest.mark.timeout(1800)
def test_faults_at_random_change_nothing(s3, tmp_path):
    seed = int(os.environ.get("CHAOS_SEED") or random.SystemRandom().randrange(10**6))
    faults = int(os.environ.get("CHAOS_FAULTS") or 12)
    print(f"CHAOS_SEED={seed} CHAOS_FAULTS={faults}", flush=True)
    chance = random.Random(seed)
    rows = undisturbed(tmp_path, "smoke", OVERRIDES, PACKING)

    bucket = s3.bucket()
    data, url = f"{bucket}/photographs", f"{bucket}/run"
    Packing("photographs", data, shard_bytes=1_000_000).run()
    served = tmp_path / "mlflow"
    served.mkdir()
    mlflow = Server(served)
    variables = {**os.environ, "MLFLOW_TRACKING_URI": mlflow.uri, "OMP_NUM_THREADS": "1"}
    variables["HARDVIEWS_CACHE"] = str(tmp_path / "cache")
    words = ["pretrain", "smoke", "--data", data, "--output", url, "--project", str(tmp_path / "project"), *OVERRIDES]
    job = Job(tmp_path, words, variables, seed)
    output = Output(s3.client(), url)

    def store_away() -> str:
        s3.stop()
        time.sleep(chance.uniform(0, 5))
        s3.start()
        return "the store killed and begun again"

    ways: list[Callable[[], str]] = [job.kill_node, job.kill_process, job.freeze_node, job.kill_coordinator]
    ways += [job.kill_node, job.end_process, store_away, mlflow.restart]
    began, last = time.monotonic(), -1
    try:
        for _ in range(faults):
            # As a disturbed job gets on less, faults wait for it: it must get on after each of them.
            wait_for("the next checkpoint", lambda last=last: job.over() or output.step() > last, 240)
            if job.over():
                break
            last = output.step()
            time.sleep(chance.uniform(0, 4))
            done = chance.choice(ways)()
            print(f"{time.monotonic() - began:6.1f} s  step {last:3d}  {done}", flush=True)
        assert job.process.wait(600) == 0, job.log.read_text()[-6000:]
        wait_for("the log's end", lambda: pretraining_runs(_client(mlflow))[0].info.status == "FINISHED", 60)

        audited = subprocess.run([HARDVIEWS, "audit", url, "--data", data], capture_output=True, text=True, timeout=120)
        print(audited.stdout)
        assert audited.returncode == 0, audited.stdout + audited.stderr
        assert re.search(r"\b0 samples lost, 0 repeated", audited.stdout)

        found = output.rows()
        assert [row["step"] for row in found] == list(range(1, len(found) + 1))
        client = _client(mlflow)
        (run,) = pretraining_runs(client)
        check_reports(client, run, found, output.lives())
        distance = parting(found, rows, "loss")
        print(f"{len(output.lives())} lives; losses part from the undisturbed run by {distance:.1e}", flush=True)
        assert distance <= TOLERANCE
    except BaseException:
        print(job.log.read_text()[-6000:])
        raise
    finally:
        if not job.over():
            job.close()
        mlflow.close()


def _client(server: Server):
    from mlflow.tracking import MlflowClient

    return MlflowClient(server.uri)
