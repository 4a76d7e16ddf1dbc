"""A moving picture of a run's page while the run trains, for README.md.

.venv/bin/python -m tests.browser.record --to docs/images/run.webp

It packs photographs, trains on them, and takes a picture of the charts after every few logged steps. At the end come
the views that were chosen. The run is a real one; the moving picture shows it faster than it was.
"""

import argparse
import io
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from mlflow.tracking import MlflowClient
from PIL import Image

from tests.browser.chromium import chromium
from tests.browser.tour import QUIET, Tour
from tests.tracking.servers import free_port, mlflow_server

_SIZE = (1020, 675)  # of the frames, in pixels
_SHOWN, _LAST = 450, 2500  # milliseconds of a frame, and of one to look at
_MOST = 1_500_000  # bytes that a page may well wait for


class Film(Tour):
    """A tour whose pictures become the frames of one moving picture."""

    def __init__(self, *where):
        super().__init__(*where)
        self.frames, self.times = [], []

    def write(self, path):
        """Write an animated WebP."""
        first, *others = self.frames
        first.save(path, save_all=True, append_images=others, duration=self.times, loop=0, quality=60, method=6)
        assert path.stat().st_size < _MOST, f"{path} has {path.stat().st_size:,} bytes"

    def _picture(self, name):
        self.browser.value(QUIET)
        time.sleep(1)  # for the eye alone: pages fade and move
        with Image.open(io.BytesIO(self.browser.pixels())) as image:
            self.frames.append(image.convert("RGB").resize(_SIZE, Image.Resampling.LANCZOS))
        self.times.append(_SHOWN)


def record(folder, epochs, to):
    """Train, and film the page of the run."""
    _hardviews(folder, "pack", "--source", "photographs", "--out", "shards").wait()
    with mlflow_server(folder, free_port()) as server, chromium(folder / "profile") as browser:
        words = ["--data", "shards", "--output", "run", "--training.epochs", str(epochs), "--training.log-steps", "2"]
        training = _hardviews(folder, "pretrain", "photos", *words, server=server)
        try:
            film = Film(browser, server, *_run(server, training))
            logged = 0
            while training.poll() is None:
                lines = _logged(folder / "run" / "history.jsonl")
                if lines > logged + 1:
                    logged = lines
                    film.charts()
                time.sleep(0.2)
        finally:
            training.kill()
            training.wait()
        assert training.returncode == 0, "the training failed"
        film.charts()
        film.times[-1] = _LAST
        film.artifact("figures/gallery.png")
        film.times[-1] = _LAST
        film.write(to)


def _hardviews(folder, *words, server=None):
    variables = {**os.environ, **({"MLFLOW_TRACKING_URI": server} if server else {})}
    return subprocess.Popen([sys.executable, "-m", "hardviews.cli", *words], cwd=folder, env=variables)


def _run(server, training):
    """Wait for the run in the tracking; return the ids of experiment and run."""
    client = MlflowClient(server)
    while True:
        assert training.poll() is None, "the training ended before it had a run"
        experiment = client.get_experiment_by_name("hardviews")
        runs = client.search_runs([experiment.experiment_id]) if experiment else []
        if runs:
            return experiment.experiment_id, runs[0].info.run_id
        time.sleep(0.2)


def _logged(file):
    if not file.exists():
        return 0
    return sum("loss" in json.loads(line) for line in file.read_text().splitlines())


def main():
    """Record the picture."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--to", type=Path, required=True)
    parser.add_argument("--epochs", type=int, default=2)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        record(Path(folder), given.epochs, given.to.absolute())


if __name__ == "__main__":
    main()
