"""Names of an image of a folder: each depends on the image's own path alone, never on its neighbours."""

import hashlib
import os
import re

_LONGEST = 80  # bytes; a tar member's name, extension included, must fit into 100
_HASH = 16  # hexadecimal digits: 64 bits distinguish any number of files


def key(path: str) -> str:
    """Return a key for a relative path: letters, digits, "-" and "_", unique among all paths, 80 at most."""
    return f"{_plain(path)[: _LONGEST - _HASH - 1]}-{hashlib.sha256(os.fsencode(path)).hexdigest()[:_HASH]}"


def held_out_by(path: str) -> str:
    """Return the name whose hash decides whether the image at a relative path is held out for testing.

    The extension is not part of the name, so that one picture in two formats lies on one side. Only if a path has more
    than 80 characters, the name holds a hash of the whole path.
    """
    plain = _plain(path)
    return plain if len(plain) <= _LONGEST else key(path)


def printable(path: str) -> str:
    """Return a path or a name as text for any output: bytes that are not UTF-8 become escapes."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")


def stem_of(path: str) -> str:
    """Return the name of an image's file as it stands in the key, before the hash: without folder and extension."""
    return _plain(os.path.basename(path))


def _plain(path: str) -> str:
    return re.sub(r"[^A-Za-z0-9_-]", "_", os.path.splitext(path)[0])
