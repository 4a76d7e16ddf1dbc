"""How long an elastic training stands still when one of its two nodes is killed.

    python benchmarks/recovery.py [--kills 5] [--only "hardviews launch"] [--folder FOLDER]
    python benchmarks/recovery.py --cluster

Trains by the recipe `digits` on two nodes of this machine, with data and checkpoints on a real S3 server (SeaweedFS),
tracked by a real MLflow server. Kills rank 0's node and the other one in turn: agent and processes at once, by SIGKILL.
Measures the time until the job takes its next step, and waits until the killed node is back before the next kill.
torchrun with its defaults and TorchX's dist.ddp are measured too; if one dies, it is started again for the next kill.
The exit code is not 0 if the median of `hardviews launch` is above the target.

With --cluster the job runs on the cluster of KUBECONFIG, and pods are force-deleted. The site is that of
docs/cluster.md: HARDVIEWS_DATA, HARDVIEWS_OUTPUT and so on, a dataset packed there, room for two trainers. The clocks
of nodes and of this machine must agree.
"""

import argparse
import datetime
import os
import platform
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))  # the tests know how to run real servers

from recovering.contestants import NODES, Contestant, DistDdp, Hardviews, Torchrun, until  # noqa: E402
from recovering.timeline import PHASES, Recovery, recovery, training  # noqa: E402
from tests.s3 import SeaweedFS  # noqa: E402
from tests.tracking.servers import free_port, mlflow_server  # noqa: E402

TARGET, TARGET_ON_CLUSTER = 8.0, 12.0  # seconds
LIMIT = 90.0  # seconds after which a job counts as not recovered
START = 240.0  # seconds to wait for all nodes to train

RECIPE = ["digits", "--training.epochs", "100000", "--training.batch", "128", "--training.log-steps", "2"]
RECIPE += ["--training.checkpoint-steps", "0", "--training.checkpoint-seconds", "5"]


def disturb(job: Contestant, rank: int) -> Recovery | str:
    """Kill the node of a rank; return how the job recovered, or how it ended."""
    trainers = training(job.events(), job.living)
    killed = time.time()
    doomed = job.kill(trainers[rank].who)
    job.revive()
    found: list[Recovery] = []

    def recovered() -> bool:
        found[:] = [one for one in [recovery(job.events(), killed, rank, doomed.__contains__)] if one]
        return bool(found) or job.over()

    until(LIMIT, recovered)
    if found:
        return found[0]
    return "died" if job.over() else f"no step within {LIMIT:.0f} s"


def at_work(job: Contestant) -> bool:
    """Return whether all nodes train together."""
    trainers = training(job.events(), job.living)
    return len(trainers) == NODES and all(trainer.world == NODES for trainer in trainers)


def measure(job: Contestant, kills: int) -> list[Recovery | str]:
    """Kill node after node; return the result of each kill."""
    outcomes: list[Recovery | str] = []
    moments = random.Random(0)
    try:
        for number in range(kills):
            if job.over():
                job.end()
                job.start()
            began = time.time()
            if not until(START, lambda: at_work(job) or job.over()) or not at_work(job):
                outcomes.append("died while a node joined" if job.over() else f"no {NODES} nodes within {START:.0f} s")
                print(f"{job.name:18s} {outcomes[-1]}", flush=True)
                job.end()
                continue
            whole = time.time() - began
            time.sleep(moments.uniform(1.0, 3.0))
            outcomes.append(disturb(job, number % NODES))
            print(line(job.name, number % NODES, outcomes[-1], whole), flush=True)
            if isinstance(outcomes[-1], str):
                job.end()
    finally:
        job.end()
    return outcomes


def line(name: str, rank: int, outcome: Recovery | str, whole: float) -> str:
    """Describe one kill."""
    head = f"{name:18s}{'rank 0' if rank == 0 else 'other':>8s}"
    if isinstance(outcome, str):
        return f"{head}  {outcome}"
    phases = "".join(f"{'-' if x is None else f'{x:.2f}':>11s}" for x in (outcome.phases[name] for name in PHASES))
    return f"{head}{outcome.seconds:8.2f}{phases}{outcome.again:8d}  at work after {whole:.0f} s"


