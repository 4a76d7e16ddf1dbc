"""A small pretraining by the command line on the GPU: loader, renderer, checkpoints and history together."""

import importlib.util
import json
import math
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from PIL import Image

from on_gpu.case import Case, Row
from on_gpu.scale import Scale
from stepping.pictures import picture

_NEEDED = ("mlflow", "rich", "torchx", "tyro", "webdataset")
_IMAGES, _SIDE, _RECIPE = 512, 96, "photos_simsiam"


def cases() -> list[Case]:
    """Return the one case."""
    return [Case("pretrain", "by the command line", _measure, 30, 120, gpu=True)]


def _measure(scale: Scale) -> Iterator[Row]:
    missing = [name for name in _NEEDED if importlib.util.find_spec(name) is None]
    what = f"hardviews pretrain {_RECIPE}"
    if missing:
        yield Row(what, "left out", text=f"not installed: {', '.join(missing)}")
        return
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "images").mkdir()
        for number in range(_IMAGES):
            Image.fromarray(picture(number, _SIDE, _SIDE)).save(folder / "images" / f"{number}.png")
        _hardviews(folder, scale.left, "pack", "--source", "images", "--out", "shards")
        words = ["--data", "shards/train", "--output", "run", "--precision.device", "cuda"]
        words += ["--training.epochs", "2", "--training.log_steps", "1", "--loader.workers", "2"]
        began = time.perf_counter()
        _hardviews(folder, scale.left, "pretrain", _RECIPE, *words)
        took = time.perf_counter() - began
        lines = (folder / "run" / "history.jsonl").read_text().splitlines()
    losses = [row["loss"] for row in map(json.loads, lines) if "loss" in row]
    good = bool(losses) and all(map(math.isfinite, losses))
    text = (
        f"{took:.0f} s for 2 epochs of {_IMAGES} images; losses {losses[0]:.3f} to {losses[-1]:.3f}"
        if good
        else "no loss"
    )
    yield Row(what, "ok" if good else "failed", text=text, numbers={"seconds": took, "losses": losses})


def _hardviews(folder: Path, seconds: float, *words: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "hardviews.cli", *words], cwd=folder, capture_output=True, text=True, timeout=seconds
    )
    if done.returncode:
        last = (done.stderr.strip() or done.stdout.strip() or "no output").splitlines()[-1]
        raise RuntimeError(f"hardviews {words[0]} ended with exit code {done.returncode}: {last}")
