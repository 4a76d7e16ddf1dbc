"""Which job a process belongs to, as tags: what its launcher and its image say of themselves."""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

OUTPUT = "hardviews.output"
"""Tag: address of the run's output."""

JOB_TAG, NAMESPACE = "hardviews.job", "hardviews.namespace"
"""Tags: the job, and the Kubernetes namespace that it runs in."""

# Kubernetes writes the namespace into pods that have a service account.
_NAMESPACE_FILE = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")

JOB = "TORCHX_JOB_ID"
"""Environment variable: the job, as SCHEDULER://SESSION/NAME."""

_TAGS = {JOB: JOB_TAG, "HARDVIEWS_IMAGE": "hardviews.image", "HARDVIEWS_COMMIT": "mlflow.source.git.commit"}


def job_tags(variables: Mapping[str, str] = os.environ) -> dict[str, str]:
    """Return the job, its scheduler, its image and the commit that the image was built from, where they are known."""
    found = {tag: variables[name] for name, tag in _TAGS.items() if variables.get(name)}
    scheduler, separator, _ = variables.get(JOB, "").partition("://")
    if separator:
        found["hardviews.scheduler"] = scheduler
    with suppress(OSError):
        found[NAMESPACE] = _NAMESPACE_FILE.read_text().strip()
    return found
