"""Environment variables, read in one way: an empty variable counts as unset."""

import os
from collections.abc import Mapping

TRACKING_URI = "MLFLOW_TRACKING_URI"
"""Environment variable: address of the tracking store."""

RESTARTS = "TORCHELASTIC_RESTART_COUNT"
"""Environment variable: number of restarts of this process's job."""


def setting(name: str, variables: Mapping[str, str] = os.environ) -> str | None:
    """Return the value of a variable without spaces around it, None if it is unset or empty."""
    return variables.get(name, "").strip() or None


def forget_empty_settings() -> None:
    """Unset the variables of MLflow that are empty: MLflow itself reads some of them as values."""
    for name in [name for name in os.environ if name.startswith("MLFLOW_")]:
        if setting(name) is None:
            del os.environ[name]
