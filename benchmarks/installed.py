"""What an installation of each extra takes: packages, disk, and the processor time of an import.

The sizes are those of the files that the packages of this environment list. They depend on the build of torch: the
default one brings CUDA.

    python benchmarks/installed.py
"""

import argparse
import importlib.metadata
import resource
import statistics
import subprocess
import sys
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

MODULES = ("hardviews", "hardviews.cli", "torchx", "kubernetes", "s3fs", "numpy", "PIL", "tyro", "rich", "jsonschema")
MODULES += ("torch", "torchvision", "timm", "mlflow", "boto3", "cv2", "sklearn", "scipy.stats", "matplotlib")
ROUNDS = 3


def brought(extra: str) -> set[str]:
    """Return the names of the packages that `pip install 'hardviews[EXTRA]'` brings."""
    waiting, seen = [("hardviews", extra)], set()
    while waiting:
        name, of = waiting.pop()
        if (name, of) in seen:
            continue
        seen.add((name, of))
        for text in importlib.metadata.requires(name) or ():
            requirement = Requirement(text)
            if requirement.marker is None or requirement.marker.evaluate({"extra": of}):
                needed = canonicalize_name(requirement.name)
                waiting += [(needed, each) for each in ("", *requirement.extras)]
    return {name for name, _ in seen} - {"hardviews"}


def size(name: str) -> int:
    """Return the bytes that a package's files take."""
    try:
        files = importlib.metadata.files(name) or ()
    except importlib.metadata.PackageNotFoundError:
        return 0  # of another build of torch
    return sum(path.stat().st_size for path in (Path(str(file.locate())) for file in files) if path.is_file())


def seconds(code: str) -> float:
    """Return the median processor time of a Python process that runs some code."""
    times = []
    for _ in range(ROUNDS):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        times.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    return statistics.median(times)


def main() -> None:
    """Print both tables."""
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    print(f"{'installation':22}{'packages':>10}{'MB':>8}")
    before: set[str] = set()
    for extra in ("", "train", "export"):
        names = brought(extra)
        print(f"{f'hardviews[{extra}]' if extra else 'hardviews':22}{len(names):10}{sum(map(size, names)) / 1e6:8.0f}")
        largest = sorted(names - before, key=size, reverse=True)[:8]
        print(f"    {', '.join(f'{name} {size(name) / 1e6:.0f}' for name in largest)}")
        before = names
    start = seconds("")
    print(f"\n{'import':22}{'seconds':>10}   (median of {ROUNDS}; Python itself takes {start:.2f})")
    for module in MODULES:
        print(f"{module:22}{seconds(f'import {module}') - start:10.2f}")


if __name__ == "__main__":
    main()
