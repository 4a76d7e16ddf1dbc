"""Imports MLflow, which takes seconds: on the first use, or before processes that will use it are forked.

MLflow reads some settings during its import, so they are set here before. Then the import starts no thread and opens
nothing, and its objects survive a fork: HTTP sessions are kept by process id.
"""

import importlib
import os

from hardviews.tracking.settings import TRACKING_URI, forget_empty_settings, setting

# MLflow retries for minutes inside a call, also with a number from the user's environment. The spool retries outside,
# within documented limits.
_FORCED = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0"}
_SETTINGS = {
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "60",
    # A training job reports to its owner's server, not to MLflow's authors.
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    # The printed address may hold a password.
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
# Further modules for a store on disk, which take half as long again.
_LOCAL_MODULES = (
    "mlflow.store.tracking.sqlalchemy_workspace_store",
    "mlflow.store.artifact.local_artifact_repo",
)


def preload(local: bool = False) -> None:
    """Import the modules for a run's record on a server; with `local`, also for a record in SQLite."""
    forget_empty_settings()
    os.environ.update(_FORCED)
    for name, value in _SETTINGS.items():
        os.environ.setdefault(name, value)
    for module in _MODULES + (_LOCAL_MODULES if local else ()):
        importlib.import_module(module)


def preload_for_environment() -> None:
    """Import the modules for the store in MLFLOW_TRACKING_URI."""
    preload(local=not (setting(TRACKING_URI) or "").startswith(("http://", "https://")))
