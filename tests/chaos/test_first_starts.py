"""First starts on a SQLite store: at once by several processes, after a kill, after an upgrade of MLflow."""

import os
import shutil
import signal
import sqlite3
import subprocess
import sys

import pytest
from mlflow.tracking import MlflowClient
from mlflow.version import VERSION

from hardviews.tracking import sqlite as sqlite_module
from hardviews.tracking.mlflow_run import Run
from hardviews.tracking.uri import default_uri
from tests.stores import empty_store

pytestmark = pytest.mark.chaos

# A revision of MLflow's tables that an older version left.
OLDER = "867495a8f9d4"


def version(folder):
    with sqlite3.connect(folder / "mlflow.db") as database:
        return database.execute("SELECT version_num FROM alembic_version").fetchone()[0]


def older_store(folder):
    """Make a store as an older MLflow left it, with an experiment in it."""
    from alembic import command
    from mlflow.store.db.utils import _get_alembic_config, create_sqlalchemy_engine
    from mlflow.store.tracking.dbmodels.initial_models import Base

    folder.mkdir()
    engine = create_sqlalchemy_engine(default_uri(folder))
    Base.metadata.create_all(engine)
    with engine.begin() as connection:
        config = _get_alembic_config(default_uri(folder))
        config.attributes["connection"] = connection
        command.upgrade(config, OLDER)
    engine.dispose()
    with sqlite3.connect(folder / "mlflow.db") as database:
        database.execute(
            "INSERT INTO experiments (experiment_id, name, artifact_location, lifecycle_stage) "
            "VALUES (7, 'mine', 'x', 'active')"
        )


@pytest.fixture(scope="module")
def older(tmp_path_factory):
    folder = tmp_path_factory.mktemp("older") / "store"
    older_store(folder)
    return folder


STARTS = """
import sys
from hardviews.tracking.mlflow_run import Run
Run.start("exp", sys.argv[2], folder=sys.argv[1]).close()
"""


def start(folder, name):
    return subprocess.Popen([sys.executable, "-c", STARTS, str(folder), name], stderr=subprocess.PIPE, text=True)


@pytest.mark.parametrize("kind", ["new", "older"])
def test_several_first_starts_at_once_all_work(tmp_path, older, kind):
    folder = tmp_path / "store"
    if kind == "older":
        shutil.copytree(older, folder)
    starts = [start(folder, f"run {number}") for number in range(3)]
    errors = [process.communicate(timeout=300)[1] for process in starts]
    assert [process.returncode for process in starts] == [0, 0, 0], errors
    client = MlflowClient(default_uri(folder))
    experiment = client.get_experiment_by_name("exp").experiment_id
    assert {run.info.run_name for run in client.search_runs([experiment])} == {"run 0", "run 1", "run 2"}
    assert (folder / "mlflow.db.lock").read_text() == VERSION
    assert version(folder) == version(empty_store())
    if kind == "older":
        # The old store is kept, with its content.
        assert client.get_experiment("7").name == "mine"
        assert (folder / f"mlflow.db.before-{OLDER}").exists()
        assert "were upgraded for MLflow" in "".join(errors)


def test_a_process_that_is_killed_as_it_makes_tables_leaves_no_lock_and_no_half_made_store(tmp_path, monkeypatch):
    folder = tmp_path / "store"
    child = os.fork()
    if child == 0:
        try:
            monkeypatch.setattr(sqlite_module.os, "replace", lambda *_: os.kill(os.getpid(), signal.SIGKILL))
            Run.start("exp", "x", folder=folder)
        finally:
            os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
    assert not (folder / "mlflow.db").exists() and (folder / "mlflow.db.part").exists()
    # The same path is opened by another process, as MLflow caches each path.
    after = start(folder, "x")
    assert after.wait(300) == 0
    assert not (folder / "mlflow.db.part").exists()


def test_an_upgrade_that_was_killed_begins_again_from_the_copy(tmp_path, older):
    folder = tmp_path / "store"
    shutil.copytree(older, folder)
    shutil.copy(folder / "mlflow.db", folder / "mlflow.db.before-upgrade")
    with sqlite3.connect(folder / "mlflow.db") as database:
        # A table of a later revision is there already: the upgrade would fail on it.
        database.execute("DROP TABLE metrics")
        database.execute("CREATE TABLE webhooks (x)")
    after = start(folder, "x")
    assert after.wait(300) == 0, after.stderr.read()
    assert version(folder) == version(empty_store())
    assert not (folder / "mlflow.db.before-upgrade").exists()
