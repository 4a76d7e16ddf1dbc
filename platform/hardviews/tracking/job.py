"""The job of a process, as tags, from its launcher and its image."""

import getpass
import os
from collections.abc import Mapping

from hardviews.tracking.settings import setting

OUTPUT = "hardviews.output"
"""Tag: address of the run's output."""

JOB_TAG = "hardviews.job"
"""Tag: the job, in the form for `torchx status`."""

PROCESSES, NOWHERE = "hardviews.processes", "-"
"""Tag: the processes of the run's job on the machine that writes it (`elastic.identity`); NOWHERE if unknown."""

WRITER = "hardviews.writer"
"""Tag: the life that writes the run."""

USER = "mlflow.user"
"""Tag: the user who started the run; MLflow does not allow to change it."""

USER_VARIABLE = "HARDVIEWS_USER"
"""Environment variable: the user of the run, if the machine's own user has no meaning, as in a pod."""

JOB = "TORCHX_JOB_ID"
"""Environment variable: the job, as SCHEDULER://SESSION/NAME."""

_NAMESPACE = "HARDVIEWS_NAMESPACE"  # environment variable, in the pods of a job
_TAGS = {JOB: JOB_TAG, "HARDVIEWS_IMAGE": "hardviews.image", "HARDVIEWS_COMMIT": "mlflow.source.git.commit"}


def job_tags(variables: Mapping[str, str] = os.environ) -> dict[str, str]:
    """Return the job, its scheduler, its image and the image's commit, as far as they are known."""
    found = {tag: variables[name] for name, tag in _TAGS.items() if variables.get(name)}
    scheduler, separator, path = variables.get(JOB, "").partition("://")
    session, slash, name = path.partition("/")
    if scheduler == "kubernetes" and slash and ":" not in name and variables.get(_NAMESPACE):
        # The name for `torchx status` in any place.
        found[JOB_TAG] = f"{scheduler}://{session}/{variables[_NAMESPACE]}:{name}"
    return found | ({"hardviews.scheduler": scheduler} if separator else {})


def user() -> str:
    """Return the user of the run: HARDVIEWS_USER, the user of the tracking server, else of this machine."""
    named = setting(USER_VARIABLE) or setting("MLFLOW_TRACKING_USERNAME")
    try:
        return named or getpass.getuser()
    except (KeyError, OSError):  # a pod's user may have no name
        return str(os.getuid())
