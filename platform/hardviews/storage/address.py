"""What a URL names: a folder of this machine, or a place that fsspec reaches."""

import os

from hardviews.errors import UserError


def protocol_of(url: str) -> str:
    """The fsspec protocol of a URL; "file" for a plain path."""
    return url.split("://", 1)[0] if "://" in url else "file"


def local_path(url: str) -> str | None:
    """The path that a URL names on this machine, or None where it names another place."""
    if protocol_of(url) in ("file", "local"):
        return os.path.abspath(os.path.expanduser(url.split("://", 1)[-1]))
    return None


def lies_in(url: str, folder: str) -> bool:
    """Whether a URL names a folder or a place in it, links on this machine followed."""
    inner, outer = local_path(url), local_path(folder)
    if (inner is None) != (outer is None):
        return False
    if inner is not None and outer is not None:
        inner, outer = os.path.realpath(inner), os.path.realpath(outer)
    else:
        inner, outer = url, folder
    return f"{inner.rstrip('/')}/".startswith(f"{outer.rstrip('/')}/")


def check_given(**addresses: str | None) -> None:
    """Refuse addresses that are empty or blank, as an unset shell variable makes them; None is an option left out.

    Taken for an address, nothing would be the current folder, or with a name behind it the root.

    Raises:
        UserError: naming the option.
    """
    for name, address in addresses.items():
        if address is not None and not address.strip():
            raise UserError(
                f"--{name.replace('_', '-')} is empty. Name a folder or an address; if you gave a shell variable, it "
                "is not set."
            )


def cache_folder() -> str:
    """Where copies of remote files are kept when the user says nothing: HARDVIEWS_CACHE, else the user's cache."""
    home = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    return os.environ.get("HARDVIEWS_CACHE") or os.path.join(home, "hardviews", "shards")


def cache_bound() -> int | None:
    """The most bytes that a cache of shards may take here, whatever a recipe allows: HARDVIEWS_CACHE_BYTES, if set.

    Raises UserError where the variable holds no number.
    """
    given = os.environ.get("HARDVIEWS_CACHE_BYTES", "")
    if given and not given.isdecimal():
        raise UserError(f"HARDVIEWS_CACHE_BYTES is {given!r}; give a number of bytes.")
    return int(given) if given else None


def cache_room(disk: int) -> int:
    """The most bytes that a cache of shards may take on a disk of so many bytes that is removed with its process.

    The rest is for tables of datasets and for the tracking record.
    """
    return disk * 95 // 100
