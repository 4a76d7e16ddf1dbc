"""Runs programs as in an installation without extras: modules of other packages cannot be found."""

import importlib.metadata
import os
import re
import subprocess
import sys
import tomllib
from functools import cache
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]

# As `sitecustomize`, it runs at the start of each Python process, of grandchildren too.
_HIDING = """
from importlib.machinery import PathFinder

_hidden = frozenset({hidden!r})
_find = PathFinder.find_spec

def _find_spec(name, path=None, target=None):
    return None if name.partition(".")[0] in _hidden else _find(name, path, target)

PathFinder.find_spec = staticmethod(_find_spec)
"""


@cache
def light_packages() -> frozenset[str]:
    """Names of the distributions that `pip install hardviews` brings."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    waiting, found = list(project["dependencies"]), set()
    while waiting:
        requirement = Requirement(waiting.pop())
        name = canonicalize_name(requirement.name)
        if name in found or (requirement.marker and not requirement.marker.evaluate({"extra": ""})):
            continue
        found.add(name)
        waiting += [
            text if not requirement.extras else re.sub(r";\s*extra == .*", "", text)
            for text in importlib.metadata.requires(name) or ()
        ]
    return frozenset(found)


@cache
def hidden_modules() -> frozenset[str]:
    """Names of the installed modules that a light installation lacks."""
    light = light_packages() | {"hardviews"}
    brought = importlib.metadata.packages_distributions()
    return frozenset(
        module for module, names in brought.items() if not light & {canonicalize_name(name) for name in names}
    )


def run_light(folder: Path, *command: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run Python with some words, without the packages that extras bring; `folder` is for a file of this."""
    (folder / "sitecustomize.py").write_text(_HIDING.format(hidden=sorted(hidden_modules())))
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("HARDVIEWS_", "MLFLOW_", "TORCHX"))}
    path = os.pathsep.join([str(folder), str(ROOT / "platform")])
    return subprocess.run(
        [sys.executable, *command],
        env=environment | {"PYTHONPATH": path} | variables,
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=120,
    )
