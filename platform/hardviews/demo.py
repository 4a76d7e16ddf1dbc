"""`hardviews demo`: the main job on real input, from images to a table, by the commands that a user would type."""

import hashlib
import json
import os
import re
import shlex
import subprocess
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path

import torch

import hardviews
from hardviews.checked import OPTION, at_least, require, within
from hardviews.data.index import Index
from hardviews.data.pack_command import Packing
from hardviews.errors import UserError
from hardviews.evaluation.features.sources import Source
from hardviews.evaluation.report import table
from hardviews.evaluation.result import Result
from hardviews.evaluation.scores import heading, metric
from hardviews.recipes import recipe_named
from hardviews.storage.url import check_here
from hardviews.tracking.experiment import TRAINING_MENUS
from hardviews.tracking.settings import TRACKING_URI, setting

_CHECKOUT = Path(hardviews.__file__).parents[2]
_PROJECT = ".hardviews"
_SOURCES: tuple[Source, ...] = ("pixels", "untrained", "pretrained")
_SHORT = 192  # shorter side of a packed photograph in pixels: a 64-pixel view of it is never enlarged
_SEEN = 20_000  # number of images that a run on photographs sees: a few minutes on two cores


@dataclass(frozen=True)
class Demo:
    """Packs images, pretrains on hard views in two processes, evaluates, and shows the gain of pretraining.

    Attributes:
        data: a folder with one sub-folder of images per class; without it, scikit-learn's handwritten digits.
        folder: folder of data, runs and the tracking record.
        seed: seed of the run.
        epochs: number of epochs in place of the recipe's own.
    """

    data: str | None = None
    folder: str = _PROJECT
    seed: int = 0
    epochs: int | None = None

    def __post_init__(self) -> None:
        """Refuse folders that are not named."""
        check_here(data=self.data, folder=self.folder)
        require(self, OPTION, seed=within(0, 2**32 - 1), epochs=at_least(1).or_none())


@dataclass(frozen=True)
class Outcome:
    """Test accuracies in per cent, by metric (one of k-NN, one linear) and source of features.

    `headings` are the metrics' headings in a table. `run` is its page, below the tracking server's address. `epochs` is
    the length of the training, and `seconds` the duration of each part.
    """

    accuracy: dict[str, dict[Source, float]]
    headings: dict[str, str]
    run: str
    epochs: int
    seconds: dict[str, float]

    @property
    def worked(self) -> bool:
        """Return whether pretraining beat the untrained encoder by every metric."""
        return all(row["pretrained"] > row["untrained"] for row in self.accuracy.values())


def run_demo(demo: Demo) -> None:
    """Run the demo, show the table and the way to MLflow's pages.

    Raises:
        UserError: the images cannot be used, or pretraining did not beat the untrained encoder.
    """
    from rich.console import Console

    outcome = measure(demo)
    results = [
        Result("", {source: {metric: value} for source, value in row.items()}, outcome.headings, "", outcome.run)
        for metric, row in outcome.accuracy.items()
    ]
    print()
    Console().print(table(results))
    print("The curves, the views that were chosen and every setting are on MLflow's pages.", end=" ")
    address = server = setting(TRACKING_URI) or ""
    if not server.startswith("http"):
        address = "http://127.0.0.1:5000"
        store = server or f"sqlite:///{_shown(Path(demo.folder).absolute())}/mlflow.db"
        print("Start them:")
        print(f"  {shlex.quote(_shown(_program('mlflow')))} ui --backend-store-uri {shlex.quote(store)}")
    print("Open the run:")
    print(f"  {address.rstrip('/')}/#/{outcome.run}?{TRAINING_MENUS}")
    if not outcome.worked:
        raise UserError(
            "Pretraining did not beat the untrained encoder here: see the table. On a small or unusual collection that "
            f"can happen. Train longer ({_longer(demo, outcome.epochs)}), or look at the views in the run's gallery: "
            "they should still show what the classes differ in."
        )


