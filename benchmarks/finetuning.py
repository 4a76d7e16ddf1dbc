"""Value of labels: a fine-tuned encoder, a linear classifier on it, and the same network without pretraining.

    python benchmarks/finetuning.py
    python benchmarks/finetuning.py --run [--seeds 3] [--minutes 20]

Prints the table of the stored results. With --run it computes the missing results: about 20 minutes on two free cores,
in the order of the seeds, so that an early end leaves whole seeds.

Pretrains the recipe `digits` once, on scikit-learn's handwritten digits without labels. Then, for two labels of each
class, for 10 % and for all of them, and for each seed of the draw and of the training:

* linear: `hardviews linear` on the frozen encoder. It chooses its penalty on a part of these labels.
* untrained: `hardviews pretrain digits_finetune` on these labels, from random weights.
* fine-tuned: `hardviews finetune --recipe digits_finetune` on the same labels, with the same settings.

Scores are top-1 on the test images, in per cent: means over seeds, differences of two ways seed by seed, and their 95 %
intervals. The intervals cover the draw of the labels and the training on them. They do not cover the pretraining, of
which there is one, nor the choice of the 355 test images: one image is 0.3 points.

If it was stopped, it continues: a finished run is a line of --results, and a killed one continues from its checkpoint
in --folder. With --held-out the test images are not used. Three tenths of the training images are scored instead; their
labels are not trained on. --set tries other settings of the recipe. These results stay in --folder.
"""

import argparse
import json
import os
import shlex
import signal
import subprocess
import sys
from dataclasses import asdict
from itertools import product
from pathlib import Path

from comparing.queue import Process, run_all
from finetuned.run import AMOUNTS, WAYS, Amount, Job, Places, perform, without_test
from finetuned.table import table

HARDVIEWS = Path(sys.executable).with_name("hardviews")
RESULTS = Path(__file__).parent / "finetuned" / "results" / "digits.json"


def jobs(seeds: int) -> list[Job]:
    return [Job(amount, way, seed) for seed, amount, way in product(range(seeds), AMOUNTS, WAYS)]


def known(file: Path) -> list[dict]:
    return json.loads(file.read_text()) if file.exists() else []


def keep(rows: list[dict], file: Path) -> None:
    """Write the results in one order, whole or not at all."""
    order = [amount.labels for amount in AMOUNTS]
    rows.sort(key=lambda row: (order.index(row["labels"]), WAYS.index(row["way"]), row["seed"]))
    file.parent.mkdir(parents=True, exist_ok=True)
    part = file.with_name(f".{file.name}")
    part.write_text("[\n " + ",\n ".join(json.dumps(row) for row in rows) + "\n]\n")
    os.replace(part, file)


def prepared(folder: Path, hold_out: bool) -> Places:
    """Pack and pretrain unless that is done; return the places."""
    shards, encoder = folder / "shards", folder / "pretrained"
    if not (shards / "test" / "index.json").exists():
        command(folder, "pack", "--source", "digits", "--out", str(shards), "--overwrite")
    command(folder, "pretrain", "digits", "--data", str(shards), "--output", str(encoder))
    if not hold_out:
        return Places(shards, encoder, folder)
    apart = folder / "held-out" / "shards"
    if not (apart / "test" / "index.json").exists():
        without_test(shards, apart)
    return Places(apart, encoder, apart.parent)


def command(folder: Path, *words: str) -> None:
    """Run a command of the product; a pretraining that is finished ends at once."""
    project = ["--project", str(folder / "project")] if words[0] != "pack" else []
    subprocess.run([str(HARDVIEWS), *words, *project], check=True, stdout=subprocess.DEVNULL)


def start(job: Job, places: Places, settings: list[str], file: Path) -> subprocess.Popen[bytes]:
    """Start one run in a process of its own, on one core."""
    told = json.dumps({"job": asdict(job), "places": [str(place) for place in asdict(places).values()]})
    words = [sys.executable, __file__, "--one", told, f"--set={shlex.join(settings)}", "--results", str(file)]
    with open(places.folder / f"{job.name}.log", "ab") as log:
        return subprocess.Popen(words, stdout=log, stderr=log, env={**os.environ, "OMP_NUM_THREADS": "1"})


def work(waiting: list[Job], places: Places, arguments: argparse.Namespace, results: Path) -> None:
    """Compute missing results, some at a time, until all are there or time is up."""
    settings = shlex.split(arguments.set)

    def begin(job: Job) -> Process:
        return start(job, places, settings, places.folder / f"{job.name}.json")

    def done(job: Job, process: Process) -> None:
        file = places.folder / f"{job.name}.json"
        if process.returncode or not file.exists():
            raise SystemExit(f"{job.name} failed: see {places.folder / job.name}.log.")
        row = json.loads(file.read_text())
        file.unlink()
        keep([*known(results), row], results)

    run_all(waiting, begin, done, arguments.processes, arguments.minutes)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", action="store_true", help="make the results that are missing")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--processes", type=int, default=2, help="runs at a time")
    parser.add_argument("--minutes", type=float, default=1e9, help="end after so many; the next call goes on")
    parser.add_argument("--held-out", action="store_true", help="score on held-out training images")
    parser.add_argument("--set", default="", metavar="WORDS", help="settings of the recipe, with --held-out")
    parser.add_argument("--folder", type=Path, default=Path(".hardviews/finetuning"), help="of data and checkpoints")
    parser.add_argument("--results", type=Path, default=RESULTS, help="file of results")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        told = json.loads(arguments.one)
        job = Job(**{**told["job"], "amount": Amount(**told["job"]["amount"])})
        row = perform(job, Places(*map(Path, told["places"])), shlex.split(arguments.set))
        arguments.results.write_text(json.dumps(row))
        return 0
    if arguments.set and not arguments.held_out:
        parser.error("--set tries settings, for which --held-out is needed: the test images are not for choosing.")
    results = arguments.results
    if arguments.held_out:
        tried = "-".join(word.strip("-") for word in shlex.split(arguments.set)) or "recipe"
        results = arguments.folder / "held-out" / f"{tried}.json"
    if arguments.run:
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that its runs end too
        arguments.folder.mkdir(parents=True, exist_ok=True)
        places = prepared(arguments.folder.resolve(), arguments.held_out)
        if arguments.set:
            places = Places(places.shards, places.encoder, places.folder / results.stem)
            places.folder.mkdir(exist_ok=True)
        done = {(row["labels"], row["way"], row["seed"]) for row in known(results)}
        missing = [job for job in jobs(arguments.seeds) if (job.amount.labels, job.way, job.seed) not in done]
        work(missing, places, arguments, results)
    rows = known(results)
    print(table(rows) if rows else "Nothing is measured yet: --run begins.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
