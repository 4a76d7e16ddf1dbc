"""The run that nothing disturbs: one process on this machine, kept for the next time."""

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

from hardviews.recipes import recipe_named
from tests.cluster.record import reports

ROOT = Path(__file__).parents[2]
KEPT = ROOT / ".hardviews" / "undisturbed"
Words = tuple[str, ...]


def undisturbed(
    folder: Path, recipe: str, overrides: Words, packing: Words, command: Words = ()
) -> list[dict[str, float]]:
    """The reports of a recipe's run on one process, with the images packed as the job packs them.

    It is run once for each state of the code that its numbers depend on. command: the words of `hardviews` before the
    places, if they are not those of a pretraining.
    """
    command = command or ("pretrain", recipe)
    kept = KEPT / f"{_key(recipe, (*command, *overrides), packing)}.jsonl"
    if not kept.exists():
        program = [sys.executable, "-m", "hardviews.cli"]
        variables = {k: v for k, v in os.environ.items() if not k.startswith(("AWS_", "MLFLOW_", "HARDVIEWS_"))}
        run = {"cwd": folder, "env": variables | {"OMP_NUM_THREADS": "1"}, "check": True, "timeout": 900}
        subprocess.run([*program, "pack", "--out", "shards", *packing], **run)  # type: ignore[call-overload]
        where = ["--data", "shards", "--output", "run", "--training.checkpoint-steps", "1000"]
        subprocess.run([*program, *command, *where, *overrides], **run)  # type: ignore[call-overload]
        KEPT.mkdir(parents=True, exist_ok=True)
        kept.write_bytes((folder / "run" / "history.jsonl").read_bytes())
    return reports(kept.read_text())


def _key(recipe: str, overrides: Words, packing: Words) -> str:
    found = hashlib.sha256(json.dumps([recipe_named(recipe).digest(), overrides, packing]).encode())
    package = ROOT / "platform" / "hardviews"
    for folder in ("methods", "strategies", "views", "models", "optim", "data", "train"):
        for file in sorted((package / folder).glob("*.py")):
            found.update(file.read_bytes())
    for file in sorted(package.glob("*.py")):
        found.update(file.read_bytes())
    return found.hexdigest()[:20]
