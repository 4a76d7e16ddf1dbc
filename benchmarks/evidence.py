"""Whether hard views pay: every way to choose and harden views against plain training, at equal FLOPs and equal time.

    python benchmarks/evidence.py
    python benchmarks/evidence.py --run --packages FOLDER [--images emoji] [--methods simclr] [--minutes 120]
    python benchmarks/evidence.py --run --data OWN [--first-seed 3]

Prints the tables of the stored results. With --run it computes the missing results, which takes days for all.

Trains small networks on real images that packages ship (`comparing/images.py`), by each arm of `comparing/arms.py`. All
arms have the budget of the plain arm, which decides the number of epochs. The budget is in FLOPs, counted, or in
processor time, measured in the runs at equal FLOPs. The encoder is scored on images of another origin than its training
images: by k-NN (k=20), by a linear classifier, and by k-NN on the other kind of images. With --data these are your own
images, in OWN/train/CLASS and OWN/test/CLASS, and photographs for the transfer. The tables show all arms that have run,
losing arms too: means over seeds, and the difference to the plain arm of the same seed with its 95 % interval.

If it was stopped, it continues: a finished run is a file in `--results`, and a killed one continues from its
checkpoint in `--folder`. With --minutes it ends by itself.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
from dataclasses import asdict
from itertools import product
from pathlib import Path

from comparing.arms import ARMS, METHODS, PLAIN
from comparing.images import KINDS, write
from comparing.queue import Process, run_all
from comparing.run import PRECISIONS, Job, Setting, perform, ratio_of
from comparing.table import table

HARDVIEWS = Path(sys.executable).with_name("hardviews")
RESULTS = Path(__file__).parent / "comparing" / "results"


def pack(kind: str, own: Path | None, packages: Path | None, folder: Path) -> None:
    """Pack a kind of images, or one's own, unless that is done."""
    images, source = own or folder / f"{kind}-images", folder / f"{kind}.source"
    if (folder / kind / "test" / "index.json").exists():
        if own and source.read_text() != str(own.resolve()):
            raise SystemExit(f"{folder / kind} has the images of {source.read_text()}. Rename {own}, or give --folder.")
        return
    if own:
        source.write_text(str(own.resolve()))
    if not own:
        write(kind, packages, images)
    words = [HARDVIEWS, "pack", "--source", images, "--out", folder / kind, "--overwrite"]
    if subprocess.run([str(word) for word in words], stdout=subprocess.DEVNULL).returncode:
        raise SystemExit(f"The images in {images} could not be packed: the message above says why.")


def known(results: Path) -> list[dict]:
    return [json.loads(file.read_text()) for file in sorted(results.glob("[!.]*.json"))]


def jobs(arguments: argparse.Namespace) -> list[Job]:
    """List the runs so that an early end leaves whole seeds; the plain arm comes first, since all need it."""
    seeds = range(arguments.first_seed, arguments.first_seed + arguments.seeds)
    order = product(arguments.budgets, seeds, arguments.methods, arguments.arms)
    # Plain runs are the same under both budgets.
    return [Job(method, arm, budget, seed) for budget, seed, method, arm in order if arm != PLAIN or budget == "flops"]


def work(arguments: argparse.Namespace, setting: Setting) -> None:
    """Compute missing results, some at a time, until all are there or time is up."""
    results, folder = arguments.results / setting.name, arguments.folder
    pack(setting.images, arguments.data, arguments.packages, folder)
    pack(setting.other, None, arguments.packages, folder)
    waiting = [job for job in jobs(arguments) if not (results / f"{job.name}.json").exists()]
    ratios: dict[tuple[str, str, str], float] = {}

    def begin(job: Job) -> Process | None:
        key = (job.method, job.arm, job.budget)
        if key not in ratios:
            ratio = ratio_of(job, setting, known(results))
            if ratio is None:
                print(f"{job.name} has to wait for runs at equal FLOPs.", flush=True)
                return None
            ratios[key] = ratio
        return start(job, ratios[key], arguments, setting)

    def done(job: Job, process: Process) -> None:
        if process.returncode:
            log = folder / f"{job.name}.log"
            last = log.read_text(errors="replace").rstrip().rpartition("\n")[2]
            raise SystemExit(f"{job.name} failed with exit code {process.returncode}. The last line of {log}: {last}")

    run_all(waiting, begin, done, arguments.processes, arguments.minutes)


