"""The folder of an export: it appears whole or not at all, and replaces nothing but an export of the same encoder."""

import hashlib
import json
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from safetensors import SafetensorError

from hardviews.errors import UserError
from hardviews.models.described_file import to_text
from hardviews.models.encoder import Encoder, describe
from hardviews.models.encoder_files import DESCRIPTION
from hardviews.storage.disk import in_words, make_folder, remove_made
from hardviews.storage.store import check_writable

_CHUNK = 1 << 20  # bytes


@contextmanager
def published(out: str, encoder: Encoder, about: dict[str, str]) -> Iterator[Path]:
    """Yield an empty folder; after the block it becomes the folder `out`, with `encoder.json` added.

    `about`: facts about the export in that file besides the encoder's description, for example the format.

    Raises:
        UserError: `out` is in use, or cannot be written. If the block fails, nothing is left.
    """
    target = Path(os.path.abspath(os.path.expanduser(out)))
    check_free(target, encoder.digest)
    check_writable("out", str(target))
    with in_words(str(target), "--out names another folder."):
        make_folder(str(target.parent))
        work = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
        try:
            new = work / "new"
            new.mkdir()
            with _os_errors():
                yield new
            files = {path.name: _checksum(path) for path in sorted(new.iterdir())}
            text = to_text({**describe(encoder), "export": {**about, "files": files}})
            (new / DESCRIPTION).write_text(text, encoding="utf-8")
            _replace(new, target, work / "old")
        finally:
            shutil.rmtree(work, ignore_errors=True)
            remove_made(str(target.parent))


@contextmanager
def _os_errors() -> Iterator[None]:
    """Raise a failure of the disk inside safetensors as an OSError, which it names only in its text."""
    try:
        yield
    except SafetensorError as error:
        found = re.search(r"os error (\d+)", str(error))
        if found is None:
            raise
        raise OSError(int(found[1]), os.strerror(int(found[1]))) from error


def check_free(target: Path, digest: str) -> None:
    """Refuse a folder that holds anything but an untouched export of the encoder with this digest.

    Raises:
        UserError: the folder is refused; the message names it and its content.
    """
    if not os.path.lexists(target) or (target.is_dir() and not any(target.iterdir())):
        return
    reason = _other(target, digest)
    if reason:
        raise UserError(f"--out {target} exists and {reason}. Remove it, or give another --out.")


def _other(target: Path, digest: str) -> str:
    """Return why a folder must not be replaced, or nothing."""
    if not target.is_dir() or target.is_symlink():
        return "is not a folder"
    try:
        description: dict[str, Any] = json.loads((target / DESCRIPTION).read_bytes())
        files: dict[str, str] = description["export"]["files"]
        written = str(description["digest"])
    except (OSError, ValueError, KeyError, TypeError):
        return "is not an export of hardviews"
    if written != digest:
        return f"holds an export of another encoder ({written[:12]}, now {digest[:12]})"
    strange = sorted({path.name for path in target.iterdir()} - {DESCRIPTION, *files})
    if strange:
        return f"holds other files too ({', '.join(strange[:3])})"
    changed = [name for name, sum_ in files.items() if (target / name).exists() and _checksum(target / name) != sum_]
    return f"{', '.join(changed)} in it was changed since it was written" if changed else ""


def _replace(new: Path, target: Path, old: Path) -> None:
    """Give a folder its name; one that is there is moved away first, and put back if that fails."""
    if not target.exists():
        new.rename(target)
        return
    target.rename(old)
    try:
        new.rename(target)
    except BaseException:
        old.rename(target)
        raise


def _checksum(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while chunk := stream.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()
