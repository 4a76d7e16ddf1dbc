"""`hardviews demo`: the main job on real input, from images to a table, by the commands that a user would type."""

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from rich.table import Table

import hardviews
from hardviews.data.index import Index
from hardviews.data.packing import Packing
from hardviews.errors import UserError

_JOBS = Path(hardviews.__file__).parents[2] / "jobs"
_METRICS = {"k-NN": "knn_top1_k20", "linear": "linear_top1"}


@dataclass(frozen=True)
class Demo:
    """Packs images, pretrains on hard views in two processes, evaluates, and shows what pretraining was worth.

    data: a folder with one sub-folder of images per class; without it, scikit-learn's handwritten digits. folder: where
    data, runs and the tracking record go. seed: of the run. epochs: instead of the recipe's own number.
    """

    data: str | None = None
    folder: str = ".hardviews"
    seed: int = 0
    epochs: int | None = None


@dataclass(frozen=True)
class Outcome:
    """Test accuracies in per cent: by protocol and by source of features."""

    accuracy: dict[str, dict[str, float]]
    run: str

    @property
    def worked(self) -> bool:
        """Return whether pretraining beat the untrained encoder by every protocol."""
        return all(row["pretrained"] > row["untrained"] for row in self.accuracy.values())


def run_demo(demo: Demo) -> None:
    """Run the demo, show the table and the way to MLflow's pages.

    Raises:
        UserError: the images cannot be used, or pretraining did not beat the untrained encoder.
    """
    from rich.console import Console

    outcome = measure(demo)
    Console().print(_table(outcome))
    server = os.environ.get("MLFLOW_TRACKING_URI")
    store = f"sqlite:///{Path(demo.folder).absolute()}/mlflow.db"
    if server is None:
        print(f"Review the run: {Path(sys.executable).parent}/mlflow ui --backend-store-uri {store}")
        print("then open http://127.0.0.1:5000 (experiment hardviews, the pretraining run and its children).")
    else:
        print(f"Review the run at {server}")
    if not outcome.worked:
        raise UserError(
            "Pretraining did not beat the untrained encoder here. On a small or unusual collection that can happen: "
            f"train longer (hardviews demo --epochs {2 * (demo.epochs or 20)}), or look at the "
            "views in the run's gallery."
        )


def measure(demo: Demo) -> Outcome:
    """Pack, pretrain and evaluate; return the accuracies that the evaluation jobs logged."""
    folder = Path(demo.folder).absolute()
    name = "digits" if demo.data is None else Path(demo.data).resolve().name
    recipe = "digits" if demo.data is None else "photos"
    shards, output = folder / "data" / name, folder / "runs" / f"{name}-seed{demo.seed}"
    index = _packed(demo, shards)
    overrides = ["--training.seed", str(demo.seed), *_fitted(demo, recipe, len(index))]
    environment = {
        "HARDVIEWS_DATA": str(shards),
        "HARDVIEWS_OUTPUT": str(output),
        "HARDVIEWS_RECIPE": recipe,
    }
    project = ["--project", str(folder)]
    _torchx("pretrain.py", [*overrides, *project], environment)
    baselines = ["--baselines", "--seed", str(demo.seed), *project]
    for job in ("knn.py", "linear_eval.py"):
        _torchx(job, baselines, environment)
    return _outcome(output, folder)


def _packed(demo: Demo, shards: Path) -> Index:
    """Pack the images unless that was done before; return the training part's index."""
    if not (shards / "train" / "index.json").exists() or not (shards / "test" / "index.json").exists():
        packing = Packing(demo.data or "digits", str(shards), overwrite=True)
        packed = packing.run()
        if "test" not in packed or not packed["train"].labelled:
            raise UserError(
                f"{demo.data} has no class folders, so there is nothing to evaluate on. Put the images of each class "
                "in a folder of its own; to pretrain without labels, use hardviews pack and hardviews pretrain."
            )
    return Index.load(str(shards / "train"))


def _fitted(demo: Demo, recipe: str, samples: int) -> list[str]:
    """Return overrides that fit the recipe to the collection: its global batch and its length."""
    fitted = [] if demo.epochs is None else ["--training.epochs", str(demo.epochs)]
    if recipe == "photos":
        # Whole groups for each of two processes; small collections take smaller batches.
        group = 32 if samples >= 64 else 8
        if samples < 2 * group:
            raise UserError(f"{demo.data} has {samples} training images after hold-out; the demo needs at least 16.")
        batch = max(2 * group, min(128, samples // 4 // (2 * group) * 2 * group))
        fitted += ["--training.batch", str(batch), "--training.group", str(group)]
        if demo.epochs is None:
            # A few minutes on two cores, whatever the size: about 20,000 images seen.
            fitted += ["--training.epochs", str(max(2, min(100, 20000 // samples)))]
    return fitted


def _torchx(job: str, overrides: list[str], environment: dict[str, str]) -> None:
    """Run `torchx run -s local_cwd jobs/JOB` as a user would."""
    command = ["torchx", "run", "-s", "local_cwd", f"jobs/{job}", "--", *overrides]
    print("$", " ".join(command), flush=True)
    command[0] = str(Path(sys.executable).parent / "torchx")
    done = subprocess.run(command, cwd=_JOBS.parent, env=os.environ | environment)
    if done.returncode:
        raise UserError(
            f"The job jobs/{job} failed; its messages are above. Nothing that it finished is lost: run it again."
        )


def _outcome(output: Path, folder: Path) -> Outcome:
    """Read the evaluations' metrics from the children of the pretraining run."""
    import json

    from mlflow import MlflowClient

    run_id = json.loads((output / "run.json").read_text())["run_id"]
    client = MlflowClient(os.environ.get("MLFLOW_TRACKING_URI", f"sqlite:///{folder}/mlflow.db"))
    experiment = client.get_run(run_id).info.experiment_id
    children = client.search_runs([experiment], f"tags.`mlflow.parentRunId` = '{run_id}'", order_by=["start_time ASC"])
    metrics = {key: value for child in children for key, value in child.data.metrics.items()}
    accuracy = {
        protocol: {
            source: metrics[f"{prefix}{metric}"]
            for source, prefix in (("pixels", "pixels/"), ("untrained", "untrained/"), ("pretrained", ""))
        }
        for protocol, metric in _METRICS.items()
    }
    return Outcome(accuracy, run_id)


def _table(outcome: Outcome) -> Table:
    table = Table(title="Test accuracy of frozen features (%)", title_justify="left")
    table.add_column("features")
    for protocol in outcome.accuracy:
        table.add_column(protocol, justify="right")
    for source, name in (
        ("pixels", "raw pixels"),
        ("untrained", "untrained encoder"),
        ("pretrained", "pretrained encoder"),
    ):
        table.add_row(name, *[f"{row[source]:.1f}" for row in outcome.accuracy.values()])
    return table
