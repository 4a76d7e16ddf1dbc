"""The first opening of a SQLite store, and stores that cannot be opened."""

import fcntl
import shutil
import sqlite3
import sys
import threading
import time
from pathlib import Path

import pytest
from mlflow.version import VERSION

from hardviews.errors import UserError
from hardviews.tracking import sqlite as sqlite_module
from hardviews.tracking.mlflow_run import Run
from hardviews.tracking.sqlite import open_once
from hardviews.tracking.uri import default_uri
from tests.stores import empty_store


def test_of_several_first_starts_one_makes_the_tables(tmp_path, monkeypatch):
    made, opened = [], []
    empty = empty_store() / "mlflow.db"  # made before the threads: on a busy machine that takes longer than they do

    def create(path):
        made.append(path)
        time.sleep(0.2)
        shutil.copy(empty, path)

    monkeypatch.setattr(sqlite_module, "_create", create)
    uri = default_uri(tmp_path / "store")
    threads = [threading.Thread(target=open_once, args=(uri, lambda: opened.append(len(made)))) for _ in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(made) == 1 and opened == [1] * 5
    assert (tmp_path / "store" / "mlflow.db.lock").read_text() == VERSION


def test_a_store_of_a_newer_mlflow_is_reported_in_words(tmp_path):
    folder = tmp_path / "store"
    shutil.copytree(empty_store(), folder)
    (folder / "mlflow.db.lock").unlink()
    with sqlite3.connect(folder / "mlflow.db") as database:
        database.execute("UPDATE alembic_version SET version_num = 'ffffffffffff'")
    with pytest.raises(UserError, match=r"written by a newer MLflow.*pip install -U mlflow"):
        Run.start("exp", "x", folder=folder)
    assert not list(folder.glob("*.before-*"))


def test_a_process_waits_for_the_one_that_holds_the_lock(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(sqlite_module, "_REMARK", 0.0)
    shutil.copytree(empty_store(), tmp_path / "store")
    lock = tmp_path / "store" / "mlflow.db.lock"
    opened = []
    with open(lock, "w") as file:
        fcntl.flock(file.fileno(), fcntl.LOCK_EX)
        uri = default_uri(tmp_path / "store")
        thread = threading.Thread(target=open_once, args=(uri, lambda: opened.append(1)), daemon=True)
        thread.start()
        deadline = time.monotonic() + 60
        while "waiting for another process" not in caplog.text:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        assert not opened
    thread.join(60)
    assert opened == [1]
    monkeypatch.setattr(sqlite_module, "_PATIENCE", 0.1)
    lock.write_text("")
    with open(lock) as file:
        fcntl.flock(file.fileno(), fcntl.LOCK_EX)
        with pytest.raises(UserError, match=r"mlflow\.db\.lock"):
            open_once(uri, lambda: None)


@pytest.mark.parametrize("uri", ["sqlite://", "sqlite:///:memory:", "http://x", "postgresql://u@h/d", "not an address"])
def test_other_stores_are_opened_without_a_lock(uri):
    assert open_once(uri, lambda: "opened") == "opened"


@pytest.mark.parametrize(
    ("content", "words"), [(b"not a database, but long enough to be read as one" * 50, "not a database"), (None, "")]
)
def test_a_file_that_is_no_store_is_reported_in_words(tmp_path, content, words):
    if content is None:
        (tmp_path / "mlflow.db").mkdir()
    else:
        (tmp_path / "mlflow.db").write_bytes(content)
    with pytest.raises(UserError, match=f"cannot be used.*{words}"):
        Run.start("exp", "x", folder=tmp_path)


def test_a_database_that_cannot_be_written_is_reported_at_once(project, monkeypatch):
    monkeypatch.chdir(project)  # MLflow takes such an address for a path, and makes its folders here
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///file:{project}/mlflow.db?mode=ro&uri=true")
    begun = time.monotonic()
    with pytest.raises(UserError, match="can only be read"):
        Run.start("exp", "x", folder=project)
    assert time.monotonic() - begun < 10


def test_a_database_whose_driver_is_missing_names_the_package(tmp_path, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "postgresql://u:secret@127.0.0.1:9/d")
    for name in ("psycopg", "psycopg2"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(UserError, match=r"pip install '?psycopg") as caught:
        Run.start("exp", "x", folder=Path(tmp_path))
    assert "secret" not in str(caught.value)
