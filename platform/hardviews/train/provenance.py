"""The origin of a run and its encoder: code, command, user, data, job."""

import subprocess
from importlib.metadata import version
from pathlib import Path
from typing import Any

import hardviews
from hardviews.data.index import Index
from hardviews.runs.record import USUAL
from hardviews.tracking.job import JOB_TAG, USER, job_tags, user
from hardviews.train.command_line import CommandLine
from hardviews.train.recipe import Recipe
from hardviews.world import World


def tags(index: Index, recipe: Recipe, world: World, first: bool, command: CommandLine) -> dict[str, str]:
    """Return the tags of code, command, user, dataset, recipe and job.

    MLflow's own tags are used if its pages have a field for them. `first` is whether the run begins. A later life does
    not call git, which takes time.
    """
    found = {
        "hardviews.version": hardviews.__version__,
        "hardviews.recipe": recipe.name,
        "hardviews.recipe_digest": recipe.digest(),
        "hardviews.seed": str(recipe.training.seed),
        "hardviews.dataset": index.digest,
        "hardviews.samples": str(len(index)),
        "hardviews.world_size": str(world.size),
        "mlflow.source.name": command.source,
    }
    if command.given:
        found["hardviews.command"] = command.text()
    found |= job_tags()
    found["mlflow.source.type"] = "JOB" if JOB_TAG in found else "LOCAL"
    if first:
        found[USER] = user()
        # An image contains the commit that it was built from, but no checkout.
        if "mlflow.source.git.commit" not in found:
            found |= _git()
    return found


def of_encoder(run_id: str, samples: int, recipe: Recipe, index: Index, training: str) -> dict[str, Any]:
    """Return the facts of a training for its encoder's file, which may be passed on alone.

    `samples` is the number of images seen, `training` is `Record.training`. Evaluation reads `run_id`, `samples` and
    `training`, the model card all facts.
    """
    commit = (_git() | job_tags()).get("mlflow.source.git.commit")
    return (
        {
            "run_id": run_id,
            "samples": samples,
            "recipe": recipe.name,
            "data": index.digest,
            "images": len(index),
            "epochs": recipe.training.epochs,
            "versions": {"hardviews": hardviews.__version__} | {name: version(name) for name in ("torch", "timm")},
        }
        | ({"commit": commit} if commit else {})
        | ({"ema": recipe.training.ema} if recipe.training.ema else {})
        | ({"training": training} if training != USUAL else {})
    )


def _git() -> dict[str, str]:
    """Return the checkout's commit, marked if files differ from it, and its branch; nothing outside a checkout."""
    folder = Path(hardviews.__file__).parent
    try:
        commit = _asked(folder, "rev-parse", "HEAD")
        changed = _asked(folder, "status", "--porcelain", "-uno")
        branch = _asked(folder, "rev-parse", "--abbrev-ref", "HEAD")
    except (OSError, subprocess.CalledProcessError):
        return {}
    found = {"mlflow.source.git.commit": commit + ("+changes" if changed else "")}
    return found | ({"mlflow.source.git.branch": branch} if branch != "HEAD" else {})


def _asked(folder: Path, *words: str) -> str:
    done = subprocess.run(["git", *words], cwd=folder, capture_output=True, text=True, check=True)
    return done.stdout.strip()
