"""Imports MLflow, which takes seconds: on the first use, or before processes that will use it are forked.

MLflow reads some settings as it is imported, so they are made here, before. With them the import starts no thread and
opens nothing, and what it holds survives a fork (its HTTP sessions are kept by process id).
"""

import importlib
import os

from hardviews.tracking.settings import TRACKING_URI, forget_empty_settings, setting

# MLflow retries for minutes inside a call, with the number of the user's environment too. The spool retries outside,
# within limits that are published.
_FORCED = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0"}
_SETTINGS = {
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "60",
    # A training job reports to its owner's server, not to MLflow's authors.
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    # The address that it would print may hold a password.
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
}
_MODULES = (
    "mlflow.tracking",
    "mlflow.entities",
    "mlflow.tracking.request_header.registry",
    "mlflow.tracking.request_header.databricks_request_header_provider",
    "mlflow.tracking.request_header.default_request_header_provider",
    "mlflow.store.tracking.rest_store",
    "mlflow.store.artifact.mlflow_artifacts_repo",
    "netrc",
)
# What a store on disk needs besides, half as long again.
_LOCAL_MODULES = (
    "mlflow.store.tracking.sqlalchemy_workspace_store",
    "mlflow.store.artifact.local_artifact_repo",
)


def preload(local: bool = False) -> None:
    """Import what a run's record on a server needs; with `local`, what one in SQLite needs too."""
    forget_empty_settings()
    os.environ.update(_FORCED)
    for name, value in _SETTINGS.items():
        os.environ.setdefault(name, value)
    for module in _MODULES + (_LOCAL_MODULES if local else ()):
        importlib.import_module(module)


def preload_for_environment() -> None:
    """Import what the store that MLFLOW_TRACKING_URI names needs."""
    preload(local=not (setting(TRACKING_URI) or "").startswith(("http://", "https://")))
