"""Python and hardviews: their versions and folders."""

import importlib.metadata
import platform
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import hardviews
from hardviews.doctor.finding import Finding, missing, ok, warning
from hardviews.doctor.probe import MACHINE, Probe
from hardviews.doctor.settings import Doctor


def look(settings: Doctor) -> Iterator[Finding]:
    """Compare the version of Python with the one that the package requires."""
    version = platform.python_version()
    try:
        package = importlib.metadata.metadata("hardviews").json
    except importlib.metadata.PackageNotFoundError:
        yield ok("Python", f"{version} at {sys.executable}")
        yield warning("hardviews", "it is on the path, but not installed", "pip install -e CHECKOUT")
        return
    required = str(package.get("requires_python", ""))
    if admits(required, sys.version_info[:3]):
        yield ok("Python", f"{version} at {sys.executable} (hardviews requires {required})")
    else:
        yield missing("Python", f"{version}, but hardviews requires {required}", "uv venv --python 3.12 .venv")
    yield ok("hardviews", f"{hardviews.__version__} at {Path(hardviews.__file__).parent}")
    if package.get("version") != hardviews.__version__:
        text = f"the installed package is {package.get('version')}, but the code that runs is {hardviews.__version__}"
        yield warning("hardviews", text, "pip install -e CHECKOUT, once more")


def admits(required: str, version: tuple[int, ...]) -> bool:
    """Return whether a version satisfies all clauses `>=`, `<`, `<=`, `>` and `!=` of a requirement."""
    for sign, text in re.findall(r"(>=|<=|!=|<|>)\s*([\d.]+)", required):
        bound = tuple(int(part) for part in text.strip(".").split("."))
        length = max(len(bound), len(version))
        ours, theirs = (part + (0,) * (length - len(part)) for part in (version, bound))
        holds = {
            ">=": ours >= theirs,
            "<=": ours <= theirs,
            "!=": ours != theirs,
            "<": ours < theirs,
            ">": ours > theirs,
        }
        if not holds[sign]:
            return False
    return True


PROBE = Probe("Python", MACHINE, look)
