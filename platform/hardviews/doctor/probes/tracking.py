"""The MLflow server: whether it can be reached, its version, and whether it accepts a record."""

import os
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from hardviews.doctor.clock import compare
from hardviews.doctor.finding import Finding, ok, skipped, warning
from hardviews.doctor.probe import TRACKING, Probe
from hardviews.doctor.settings import Doctor
from hardviews.errors import UserError
from hardviews.tracking.failures import diagnose
from hardviews.tracking.scrub import scrub
from hardviews.tracking.server import Server
from hardviews.tracking.uri import check_uri

EXPERIMENT = "hardviews doctor"
"""Experiment of the run that is written and deleted."""

_SECONDS = "10"  # most seconds for a request


def look(settings: Doctor) -> Iterator[Finding]:
    """Read the server's version and its experiments; with `--write` write a run and delete it."""
    uri = settings.tracking_uri
    if uri is None:
        text = "no server is named: runs are recorded in SQLite, in the folder .hardviews"
        yield skipped("MLflow", text, "--tracking-uri http://HOST:PORT, or MLFLOW_TRACKING_URI")
        return
    uri = check_uri(uri)
    if uri.startswith("sqlite:"):
        yield _sqlite(uri)
        return
    os.environ["MLFLOW_HTTP_REQUEST_TIMEOUT"] = _SECONDS
    server = Server.connect(uri, Path())
    if not server.remote:
        yield skipped("MLflow", f"{scrub(uri)} is not an HTTP server, so it is not checked")
        return
    try:
        yield from _versions(uri)
        server.client.search_experiments(max_results=1)
        yield ok("read", "experiments may be listed")
        if settings.write:
            _write(server)
            yield ok("write", f"a run was written to the experiment {EXPERIMENT!r}, and deleted")
        else:
            yield skipped("write", "not tried", "--write writes a run, and deletes it")
    except UserError:
        raise
    except Exception as error:  # from MLflow, its HTTP library or its proxy
        words = diagnose(error, uri).words.rstrip(".")
        raise UserError(
            f"The tracking server {scrub(uri)} cannot be used: {words[:1].lower()}{words[1:]}. Start it, or correct "
            "--tracking-uri, else MLFLOW_TRACKING_URI; docs/troubleshooting.md has more."
        ) from error


def _versions(uri: str) -> Iterator[Finding]:
    """Yield the server's version and its clock; a server may hide its version behind a proxy."""
    import mlflow
    from mlflow.utils.credentials import get_default_host_creds
    from mlflow.utils.rest_utils import http_request

    host: Any = get_default_host_creds(uri)  # type: ignore[no-untyped-call]
    answer: Any = http_request(host, "/version", "GET", raise_on_status=False)  # type: ignore[no-untyped-call]
    version = answer.text.strip() if answer.status_code == 200 else ""
    known = version if len(version) < 20 and version[:1].isdigit() else ""
    if not known:
        yield ok("MLflow", f"{scrub(uri)} answers, but does not state its version")
    elif known.split(".")[0] < mlflow.__version__.split(".")[0]:
        yield warning(
            "MLflow",
            f"{scrub(uri)}, MLflow {known}, older than the client here ({mlflow.__version__}): models are not kept",
            "pip install -U mlflow, for the server",
        )
    else:
        yield ok("MLflow", f"{scrub(uri)}, MLflow {known} (client {mlflow.__version__})")
    yield compare(answer.headers.get("Date"))


def _write(server: Server) -> None:
    client = server.client
    found = client.get_experiment_by_name(EXPERIMENT)
    if found is not None and found.lifecycle_stage == "deleted":
        client.restore_experiment(found.experiment_id)
    experiment = found.experiment_id if found is not None else client.create_experiment(EXPERIMENT)
    try:
        run = client.create_run(experiment, run_name="doctor").info.run_id
        try:
            client.log_metric(run, "written", 1.0)
        finally:
            client.delete_run(run)
    finally:
        client.delete_experiment(experiment)


def _sqlite(uri: str) -> Finding:
    """Read a database; do not create one."""
    path = Path(uri.partition("///")[2].partition("?")[0])
    if not path.exists():
        return warning(
            "MLflow", f"{scrub(uri)} does not exist yet", "The first run creates it; there is nothing to do."
        )
    try:
        connection = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, timeout=5)
        try:
            (number,) = connection.execute("SELECT COUNT(*) FROM runs").fetchone()
        finally:
            connection.close()
    except sqlite3.Error as error:
        raise UserError(f"The tracking store {scrub(uri)} cannot be read: {error}. Give another file.") from error
    return ok("MLflow", f"{scrub(uri)}, a database with {number} runs")


PROBE = Probe("MLflow", TRACKING, look, least=60.0)