def start(job: Job, ratio: float, arguments: argparse.Namespace, setting: Setting) -> subprocess.Popen[bytes]:
    """Start one run in a process of its own, on one core."""
    told = json.dumps({"job": asdict(job), "setting": asdict(setting), "ratio": ratio})
    words = [sys.executable, __file__, "--one", told, "--folder", arguments.folder, "--results", arguments.results]
    variables = {**os.environ, "OMP_NUM_THREADS": "1"}
    with open(arguments.folder / f"{job.name}.log", "ab") as log:
        return subprocess.Popen([str(word) for word in words], stdout=log, stderr=log, env=variables)


def named(arguments: argparse.Namespace, parser: argparse.ArgumentParser) -> tuple[str, str]:
    """Return the names of the images to train on and of those of the transfer column."""
    if not arguments.data:
        images = arguments.images or "emoji"
        return images, next(kind for kind in KINDS if kind != images)
    missing = [part for part in ("train", "test") if not (arguments.data / part).is_dir()]
    if missing:
        parser.error(f"--data: {arguments.data} has no folder {missing[0]}. It needs train/CLASS and test/CLASS.")
    own = arguments.data.resolve().name
    if own in KINDS:
        parser.error(f"--data: packages ship images that are called {own} too. Rename the folder.")
    return own, arguments.images or "photographs"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", choices=KINDS, help="to train on; with --data: of the transfer")
    parser.add_argument("--data", type=Path, help="your own images; its name is that of the results")
    parser.add_argument("--packages", type=Path, help="folder with the packages that are not installed")
    parser.add_argument("--methods", nargs="*", choices=METHODS, default=METHODS)
    parser.add_argument("--arms", nargs="*", choices=ARMS, default=ARMS)
    parser.add_argument("--budgets", nargs="*", choices=("flops", "time"), default=("flops", "time"))
    parser.add_argument("--first-seed", type=int, default=0, help="the first of --seeds seeds")
    parser.add_argument("--precision", choices=PRECISIONS, default=PRECISIONS[0], help="of the training")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu", help="of the training")
    for name, default in (("seeds", 3), ("size", 96), ("cheap", 48), ("batch", 96), ("epochs", 20), ("processes", 2)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--minutes", type=float, default=1e9, help="end after so many; the next call goes on")
    parser.add_argument("--folder", type=Path, default=Path(".hardviews/evidence"), help="of images and checkpoints")
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--run", action="store_true", help="train the arms that have no results yet")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        told = json.loads(arguments.one)
        job, setting = Job(**told["job"]), Setting(**told["setting"])
        perform(job, setting, told["ratio"], arguments.folder, arguments.results / setting.name)
        return 0
    if arguments.run:
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that its runs end too
        arguments.folder.mkdir(parents=True, exist_ok=True)
        images, other = named(arguments, parser)
        sizes = (arguments.size, arguments.cheap, arguments.batch, arguments.epochs)
        work(arguments, Setting(images, other, *sizes, arguments.precision, arguments.device))
    found = sorted(arguments.results.glob("*"))
    if not found:
        print("Nothing is measured yet: --run --packages FOLDER begins.")
    for results in found:
        for budget, title in (("flops", "equal FLOPs"), ("time", "equal time")):
            if budget not in {row["budget"] for row in known(results)}:
                continue
            print(f"## {results.name}, {title}\n\n{table(known(results), budget)}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