def measure(demo: Demo) -> Outcome:
    """Pack, pretrain and evaluate; return the accuracies that the evaluation jobs logged.

    Finished parts are not repeated: packed images are used, an interrupted run goes on, a finished run is evaluated.
    Other images or settings get a folder of their own.
    """
    if not (_CHECKOUT / "jobs" / "pretrain.py").exists():
        raise UserError(
            f"The demo runs the jobs of a checkout, and {_CHECKOUT} is none. Run it in a clone of hardviews."
        )
    if demo.data is not None:
        demo = replace(demo, data=str(Path(demo.data).expanduser()))
    folder = Path(demo.folder).absolute()
    recipe = "digits" if demo.data is None else "photos"
    name = "digits" if demo.data is None else f"{_plain(demo.data)}-{_state(demo.data)}"
    shards = folder / "data" / name
    began = time.monotonic()
    index = _packed(demo, shards)
    seconds = {"pack": time.monotonic() - began}
    epochs = _epochs(recipe, len(index)) if demo.epochs is None else demo.epochs
    settings = _fitted(demo, recipe, len(index), epochs)
    made_of = _digest([recipe_named(recipe).digest(), index.digest, *settings])
    output = folder / "runs" / f"{name}-{made_of}"
    project = [] if folder == _CHECKOUT / _PROJECT else ["--project", str(folder)]
    environment = {"HARDVIEWS_DATA": str(shards), "HARDVIEWS_OUTPUT": str(output)}
    print("$ export", *[f"{key}={shlex.quote(_shown(Path(value)))}" for key, value in environment.items()])
    if (output / "encoder").exists():
        print(
            f"{_shown(output)} holds this very run, finished: it is evaluated again. Another --seed makes another run."
        )
    else:
        component = [] if recipe == "digits" else ["--recipe", recipe]
        seconds["pretrain"] = _torchx("pretrain.py", component, [*settings, *project], environment)
    seed = [] if demo.seed == 0 else ["--seed", str(demo.seed)]
    for job in ("knn.py", "linear_eval.py"):
        seconds[Path(job).stem] = _torchx(job, [], [*seed, *project], environment)
    accuracy, headings, run = _accuracy(output, folder)
    return Outcome(accuracy, headings, run, epochs, seconds)


def _packed(demo: Demo, shards: Path) -> Index:
    """Pack the images unless that was done before; return the training part's index."""
    if not (shards / "train" / "index.json").exists() or not (shards / "test" / "index.json").exists():
        short = None if demo.data is None else _SHORT
        packed = Packing(demo.data or "digits", str(shards), short=short, overwrite=True).run()
        if "test" not in packed or not packed["train"].labelled:
            raise UserError(
                f"{demo.data} has no class folders, so there is nothing to evaluate on. Put the images of each class "
                "in a folder of its own; to pretrain without labels, use hardviews pack and hardviews pretrain."
            )
        _name_rejects(shards)
    index = Index.load(str(shards / "train"))
    if len(index.classes) < 2:
        raise UserError(
            f"{demo.data} has one class only, {index.classes[0]}, so there is nothing to learn. Add another class "
            "folder; to pretrain without classes, use hardviews pack and hardviews pretrain."
        )
    return index


def _name_rejects(shards: Path) -> None:
    """Print the skipped images and the reasons, ten of them at most."""
    lists = [part / "rejects.jsonl" for part in (shards / "train", shards / "test")]
    rejects = [json.loads(line) for file in lists if file.exists() for line in file.read_text().splitlines()]
    for reject in rejects[:10]:
        print(f"skipped {reject['name']}: {reject['reason']}")
    if len(rejects) > 10:
        print(f"... and {len(rejects) - 10} more; all of them are in {lists[0]} and {lists[1]}")


