"""The run's part of a bug report: its record, lives, history, checkpoints and files, as far as they can be read."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress

from hardviews.doctor.bug_report.archive import Archive
from hardviews.errors import UserError
from hardviews.runs.manifest import CHECKPOINTS, MANIFEST, is_checkpoint
from hardviews.storage.failures import Unreachable
from hardviews.storage.store import Store, open_store

PATIENCE = 5.0
"""Seconds of further attempts after a failure of the store."""

_LIVES = 50  # the newest ones
_LISTED = 500  # most files of a folder
_LINES = 400_000  # bytes of the history
_CHECK = 180.0  # most seconds for a command that reads the run


def add_run(archive: Archive, url: str, data: str | None) -> None:
    """Add the contents of a run's folder; note files that are missing, shortened or damaged.

    Args:
        archive: archive to extend.
        url: address of the run's output.
        data: dataset for the audit; None uses the run's own.

    Raises:
        UserError: the folder is missing or empty.
    """
    store = open_store(url, PATIENCE)
    if store.path is not None and not os.path.isdir(store.path):
        raise UserError(f"There is no folder {url}. Give the --output of a `hardviews pretrain` or `finetune`.")
    try:
        files, folders = store.files(), store.folders()
    except UserError as error:
        if not isinstance(error, Unreachable) and store.path is not None:
            raise
        archive.note(f"nothing of the run could be read: {error}")
        return
    if not files and not folders:
        raise UserError(f"There is nothing at {url}. Give the --output of a `hardviews pretrain` or `finetune`.")
    _try(archive, "run/files.txt", lambda: archive.add("run/files.txt", _listing(store, folders)))
    for name in ("run.json", "import.json", "health.json"):
        if name in files or name == "run.json":
            _copy(archive, store, name, f"run/{name}")
    names = _try(archive, f"run/{CHECKPOINTS}", lambda: _checkpoints(archive, store)) or []
    if "history.jsonl" in files:
        _copy(archive, store, "history.jsonl", "run/history.jsonl", _LINES)
    elif names:
        _copy(archive, store, f"{CHECKPOINTS}/{names[-1]}/history.jsonl", "run/history.jsonl", _LINES)
    else:
        archive.note("the run has no history.jsonl, and no checkpoint that has one")
    _try(archive, "run/lives", lambda: _lives(archive, store))
    words = ["--data", data] if data else []
    _command(archive, "run/audit.json", ["audit", url, "--json", *words])
    _command(archive, "run/health.txt", ["health", url])


def _try(archive: Archive, name: str, step: Callable[[], "list[str] | None"]) -> "list[str] | None":
    """Take a step; note a failure."""
    try:
        return step()
    except (OSError, UserError, ValueError, TypeError, KeyError) as error:
        archive.note(f"{name} could not be read: {error}")
        return None


def _copy(archive: Archive, store: Store, file: str, name: str, most: int = 200_000) -> None:
    """Add the end of a file of the run."""

    def copy() -> None:
        size = store.size(file)
        if size is None:
            archive.note(f"{name} is missing")
            return
        # A secret that is cut in two could not be recognised, so the first line, which is cut, is left out.
        data = store.read(file, max(0, size - most), size)
        if size > most:
            data = data.partition(b"\n")[2]
            archive.note(f"{name} has the last {len(data)} of {size} bytes")
        archive.add(name, data.decode(errors="replace"), most)
        if file.endswith(".json"):
            with suppress(UnicodeDecodeError):
                try:
                    json.loads(data)
                except ValueError as error:
                    archive.note(f"{name} is cut or damaged ({error})")

    _try(archive, name, copy)


def _listing(store: Store, folders: Sequence[str]) -> str:
    """Return the files of the run and of its folders, with their sizes."""
    lines = [f"{size:>14,}  {name}" for name, size in sorted(_sizes(store).items())[:_LISTED]]
    for folder in folders[:_LISTED]:
        inside = store.inside(folder)
        lines += [f"{size:>14,}  {folder}/{name}" for name, size in sorted(_sizes(inside).items())[:_LISTED]]
        lines += [f"{'folder':>14}  {folder}/{name}/" for name in inside.folders()[:_LISTED]]
    return "\n".join(lines) + "\n"


def _sizes(store: Store) -> dict[str, int]:
    """Return the bytes of the first files directly in a folder."""
    known = store.sizes()
    return {name: known.get(name) or store.size(name) or 0 for name in store.files()[:_LISTED]}


def _checkpoints(archive: Archive, store: Store) -> list[str]:
    """List the files of the checkpoints; add the newest manifest; return the checkpoints that have a manifest."""
    inside = store.inside(CHECKPOINTS)
    names = [name for name in inside.folders() if is_checkpoint(name)]
    lines, whole = [], []
    for name in names[-20:]:
        sizes = _sizes(inside.inside(name))
        lines += [f"{size:>14,}  {name}/{file}" for file, size in sorted(sizes.items())]
        if MANIFEST in sizes:
            whole.append(name)
        else:
            archive.note(f"the checkpoint {name} has no {MANIFEST}: it was not finished")
    archive.add("run/checkpoints.txt", "\n".join(lines) + "\n" if lines else "no checkpoint\n")
    if whole:
        _copy(archive, store, f"{CHECKPOINTS}/{whole[-1]}/{MANIFEST}", f"run/{whole[-1]}-manifest.json")
    return whole


def _lives(archive: Archive, store: Store) -> None:
    inside = store.inside("lives")
    files = inside.files()
    for file in files[-_LIVES:]:
        _copy(archive, inside, file, f"run/lives/{file}", 20_000)
    if not files:
        archive.note("the run has no lives: it never began to train")
    elif len(files) > _LIVES:
        archive.note(f"run/lives has the newest {_LIVES} of {len(files)} lives")


def _command(archive: Archive, name: str, words: Sequence[str]) -> None:
    """Add the output of a hardviews command about the run; the command needs torch, and may fail on a broken run."""
    command = [sys.executable, "-P", "-m", "hardviews.cli", *words]
    variables = {**os.environ, "HARDVIEWS_PATIENCE": str(PATIENCE), "PYTHONIOENCODING": "utf-8"}
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, timeout=_CHECK, env=variables, check=False
        )
    except subprocess.TimeoutExpired:
        archive.note(f"{name} is missing: hardviews {words[0]} took more than {_CHECK:.0f} s")
        return
    said = done.stderr.decode(errors="replace").strip()
    if done.returncode not in (0, 1) or not done.stdout:
        last = said.splitlines()[-1] if said else f"exit code {done.returncode}"
        archive.note(f"{name} is missing: {last[:500]}")
        return
    archive.add(name, done.stdout.decode(errors="replace"), end=False)
