"""A digest of the names, sizes and times in a folder: it shows a change without reading the files."""

import hashlib
import os
from collections.abc import Iterable


def listing(folder: str) -> str:
    """Return the digest (hexadecimal SHA-256) of the files in a folder and below it."""
    found = []
    for at, folders, names in os.walk(folder):
        folders.sort()
        found += [os.path.relpath(os.path.join(at, name), folder) for name in names]
    return listing_of(folder, sorted(found))


def listing_of(root: str, paths: Iterable[str]) -> str:
    """Return the digest (hexadecimal SHA-256) of some files: their paths below a root, sizes and times of change."""
    digest = hashlib.sha256()
    for path in paths:
        try:
            state = os.stat(os.path.join(root, path))
            line = f"{state.st_size} {state.st_mtime_ns}"
        except OSError:  # a link that leads nowhere
            line = "none"
        digest.update(os.fsencode(path) + f"\0{line}\n".encode())
    return digest.hexdigest()