def _epochs(recipe: str, samples: int) -> int:
    """Return the recipe's own length; on photographs, a length of a few minutes unless there are very many."""
    if recipe == "digits":
        return recipe_named(recipe).training.epochs
    return max(2, min(100, _SEEN // max(1, samples)))


def _fitted(demo: Demo, recipe: str, samples: int, epochs: int) -> list[str]:
    """Return overrides that fit the recipe to the collection: its global batch and its length."""
    own = recipe_named(recipe).training
    fitted = [] if demo.seed == own.seed else ["--training.seed", str(demo.seed)]
    if recipe == "photos":
        # Each of two processes needs whole groups; small collections need smaller batches.
        group = 32 if samples >= 64 else 8
        if samples < 2 * group:
            raise UserError(f"{demo.data} has {samples} training images after hold-out; the demo needs at least 16.")
        batch = max(2 * group, min(128, samples // 4 // (2 * group) * 2 * group))
        fitted += ["--training.batch", str(batch), "--training.group", str(group)]
    if epochs != own.epochs:
        fitted += ["--training.epochs", str(epochs)]
    if torch.cuda.is_available():
        # Each of the two processes would need a GPU of its own.
        fitted += ["--precision.device", "cpu"]
    return fitted


def _torchx(job: str, component: list[str], overrides: list[str], environment: dict[str, str]) -> float:
    """Run `torchx run -s local_cwd jobs/JOB` as a user would; return the seconds that it took."""
    words = ["run", "-s", "local_cwd", f"jobs/{job}", *component, *(["--", *overrides] if overrides else [])]
    print("$ torchx", shlex.join(words), flush=True)
    began = time.monotonic()
    # Only warnings among TorchX's own remarks are useful.
    variables = os.environ | {"LOGLEVEL": os.environ.get("LOGLEVEL") or "WARNING"} | environment
    with subprocess.Popen([str(_program("torchx")), *words], cwd=_CHECKOUT, env=variables) as running:
        try:
            failed = running.wait()
        except KeyboardInterrupt:
            running.wait()  # the terminal has signalled it too, and it stops its processes
            raise
    if failed:
        raise UserError(
            f"The job jobs/{job} failed; its messages are above. Nothing that it finished is lost: run it again."
        )
    return time.monotonic() - began


def _accuracy(output: Path, folder: Path) -> tuple[dict[str, dict[Source, float]], dict[str, str], str]:
    """Read the evaluations' metrics from the children of the pretraining run.

    Return accuracies by metric and source, the headings of the metrics, and the run's page.
    """
    from mlflow import MlflowClient

    run_id = json.loads((output / "run.json").read_text())["run_id"]
    client = MlflowClient(setting(TRACKING_URI) or f"sqlite:///{folder}/mlflow.db")
    experiment = client.get_run(run_id).info.experiment_id
    children = client.search_runs([experiment], f"tags.`mlflow.parentRunId` = '{run_id}'", order_by=["start_time ASC"])
    metrics = {key: value for child in children for key, value in child.data.metrics.items()}
    # DINO's usual 20 neighbours, or as many as a small collection has.
    neighbours = [int(match[1]) for key in metrics if (match := re.fullmatch(r"knn/top1_k(\d+)", key))]
    if not neighbours or "linear/top1" not in metrics:
        raise UserError(
            f"The tracking server does not have the accuracies of run {run_id}: it did not answer when the evaluations "
            "ended. Run the demo again when it does; finished trainings are kept."
        )
    nearest = min(neighbours, key=lambda k: abs(k - 20))
    headings = {
        metric(protocol, "top1", variant): heading(protocol, "top1", variant)
        for protocol, variant in (("knn", f"k{nearest}"), ("linear", ""))
    }
    prefixes = {source: "" if source == "pretrained" else f"{source}/" for source in _SOURCES}
    accuracy = {name: {source: metrics[p + name] for source, p in prefixes.items()} for name in headings}
    return accuracy, headings, f"experiments/{experiment}/runs/{run_id}"


def _program(name: str) -> Path:
    return Path(sys.executable).parent / name


def _shown(path: Path) -> str:
    """Return a path in the form to type, relative to the checkout if the demo is run from there."""
    return os.path.relpath(path) if Path.cwd() == _CHECKOUT and path.is_relative_to(_CHECKOUT) else str(path)


def _longer(demo: Demo, epochs: int) -> str:
    data = "" if demo.data is None else f" --data {shlex.quote(demo.data)}"
    return f"{shlex.quote(_shown(_program('hardviews')))} demo{data} --epochs {4 * epochs}"


def _plain(path: str) -> str:
    return re.sub(r"[^A-Za-z0-9_-]+", "_", Path(path).resolve().name)


def _state(folder: str) -> str:
    """Return a digest of a folder's path and of the names, sizes and times of its files."""
    root = Path(folder).resolve()
    files = [Path(place) / name for place, _, names in os.walk(root, followlinks=False) for name in names]
    stats = [(str(file.relative_to(root)), file.lstat()) for file in sorted(files)]
    return _digest([str(root), *[f"{name} {stat.st_size} {stat.st_mtime_ns}" for name, stat in stats]])


def _digest(words: list[str]) -> str:
    return hashlib.sha256("\0".join(words).encode(errors="surrogateescape")).hexdigest()[:6]
