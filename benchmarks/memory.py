"""Memory of a training process and of its loader workers, for the sizing of pods: `python benchmarks/memory.py`.

Proportional shares (PSS): memory that several processes share is counted once.
"""

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HARDVIEWS = str(Path(sys.executable).with_name("hardviews"))


def tree(pid: int) -> list[int]:
    children = [int(c) for task in Path(f"/proc/{pid}/task").glob("*/children") for c in task.read_text().split()]
    return [pid, *(below for child in children for below in tree(child))]


def share(pid: int) -> float:
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) / 1000
    return 0.0


def peak(folder: str, workers: int) -> float:
    """Train an epoch on digits; return the most MB that its processes had together."""
    words = [HARDVIEWS, "pretrain", "digits_simsiam", "--data", "shards", "--output", f"runs/{workers}"]
    words += ["--training.epochs", "1", "--loader.workers", str(workers)]
    process = subprocess.Popen(words, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    most = 0.0
    while process.poll() is None:
        try:
            most = max(most, sum(share(pid) for pid in tree(process.pid)))
        except OSError:
            continue  # one of them has just ended
        time.sleep(0.2)
    if process.returncode:
        raise SystemExit(f"the training ended with exit code {process.returncode}")
    return most


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workers", type=int, nargs="+", default=[0, 1, 2], help="numbers of loader workers to try")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run([HARDVIEWS, "pack", "--source", "digits", "--out", "shards"], cwd=folder, check=True)
        for workers in options.workers:
            print(f"{workers} loader workers: {peak(folder, workers):.0f} MB", flush=True)


if __name__ == "__main__":
    main()
