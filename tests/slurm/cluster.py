"""A Slurm of its own for the tests: a controller and several nodes, all on this machine and on loopback alone."""

import getpass
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

ROOT = Path(__file__).parents[2]
PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "srun", "scontrol", "squeue", "scancel")
SEARCH = os.pathsep.join((os.environ.get("PATH", ""), "/usr/sbin", "/sbin"))
NODES = 4
PATIENCE = 600.0  # seconds: the machine has few cores

CONFIGURATION = """
ClusterName=trial
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={ports[0]}
AuthType=auth/munge
AuthInfo=socket={folder}/munge/socket
CredType=cred/munge
SlurmUser={user}
SlurmdUser={user}
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool/%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd-%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd-%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
SlurmdParameters=config_overrides
SchedulerParameters=bf_interval=1,sched_interval=2
MpiDefault=none
SwitchType=switch/none
ReturnToService=1
KillWait=30
MinJobAge=3600
NodeName=node[1-{nodes}] NodeHostname={host} NodeAddr=127.0.0.1 Port=[{ports[1]}-{ports[2]}] CPUs=4 Boards=1 \
SocketsPerBoard=1 CoresPerSocket=4 ThreadsPerCore=1 RealMemory=16000 State=UNKNOWN
PartitionName=main Nodes=ALL Default=YES MaxTime=INFINITE State=UP
"""


def missing() -> list[str]:
    """Return the programs of Slurm that are not installed."""
    return [name for name in PROGRAMS if shutil.which(name, path=SEARCH) is None]


def until(look: Callable[[], object], what: str, seconds: float = PATIENCE) -> object:
    """Wait until a look returns something true; return that."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if found := look():
            return found
        time.sleep(0.2)
    raise AssertionError(f"waited {seconds:.0f} s for {what}")


def free_ports(number: int) -> list[int]:
    """Return ports that follow each other and are free."""
    for first in range(21000, 32000, number):
        try:
            for port in range(first, first + number):
                with socket.socket() as probe:
                    probe.bind(("127.0.0.1", port))
        except OSError:
            continue
        return list(range(first, first + number))
    raise AssertionError("no ports are free")


class Cluster:
    """Asks the Slurm of the tests."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.variables = {
            **{k: v for k, v in os.environ.items() if not k.startswith(("HARDVIEWS_", "MLFLOW_", "SLURM_", "AWS_"))},
            "SLURM_CONF": str(folder / "slurm.conf"),
            "PATH": SEARCH,
            "OMP_NUM_THREADS": "1",
        }

    def run(self, *words: str) -> str:
        done = subprocess.run(words, env=self.variables, capture_output=True, text=True, timeout=PATIENCE)
        assert done.returncode == 0, f"{words}: {done.stderr}"
        return done.stdout.strip()

    def torchx(self, *words: str, **variables: str) -> subprocess.CompletedProcess[str]:
        command = [str(Path(sys.executable).parent / "torchx"), *words]
        return subprocess.run(
            command, cwd=ROOT, env=self.variables | variables, capture_output=True, text=True, timeout=PATIENCE
        )

    def state(self, job: str) -> str:
        return self.run("squeue", "--noheader", "--states=all", "--jobs", job, "--format", "%T").split("\n")[0]

    def nodes(self, job: str) -> list[str]:
        """The nodes of the last part of a job."""
        listed = self.run("squeue", "--noheader", "--states=all", "--jobs", job, "--format", "%N").split("\n")[-1]
        return self.run("scontrol", "show", "hostnames", listed).split()

    def await_state(self, job: str, *states: str) -> str:
        bad = {"FAILED", "NODE_FAIL", "TIMEOUT", "CANCELLED", "COMPLETED"} - set(states)

        def look() -> str:
            state = self.state(job)
            assert state not in bad, f"{state}\n{self.logs(job)}"
            return state if state in states else ""

        return str(until(look, f"{' or '.join(states)} of job {job}"))

    def logs(self, job: str) -> str:
        files = sorted((self.folder / "logs").glob(f"slurm-{job}-*.log"))
        return "\n".join(f"== {file.name}\n{file.read_text(errors='replace')[-3000:]}" for file in files)


@contextmanager
def running(folder: Path) -> Iterator[Cluster]:
    """Start everything, and end all of it."""
    for name in ("munge", "state", "spool", "logs"):
        (folder / name).mkdir(mode=0o700)
    ports = free_ports(NODES + 1)
    host = socket.gethostname().partition(".")[0]
    (folder / "slurm.conf").write_text(
        CONFIGURATION.format(
            host=host, ports=(ports[0], ports[1], ports[-1]), folder=folder, user=getpass.getuser(), nodes=NODES
        )
    )
    key = folder / "munge" / "key"
    key.write_bytes(os.urandom(128))
    key.chmod(0o600)
    cluster = Cluster(folder)
    started: list[subprocess.Popen[bytes]] = []

    def start(*words: str) -> None:
        with open(folder / "daemons.log", "ab") as log:
            one = subprocess.Popen(words, env=cluster.variables, stdout=log, stderr=log, stdin=subprocess.DEVNULL)
        started.append(one)

    def alive() -> bool:
        assert all(one.poll() is None for one in started), (folder / "daemons.log").read_text()
        return True

    munge = [f"--{name}={folder}/munge/{name}" for name in ("socket", "log-file", "pid-file", "seed-file")]
    try:
        start("munged", "--foreground", "--force", f"--key-file={key}", *munge)
        until(lambda: alive() and (folder / "munge" / "socket").exists(), "munged")
        start("slurmctld", "-D")
        for number in range(1, NODES + 1):
            (folder / "spool" / f"node{number}").mkdir()
            start("slurmd", "-D", "-N", f"node{number}")
        until(lambda: alive() and _idle(cluster), "the nodes of Slurm")
        yield cluster
    finally:
        with_slurm = len(started) > 1
        if with_slurm:
            subprocess.run(["scancel", f"--user={getpass.getuser()}"], env=cluster.variables, timeout=60)
        for one in reversed(started):
            one.terminate()
        for one in started:
            try:
                one.wait(20)
            except subprocess.TimeoutExpired:
                one.kill()
                one.wait()
        for pid in left(folder):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        until(lambda: not left(folder), "the end of all processes")


def _idle(cluster: Cluster) -> bool:
    done = subprocess.run(
        ["sinfo", "--noheader", "--Node", "--format", "%T"], env=cluster.variables, capture_output=True, text=True
    )
    return done.returncode == 0 and done.stdout.split() == ["idle"] * NODES


def left(folder: Path) -> list[int]:
    """Return the processes that still belong to the cluster: its configuration is in their environment."""
    mark = f"SLURM_CONF={folder}/slurm.conf".encode()
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdecimal() or int(entry.name) == os.getpid():
            continue
        try:
            if mark in (entry / "environ").read_bytes().split(b"\0"):
                found.append(int(entry.name))
        except OSError:
            continue
    return found
