"""The packages that this process has imported, apart from those that come with torch, torchvision, timm and numpy."""

import re
import sys
from collections.abc import Iterable
from importlib import metadata

_THERE = ("torch", "torchvision", "timm", "numpy")
# Imported if they are there: the first by torch, to read how busy a GPU is, the second by numpy.
_OPTIONAL = ("nvidia-ml-py", "charset-normalizer")


def carried() -> dict[str, str]:
    """Return versions by the names of the packages, in order."""
    places = metadata.packages_distributions()
    tops = {name.partition(".")[0] for name, module in list(sys.modules.items()) if getattr(module, "__file__", None)}
    found = {_name(package) for top in tops for package in places.get(top, ())}
    there = with_needs((*_THERE, *_OPTIONAL)) | {"hardviews", "pip", "setuptools"}
    return {name: metadata.version(name) for name in sorted(found - there)}


def with_needs(names: Iterable[str]) -> set[str]:
    """Return packages and all that they require, without extras."""
    known: set[str] = set()
    waiting = [_name(name) for name in names]
    while waiting:
        name = waiting.pop()
        if name in known:
            continue
        try:
            needs = metadata.requires(name) or []
        except metadata.PackageNotFoundError:
            continue
        known.add(name)
        waiting += [_name(re.split(r"[^\w.-]", need, maxsplit=1)[0]) for need in needs if "extra ==" not in need]
    return known


def _name(package: str) -> str:
    return re.sub(r"[-_.]+", "-", package).lower()


def advice(found: dict[str, str]) -> str:
    """Return the packages, and the commands that carry them."""
    pinned = " ".join(f"{name}=={version}" for name, version in found.items())
    return "\n".join(
        [
            *(f"{name}=={version}" for name, version in found.items()),
            "",
            "Where there is a network, for Python 3.12 on x86-64:",
            "  python3 -m pip download --no-deps --only-binary=:all: --python-version 3.12 --implementation cp \\",
            "    --platform manylinux_2_28_x86_64 --platform manylinux_2_27_x86_64 --platform manylinux2014_x86_64 \\",
            f"    -d wheels {pinned}",
            "On the machine without one, in a copy of the repository:",
            "  python3 -m pip install --no-index --no-deps --target site wheels/*.whl",
            "  PYTHONPATH=site:platform python3 benchmarks/gpu.py --out gpu.json",
        ]
    )
