"""The meaning of a URL: a folder of this machine, or a place that fsspec reaches."""

import os
import re

from hardviews.checked import at_least, number
from hardviews.errors import UserError

# Words before a colon that are never meant as the name of a folder. Any other word may be, as in `run:1`.
_SCHEMES = [
    *("s3", "s3a", "s3n", "gs", "gcs", "r2", "az", "abfs", "abfss", "adl", "wasb", "wasbs", "oss", "cos", "minio"),
    *("http", "https", "ftp", "ftps", "sftp", "ssh", "scp", "smb", "nfs", "hdfs", "webhdfs", "dbfs", "hf"),
    *("file", "local", "memory", "arn", "mlflow", "git", "github"),
]
# The place that stands first in an address, by the protocol; others may begin with a slash.
_PLACES = {
    **dict.fromkeys(("s3", "s3a", "s3n", "gs", "gcs", "r2", "az", "abfs", "oss", "cos", "minio"), "bucket"),
    **dict.fromkeys(("http", "https", "ftp", "ftps", "sftp", "ssh", "smb"), "host"),
}
_BUCKETS = tuple(scheme for scheme, place in _PLACES.items() if place == "bucket")
_CREDENTIALS = re.compile(r"(?<=://)[^/\s]*@")
_KNOWN = "|".join(sorted(_SCHEMES, key=len, reverse=True))
_WHOLE = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://")  # begin of an address; one letter is a drive of Windows
_ONE_SLASH = re.compile(r"([A-Za-z][A-Za-z0-9+.@-]*):[/\\]")
_NO_SLASH = re.compile(rf"({_KNOWN})\s*:", re.IGNORECASE)
_OTHER_SIGN = re.compile(rf"({_KNOWN})\s*[;:.,]*[/\\]{{2}}", re.IGNORECASE)


def protocol_of(url: str) -> str:
    """Return the fsspec protocol of a URL; "file" for a plain path."""
    return url.split("://", 1)[0] if "://" in url else "file"


def local_path(url: str) -> str | None:
    """Return the path that a URL names on this machine, or None if it names another place."""
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


def mistake(address: str) -> str | None:
    """Return what is wrong with the form of an address and how to write it, or None.

    A mistyped URL is the path of a folder of this machine by its form: `s3:/bucket` would be made here, and filled.
    """
    if not address.strip():
        return "is empty. Name a folder or an address; if you gave a shell variable, it is not set"
    if address != address.strip() and _NO_SLASH.match(address.strip()):
        return f"begins or ends with a blank. Write {address.strip()}"
    if _WHOLE.match(address):
        scheme, rest = address.split("://", 1)
        if scheme != scheme.lower():
            return f"begins with {scheme}://, and protocols are lower case. Write {scheme.lower()}://{rest}"
        if not rest or (scheme in _PLACES and rest.startswith(("/", "\\"))):
            inside = rest.strip("/" + chr(92)) or f"{_PLACES.get(scheme) or ''}/folder"
            return f"does not name a {_PLACES.get(scheme, 'folder')}. Write {scheme}://{inside}"
        if scheme in _BUCKETS and _CREDENTIALS.search(address):
            return (
                "contains credentials, or a bucket with an '@', which no store allows. Write "
                f"{_CREDENTIALS.sub('', address)}, and give credentials by the environment or a profile (docs/s3.md)"
            )
        return None
    if address.startswith("\\\\"):
        return "is an address of Windows. Give a folder of this machine, or an address such as s3://bucket/folder"
    found = _ONE_SLASH.match(address) or _NO_SLASH.match(address) or _OTHER_SIGN.match(address)
    if found is None:
        return None
    scheme = found[1].lower()
    if len(scheme) == 1:
        return (
            "is a path of Windows, and this is no Windows machine. Give a folder of this machine; one that has this "
            f"very name is ./{address}"
        )
    rest = re.sub(r"^[\s;:.,/\\]+", "", address[len(scheme) :]).replace("\\", "/")
    if scheme == "arn":
        scheme, rest = "s3", rest.rpartition(":")[2]
    if scheme not in _SCHEMES:
        return (
            "is neither a path nor an address. Give a folder of this machine, or an address such as "
            f"s3://bucket/folder; a folder that has this very name is ./{address}"
        )
    if scheme in ("file", "local"):
        return f"is neither a path nor an address. Write /{rest}; a folder that has this very name is ./{address}"
    return f"lacks '://'. Write {scheme}://{rest or 'bucket/folder'}; a folder that has this very name is ./{address}"


def check_given(**addresses: str | None) -> None:
    """Refuse addresses that are empty, as an unset shell variable makes them, or mistyped; None is an option left out.

    Taken for an address, nothing would be the current folder, or with a name behind it the root.

    Raises:
        UserError: naming the option.
    """
    for name, address in addresses.items():
        wrong = None if address is None else mistake(address)
        if wrong:
            shown = f" {_CREDENTIALS.sub('***@', address)}" if address and address.strip() else ""
            raise UserError(f"--{name.replace('_', '-')}{shown} {wrong}.")


def check_here(**folders: str | None) -> None:
    """Refuse what does not name a folder of this machine by its path, for options that take nothing else.

    Raises:
        UserError: naming the option.
    """
    check_given(**folders)
    for name, folder in folders.items():
        if folder is not None and _WHOLE.match(folder):
            path = local_path(folder)
            instead = f"Write {path}" if path else "Name a folder, and copy there what it is to hold"
            raise UserError(
                f"--{name.replace('_', '-')} {folder} is an address, and this option takes the path of a folder of "
                f"this machine. {instead}."
            )


def cache_folder() -> str:
    """Where copies of remote files are kept when the user says nothing: HARDVIEWS_CACHE, else the user's cache.

    Raises:
        UserError: HARDVIEWS_CACHE is not a path.
    """
    home = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    given = os.environ.get("HARDVIEWS_CACHE")
    if given and (mistake(given) or _WHOLE.match(given)):
        raise UserError(f"HARDVIEWS_CACHE is {given!r}; it takes the path of a folder of this machine.")
    return given or os.path.join(home, "hardviews", "shards")


def cache_bound() -> int | None:
    """Return the most bytes that a cache of shards may take here, whatever a recipe allows: HARDVIEWS_CACHE_BYTES.

    Raises:
        UserError: the variable is not a number of bytes.
    """
    given = os.environ.get("HARDVIEWS_CACHE_BYTES", "").strip()
    return int(number("HARDVIEWS_CACHE_BYTES", given, at_least(0), "bytes")) if given else None


def cache_room(disk: int) -> int:
    """Return the most bytes for a cache of shards on a disk of `disk` bytes that is removed with its process.

    The rest is for tables of datasets and for the tracking record.
    """
    return disk * 95 // 100