def header() -> str:
    """Name the columns of `line`."""
    return f"{'job':18s}{'killed':>8s}{'seconds':>8s}" + "".join(f"{name:>11s}" for name in PHASES) + f"{'again':>8s}"


def summary(name: str, outcomes: Sequence[Recovery | str], target: float | None) -> bool:
    """Print medians; return whether the target is kept."""
    recovered = [outcome for outcome in outcomes if not isinstance(outcome, str)]
    failures = [outcome for outcome in outcomes if isinstance(outcome, str)]
    told = [f"{failures.count(reason)} x {reason}" for reason in dict.fromkeys(failures)]
    if recovered:
        middle = statistics.median(outcome.seconds for outcome in recovered)
        told.insert(0, f"median {middle:.2f} s of {len(recovered)}, longest {max(o.seconds for o in recovered):.2f} s")
        for phase in PHASES:
            known = [x for outcome in recovered if (x := outcome.phases[phase]) is not None]
            if known:
                told.append(f"{phase} {statistics.median(known):.2f}")
    kept = target is not None and not failures and bool(recovered) and middle <= target
    verdict = "" if target is None else f"  (target {target:.0f} s: {'kept' if kept else 'MISSED'})"
    print(f"{name}: {', '.join(told)}{verdict}")
    return kept or target is None


def contestants(folder: Path, bucket: str, environment: dict[str, str]) -> list[Contestant]:
    """Return the jobs, each with an output of its own."""
    words = [["pretrain", *RECIPE, "--data", f"{bucket}/data", "--output", f"{bucket}/{name}"] for name in "abc"]
    return [
        Hardviews(words[0], environment, folder / "hardviews"),
        Torchrun(words[1], environment, folder / "torchrun", free_port()),
        DistDdp(words[2], environment, folder / "ddp"),
    ]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=5, help="of each job (default: %(default)s)")
    parser.add_argument("--only", action="append", help="a job by its name; may be given several times")
    parser.add_argument("--folder", type=Path, help="for logs and timelines (default: a temporary one)")
    parser.add_argument("--cluster", action="store_true", help="on the cluster that KUBECONFIG names")
    arguments = parser.parse_args()
    if arguments.cluster:
        return on_cluster(arguments)
    server = SeaweedFS()
    try:
        with tempfile.TemporaryDirectory() as temporary:
            folder = arguments.folder or Path(temporary)
            (folder / "mlflow").mkdir(parents=True)
            with mlflow_server(folder / "mlflow", free_port()) as tracking:
                return compare(arguments, folder, server, tracking)
    finally:
        server.close()


def on_cluster(arguments: argparse.Namespace) -> int:
    """Measure on a cluster."""
    from recovering.cluster import OnCluster  # only here is a cluster's client needed

    with tempfile.TemporaryDirectory() as temporary:
        folder = (arguments.folder or Path(temporary)) / "cluster"
        announce()
        job = OnCluster(RECIPE, ROOT, dict(os.environ), folder)
        return 0 if summary(job.name, measure(job, arguments.kills), TARGET_ON_CLUSTER) else 1


def announce() -> None:
    """Print the machine and the date of the measurement."""
    print(f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, {datetime.date.today()}")
    print(header(), flush=True)


def compare(arguments: argparse.Namespace, folder: Path, server: SeaweedFS, tracking: str) -> int:
    """Run every job and print the table."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("AWS_", "PET_", "HARDVIEWS_"))}
    environment |= server.environment | {"MLFLOW_TRACKING_URI": tracking, "HARDVIEWS_CACHE": str(folder / "cache")}
    bucket = server.bucket()
    pack = [sys.executable, "-m", "hardviews.cli", "pack", "--source", "digits", "--out", f"{bucket}/data"]
    subprocess.run(pack, env=environment, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    announce()
    outcomes = {
        job.name: measure(job, arguments.kills)
        for job in contestants(folder, bucket, environment)
        if not arguments.only or job.name in arguments.only
    }
    print()
    kept = [summary(name, found, TARGET if name == Hardviews.name else None) for name, found in outcomes.items()]
    return 0 if all(kept) else 1


if __name__ == "__main__":
    sys.exit(main())
