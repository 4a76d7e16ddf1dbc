"""Where a run and its encoder come from: code, data, job."""

import subprocess
from importlib.metadata import version
from pathlib import Path
from typing import Any

import hardviews
from hardviews.data.index import Index
from hardviews.tracking.job import job_tags
from hardviews.train.recipe import Recipe
from hardviews.world import World


def tags(index: Index, recipe: Recipe, world: World, first: bool) -> dict[str, str]:
    """Return what identifies the code, the dataset, the recipe and the job.

    first: whether the run begins. A later life does not ask git, which takes its time.
    """
    found = {
        "hardviews.version": hardviews.__version__,
        "hardviews.recipe": recipe.name,
        "hardviews.recipe_digest": recipe.digest(),
        "hardviews.dataset": index.digest,
        "hardviews.samples": str(len(index)),
        "hardviews.world_size": str(world.size),
    }
    found |= job_tags()
    # An image knows the commit that it was built from; it holds no checkout.
    if first and "mlflow.source.git.commit" not in found:
        commit = _git_commit()
        found |= {"mlflow.source.git.commit": commit} if commit else {}
    return found


def of_encoder(run_id: str, samples: int, recipe: Recipe, index: Index) -> dict[str, Any]:
    """Return what an encoder's file says of its training, for whoever gets the file alone.

    samples: images seen. Evaluation reads `run_id` and `samples`, the model card all of it.
    """
    commit = job_tags().get("mlflow.source.git.commit") or _git_commit()
    return {
        "run_id": run_id,
        "samples": samples,
        "recipe": recipe.name,
        "data": index.digest,
        "images": len(index),
        "epochs": recipe.training.epochs,
        "versions": {"hardviews": hardviews.__version__} | {name: version(name) for name in ("torch", "timm")},
    } | ({"commit": commit} if commit else {})


def _git_commit() -> str | None:
    """Return the checkout's commit, marked where files differ from it; None outside a checkout."""
    folder = Path(hardviews.__file__).parent
    try:
        commit = subprocess.run(["git", "rev-parse", "HEAD"], cwd=folder, capture_output=True, text=True, check=True)
        changed = subprocess.run(["git", "status", "--porcelain", "-uno"], cwd=folder, capture_output=True, text=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return commit.stdout.strip() + ("+changes" if changed.stdout.strip() else "")
