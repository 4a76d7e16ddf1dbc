"""Verdicts on small runs that are healthy, collapse or diverge, by the settings that make them so.

    python benchmarks/health.py [--only simsiam weight_decay] [--folder FOLDER] [--pictures docs/images]
                                [--courses tests/health/courses]

Packs scikit-learn's digits and pretrains each run below for a few epochs, with measurements every 22 steps. Prints for
each run the verdict, the step at which an alarm was first given, and the last figures. `--pictures` draws three of them
beside one another, as docs/health.md shows them; `--courses` writes their metrics, on which the verdict is tested. With
`--folder`, runs that are there already are not trained again. The exit code is not 0 if a verdict is not the expected
one.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import torch
from matplotlib.figure import Figure

from hardviews.data.pack_command import Packing
from hardviews.data.reader import Reader
from hardviews.evaluation.monitoring.specimens import Specimens
from hardviews.health.course import Course
from hardviews.health.spectrum import covariance_eigenvalues
from hardviews.health.verdict import verdict
from hardviews.models.encoder import load
from hardviews.runs.history import read_rows
from hardviews.tracking.drawing import save_figure
from hardviews.tracking.figures import tidy
from hardviews.views.augmentation import Augmentation

HARDVIEWS = Path(sys.executable).with_name("hardviews")
SHORT = ("--training.epochs", "6", "--strategy.candidates", "2", "--monitor.steps", "22", "--monitor.labelled", "800")
KEPT = ("loss", "spread", "health/", "online/")  # metrics of a course


@dataclass(frozen=True)
class Case:
    """A run: its recipe, its changed settings, and the verdict that it should get."""

    recipe: str
    words: tuple[str, ...]
    expected: str


CASES = {
    "simsiam": Case("digits_simsiam", (), "ok"),
    "byol": Case("digits_byol", (), "ok"),
    "no_momentum": Case("digits_byol", ("--method.momentum", "0"), "ok"),
    "dino": Case("digits_dino", (), "ok"),
    "moco": Case("digits_moco", (), "ok"),
    "swav": Case("digits_swav", (), "ok"),
    "deepcluster": Case("digits_deepcluster", (), "ok"),
    "ibot": Case("digits_ibot", (), "ok"),  # its features contract, while they say more and more
    "weight_decay": Case("digits_simsiam", ("--optimizer.weight-decay", "0.3"), "collapsed"),
    "no_centre": Case("digits_dino", ("--method.centre-momentum", "1"), "ok"),  # it contracts only behind the projector
    "rate_50": Case("digits_simsiam", ("--optimizer.learning-rate", "50"), "collapsed"),
    "rate_huge": Case("digits_simsiam", ("--optimizer.learning-rate", "1e12"), "diverged"),
}
LEAST = -9  # log10 of the smallest eigenvalue that is drawn, as a share of the mean squared length
# Runs that are drawn, their words in the legend, and colours of Okabe and Ito.
DRAWN = {
    "simsiam": ("healthy: digits_simsiam", "#009E73"),
    "weight_decay": ("collapsed: weight decay 0.3", "#D55E00"),
    "rate_50": ("collapsed: learning rate 50", "#0072B2"),
}
PANELS = {
    "loss": "loss",
    "health/rankme": "rank of the features",
    "health/spread": "spread of the features",
    "online/knn_top1_k20": "k-NN accuracy, %",
}


def train(name: str, case: Case, folder: Path) -> tuple[Course, bool]:
    """Pretrain unless it was done; return the course, and whether a number was not finite."""
    output = folder / name
    words = [HARDVIEWS, "pretrain", case.recipe, "--data", folder / "shards", "--output", output, *SHORT, *case.words]
    words += ["--monitor.data", folder / "shards", "--project", folder / "project"]
    done = subprocess.run([*map(str, words)], capture_output=True, text=True)
    broken = "is not finite" in done.stderr
    if done.returncode and not broken:
        raise SystemExit(f"{name}: {done.stderr[-2000:]}")
    return Course(read_rows(str(output))), broken


def judged(name: str, case: Case, folder: Path) -> bool:
    """Train, print one line, and return whether the verdict is the expected one."""
    course, broken = train(name, case, folder)
    alarm, going = None, Course()
    for row in read_rows(str(folder / name)):
        going.add(row)
        if alarm is None and verdict(going, finished=False).alarming:
            alarm = going.step
    found = verdict(course, not broken, "The loss is not finite." if broken else "")
    figures = {
        name: point.value for name, point in course.prefixed("health/rankme", "health/spread", "online/").items()
    }
    shown = ", ".join(f"{name.partition('/')[2]} {value:.3g}" for name, value in figures.items())
    print(
        f"{name:14s}{found.kind:11s}first alarm {alarm or '-':>4}   loss {_last(course, 'loss')}, {shown}", flush=True
    )
    return found.kind == case.expected


def _last(course: Course, name: str) -> str:
    point = course.last(name)
    return "-" if point is None else f"{point.value:.3g}"


def write_course(name: str, folder: Path, courses: Path) -> None:
    """Write the metrics of a run that a verdict reads, with four digits."""
    courses.mkdir(parents=True, exist_ok=True)
    lines = []
    for row in read_rows(str(folder / name)):
        kept: dict[str, Any] = {"step": row["step"], "samples": row["samples"]}
        kept |= {key: float(f"{value:.4g}") for key, value in row.items() if key.startswith(KEPT)}
        lines.append(json.dumps({key: value for key, value in kept.items() if "loss/" not in key}))
    (courses / f"{name}.jsonl").write_text("\n".join(lines) + "\n")


def draw_courses(folder: Path) -> Figure:
    """Return a panel for each metric, with a line for each run."""
    figure = Figure(figsize=(9.0, 5.2), dpi=90, layout="constrained")
    for number, (metric, title) in enumerate(PANELS.items(), 1):
        axes = figure.add_subplot(2, 2, number)
        for name, (words, colour) in DRAWN.items():
            points = Course(read_rows(str(folder / name))).of(metric)
            marked = metric != "loss"
            axes.plot(
                *([point.step for point in points], [point.value for point in points]),
                **{"color": colour, "label": words, "marker": "o" if marked else None, "markersize": 4},
            )
        axes.set_title(title, loc="left", fontsize=10)
        axes.set_xlabel("step")
        tidy(axes)
    handles, labels = figure.axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=3, frameon=False)
    return figure


def draw_spectra(folder: Path) -> Figure:
    """Return the eigenvalues of the covariance of each exported encoder's features, over their mean squared length."""
    figure = Figure(figsize=(6.0, 3.6), dpi=90, layout="constrained")
    axes = figure.add_subplot()
    specimens = Specimens(Reader(str(folder / "shards" / "train")), Augmentation(size=32), 512)
    images = specimens.place("images")
    pixels = specimens.pixels(range(images.start, images.stop))
    for name, (words, colour) in DRAWN.items():
        features = load(str(folder / name)).embed(pixels).double()
        share = covariance_eigenvalues(features) / features.square().sum(1).mean().clamp(min=1e-30)
        axes.plot(share.clamp(min=10.0**LEAST).log10().tolist(), color=colour, label=words)
    axes.set_xlabel("rank of the eigenvalue")
    axes.set_title("log10 of the eigenvalues of the covariance", loc="left", fontsize=10)
    axes.set_ylim(LEAST - 0.2, 0)
    tidy(axes)
    axes.legend(frameon=False)
    return figure


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="*", default=list(CASES), choices=list(CASES))
    parser.add_argument("--folder")
    parser.add_argument("--pictures", type=Path, help="folder that the pictures are written to")
    parser.add_argument("--courses", type=Path, help="folder that the metrics are written to")
    options = parser.parse_args()
    machine = platform.processor() or platform.machine()
    print(f"{os.cpu_count()} cores of {machine}, torch {torch.__version__}, {date.today()}")
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(options.folder or temporary)
        if not (folder / "shards").exists():
            Packing("digits", str(folder / "shards")).run()
        good = [judged(name, CASES[name], folder) for name in options.only]
        for name in options.only if options.courses else ():
            write_course(name, folder, options.courses)
        if options.pictures:
            for picture, figure in (("health", draw_courses(folder)), ("spectra", draw_spectra(folder))):
                save_figure(figure, options.pictures / f"{picture}.png")
    return 0 if all(good) else 1


if __name__ == "__main__":
    sys.exit(main())
