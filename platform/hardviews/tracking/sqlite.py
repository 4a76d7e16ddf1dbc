"""The first opening of a SQLite tracking store: one process makes or upgrades the tables, the others wait for it."""

import contextlib
import fcntl
import importlib
import io
import logging
import os
import sqlite3
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

from hardviews.errors import UserError

T = TypeVar("T")
logger = logging.getLogger(__name__)

# Seconds that a process waits for another one that makes the tables, and seconds until it reports the wait.
_PATIENCE, _REMARK = 600.0, 10.0


def open_once(uri: str, open_store: Callable[[], T]) -> T:
    """Return `open_store()`, called when the tables of the SQLite store at `uri` fit the installed MLflow.

    The first process that opens a store with a version of MLflow makes or upgrades its tables. It holds a lock on the
    file `mlflow.db.lock` meanwhile, which the system releases if the process is killed. New tables are made in a file
    of another name. Before an upgrade the store is copied to `mlflow.db.before-REVISION`. If an upgrade is killed, the
    next one begins again from that copy.

    Raises:
        UserError: another process has held the lock for 600 s, or the store belongs to a newer MLflow.
    """
    from mlflow.version import VERSION

    path = _file_of(uri)
    if path is None:
        return open_store()
    lock = path.with_name(f"{path.name}.lock")
    with contextlib.suppress(OSError):
        if lock.read_text() == VERSION and path.stat().st_size:
            return open_store()
    with _locked(lock) as file:
        if file is None:
            return open_store()
        if _is_new(path):
            _create(path)
        else:
            _upgrade(path)
        # The first opening also writes.
        store = open_store()
        file.seek(0)
        file.truncate()
        file.write(VERSION)
        return store


def _file_of(uri: str) -> Path | None:
    """Return the file of a SQLite store, None if there is none."""
    from sqlalchemy.engine import make_url
    from sqlalchemy.exc import ArgumentError

    try:
        url = make_url(uri)
    except ArgumentError:
        return None
    name = url.database
    if url.get_backend_name() != "sqlite" or not name or name == ":memory:" or name.startswith("file:"):
        return None
    return Path(name)


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[io.TextIOWrapper | None]:
    """Hold the lock on a file; None if the folder cannot be written or its file system has no locks."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = open(path, "a+")  # noqa: SIM115 (closed below)
    except OSError:
        yield None
        return
    with file:
        yield file if _wait_for(file, path) else None


def _wait_for(file: io.TextIOWrapper, path: Path) -> bool:
    began, reported = time.monotonic(), False
    while True:
        try:
            fcntl.flock(file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        except BlockingIOError:
            waited = time.monotonic() - began
        except OSError:
            return False
        if waited > _PATIENCE:
            raise UserError(
                f"Another process has held {path} for {_PATIENCE:.0f} s: it makes or upgrades the tables of the "
                "tracking store. Look for a process that hangs and end it; the lock goes with it."
            )
        if waited > _REMARK and not reported:
            reported = True
            logger.warning("tracking: waiting for another process, which makes the tables beside %s", path)
        time.sleep(0.05)


def _is_new(path: Path) -> bool:
    """Return whether there is no file, or one without tables."""
    if not path.exists() or path.stat().st_size == 0:
        return True
    with contextlib.closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)) as database:
        return bool(database.execute("SELECT count(*) FROM sqlite_master").fetchone()[0] == 0)


def _create(path: Path) -> None:
    """Make the tables in a file of another name, so that a killed process leaves no incomplete tables."""
    tables = _tables()
    part = path.with_name(f"{path.name}.part")
    part.unlink(missing_ok=True)
    engine = tables.create_sqlalchemy_engine(f"sqlite:///{part.absolute()}")
    try:
        tables._initialize_tables(engine)
    finally:
        engine.dispose()
    os.replace(part, path)


def _upgrade(path: Path) -> None:
    """Upgrade the tables to this MLflow, if they belong to an older one."""
    from alembic.util import CommandError
    from mlflow.version import VERSION

    tables = _tables()
    newest = tables._get_latest_schema_revision()
    before = path.with_name(f"{path.name}.before-upgrade")
    if before.exists() and _revision(path) != newest:
        _copy(before, path)
    revision = _revision(path)
    if revision is None or revision == newest:
        return
    part = path.with_name(f"{path.name}.part")
    part.unlink(missing_ok=True)
    _copy(path, part)
    os.replace(part, before)
    engine = tables.create_sqlalchemy_engine(f"sqlite:///{path.absolute()}")
    try:
        tables._upgrade_db(engine)
    except CommandError as error:
        before.unlink()
        raise UserError(
            f"The tracking store {path} was written by a newer MLflow than the one here, {VERSION} ({error}). "
            "Upgrade MLflow: pip install -U mlflow."
        ) from error
    finally:
        engine.dispose()
    kept = path.with_name(f"{path.name}.before-{revision}")
    os.replace(before, kept)
    logger.warning(
        "tracking: the tables of %s were upgraded for MLflow %s; the old ones are in %s", path, VERSION, kept
    )


def _tables() -> Any:
    """Return MLflow's module that makes and upgrades tables, as its command `mlflow db upgrade` does."""
    return importlib.import_module("mlflow.store.db.utils")


def _revision(path: Path) -> str | None:
    """Return the revision of MLflow's tables, None if there is none."""
    with contextlib.closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)) as database:
        try:
            row = database.execute("SELECT version_num FROM alembic_version").fetchone()
        except sqlite3.OperationalError:
            return None
    return None if row is None else str(row[0])


def _copy(source: Path, target: Path) -> None:
    """Copy a store with SQLite's own function: complete, even if others write to it."""
    with contextlib.closing(sqlite3.connect(source)) as old, contextlib.closing(sqlite3.connect(target)) as new:
        old.backup(new)
