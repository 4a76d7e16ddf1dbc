"""What a URL names: a folder of this machine, or a place that fsspec reaches."""

import os


def protocol_of(url: str) -> str:
    """The fsspec protocol of a URL; "file" for a plain path."""
    return url.split("://", 1)[0] if "://" in url else "file"


def local_path(url: str) -> str | None:
    """The path that a URL names on this machine, or None where it names another place."""
    if protocol_of(url) in ("file", "local"):
        return os.path.abspath(os.path.expanduser(url.split("://", 1)[-1]))
    return None


def cache_folder() -> str:
    """Where copies of remote files are kept when the user says nothing: HARDVIEWS_CACHE, else the user's cache."""
    home = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    return os.environ.get("HARDVIEWS_CACHE") or os.path.join(home, "hardviews", "shards")
