"""The process that runs probes: `python -m hardviews.doctor.child PROBE ...`, with the settings on stdin.

It writes a line of JSON for each probe. Output of libraries goes to stderr.
"""

import importlib.metadata
import json
import os
import re
import signal
import sys
import warnings
from collections.abc import Sequence

from hardviews.doctor.finding import Finding, missing, mistake, skipped
from hardviews.doctor.probe import Probe
from hardviews.doctor.probes import PROBES
from hardviews.doctor.settings import Doctor
from hardviews.elastic.processes import end_with_parent
from hardviews.errors import UserError
from hardviews.extras import TRAIN, extra_of
from hardviews.extras import missing as absent

_TRAINING = ("torch", "torchvision", "timm")
_OTHER_NAMES = {"pynvml": "nvidia-ml-py", "yaml": "pyyaml"}  # names of packages by their module


def look(probe: Probe, settings: Doctor) -> list[Finding]:
    """Return the findings of a probe; a failure of the probe is a finding too."""
    found: list[Finding] = []
    try:
        for finding in probe.run(settings):
            found.append(finding)
    except UserError as error:
        found.append(mistake(probe.name, error))
    except ImportError as error:
        found.append(lacking(probe.name, error))
    except Exception as error:
        text = f"it could not be examined: {type(error).__name__}: {' '.join(str(error).split())[:300]}"
        found.append(missing(probe.name, text, "Correct the cause in this message, and run hardviews doctor again."))
    return [finding.without_secrets() for finding in found]


def lacking(what: str, error: ImportError) -> Finding:
    """Return the finding about a Python package that cannot be imported."""
    package = (error.name or str(error)).partition(".")[0]
    package = _OTHER_NAMES.get(package, package)
    if isinstance(error, ModuleNotFoundError):
        if extra_of(error.name) == TRAIN and "torch" in absent(TRAIN):
            return skipped(
                what, f"{package} is not installed here: this is a client, which does not train", install(package)
            )
        return missing(what, f"the Python package {package} is not installed", install(package))
    words = " ".join(str(error).split())[:300]
    return missing(what, f"the Python package {package} cannot be imported: {words}", install(package))


def install(package: str) -> str:
    """Return the command that installs a package, by an extra of hardviews if one of them has it."""
    try:
        needed = importlib.metadata.requires("hardviews") or []
    except importlib.metadata.PackageNotFoundError:
        needed = []
    for line in needed:
        name = re.match(r"[A-Za-z0-9._-]+", line)
        extra = re.search(r"extra == ['\"]([^'\"]+)['\"]", line)
        if name and extra and name[0].lower() == package.lower():
            return f"pip install 'hardviews[{extra[1]}]'"
    return "pip install 'hardviews[train]'" if package in _TRAINING else f"pip install {package}"


def main(names: Sequence[str]) -> None:
    """Run the named probes, one after the other."""
    end_with_parent()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # a probe then removes its files
    # Some libraries print to stdout, so the findings go through a copy of it.
    stream = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    warnings.simplefilter("ignore")
    settings = Doctor(**json.loads(sys.stdin.read()))
    probes = {probe.name: probe for probe in PROBES}
    for name in names:
        found = look(probes[name], settings)
        stream.write(json.dumps({"probe": name, "findings": [finding.to_json() for finding in found]}) + "\n")
        stream.flush()
    os._exit(0)  # a library's thread that still waits for a server must not hold the process


if __name__ == "__main__":
    main(sys.argv[1:])
