"""The machine's part of a bug report: versions, packages, environment, and the findings of the doctor."""

import importlib.metadata
import json
import platform
import sys
from pathlib import Path

import hardviews
from hardviews.doctor import masking
from hardviews.doctor.bug_report.archive import Archive
from hardviews.doctor.isolation import look_all
from hardviews.doctor.probe import MACHINE
from hardviews.doctor.probes import PROBES
from hardviews.doctor.probes.gpus import DRIVER
from hardviews.doctor.report import to_json
from hardviews.doctor.settings import Doctor

# Variables that change how a run behaves, by the beginnings of their names.
_SHOWN = (
    *("HARDVIEWS_", "MLFLOW_", "AWS_", "FSSPEC_", "TORCH", "PYTORCH", "CUDA", "NVIDIA_", "NCCL_", "GLOO_", "OMP_"),
    *("MKL_", "PYTHON", "KUBERNETES_", "KUBECONFIG", "SLURM_", "RANK", "LOCAL_", "WORLD_SIZE", "MASTER_", "TMPDIR"),
    *("LANG", "LC_", "PATH", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy"),
)


def add_machine(archive: Archive, output: str | None) -> None:
    """Add the machine's part; `output` is the folder of the run if it is on this machine."""
    archive.add("versions.json", json.dumps(versions(), indent=1))
    archive.add("packages.txt", "\n".join(packages()) + "\n")
    variables = {name: value for name, value in masking.environment().items() if name.startswith(_SHOWN)}
    archive.add("environment.txt", "".join(f"{name}={value}\n" for name, value in variables.items()), 50_000)
    settings = Doctor(output=output)
    found = to_json(list(look_all([probe for probe in PROBES if probe.section == MACHINE], settings)))
    archive.add("doctor.json", json.dumps(found, indent=1))


def versions() -> dict[str, object]:
    """Return the versions of hardviews, Python, the system and the GPU driver."""
    return {
        "hardviews": hardviews.__version__,
        "python": sys.version,
        "system": platform.platform(),
        "machine": platform.machine(),
        "release": _text(Path("/etc/os-release")),
        "driver": _text(DRIVER),
        "container": Path("/.dockerenv").exists() or "KUBERNETES_SERVICE_HOST" in masking.environment(),
    }


def packages() -> list[str]:
    """Return all installed packages with their versions, sorted."""
    found = {(one.name or "?", one.version) for one in importlib.metadata.distributions()}
    return [f"{name}=={version}" for name, version in sorted(found, key=lambda entry: entry[0].lower())]


def _text(path: Path) -> str:
    try:
        return path.read_text(errors="replace")[:2000].strip()
    except OSError:
        return ""
