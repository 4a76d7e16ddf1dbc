"""The address of a tracking store: its meaning, and the impossible forms."""

import re
from pathlib import Path
from urllib.parse import unquote, urlsplit

from hardviews.errors import UserError
from hardviews.tracking.scrub import scrub
from hardviews.tracking.settings import TRACKING_URI

FORMS = "http://HOST:PORT, https://HOST, sqlite:////FOLDER/mlflow.db, or postgresql://USER@HOST/DATABASE"
# Schemes that MLflow knows without `//`.
_WORDS = ("databricks", "databricks-uc", "uc", "file")
# A host with a port, or a name with dots; a user before it; a path after it.
_HOST = re.compile(r"(//)?([^/@\s]+@)?(?P<host>\[[0-9a-fA-F:]+\]|[\w-]+(\.[\w-]+)*)(?P<port>:\d+)?(?P<path>/.*)?")


def check_uri(uri: str) -> str:
    """Return the address of a tracking store.

    Raises:
        UserError: MLflow would refuse it, or take it for a folder; the message gives the right form.
    """
    scheme, separator, rest = uri.partition(":")
    if uri.lower().startswith(("http:", "https:")):
        parts = urlsplit(uri)
        if not rest.startswith("//") or not _hostname(uri) or any(char.isspace() for char in uri):
            raise _mistake(uri, f"write {parts.scheme}://HOST:PORT")
        return uri
    if uri in _WORDS or (separator and scheme in _WORDS) or "://" in uri:
        return uri
    if uri.startswith("sqlite:") or uri.endswith((".db", ".sqlite")):
        raise _mistake(uri, f"write sqlite:///{Path(uri.removeprefix('sqlite:')).absolute()}")
    match = _HOST.fullmatch(uri)
    if match and (match["port"] or "." in match["host"] or match["host"] == "localhost" or uri.startswith("//")):
        known = f"http://{match['host']}{match['port'] or ''}{match['path'] or ''}"
        raise _mistake(uri, f"write {known} for a server (or https://)")
    if separator and re.fullmatch(r"[A-Za-z][\w.+-]*", scheme):
        raise _mistake(uri, f"write {FORMS}")
    return uri


def default_uri(folder: Path) -> str:
    """Return the address of the SQLite store in a project's folder."""
    return f"sqlite:///{folder.absolute() / 'mlflow.db'}"


def is_remote(uri: str) -> bool:
    """Return whether the store is a server, which may be away."""
    return uri.lower().startswith(("http://", "https://"))


def is_folder(uri: str) -> bool:
    """Return whether the store is a folder of files."""
    return uri.startswith("file:") or ("://" not in uri and uri.partition(":")[0] not in _WORDS)


def folder_of(uri: str) -> Path:
    """Return the absolute path of a store that is a folder of files."""
    path = unquote(urlsplit(uri).path) if uri.startswith("file:") else uri
    return Path(path).absolute()


def is_on_this_machine(uri: str) -> bool:
    """Return whether a server is reached by a name of this machine."""
    return _hostname(uri) in ("localhost", "::1") or _hostname(uri).startswith("127.")


def _hostname(uri: str) -> str:
    try:
        parts = urlsplit(uri)
        return parts.hostname or "" if parts.port is None or parts.port >= 0 else ""
    except ValueError:  # a port that is not a number
        return ""


def _mistake(uri: str, advice: str) -> UserError:
    shown = scrub(re.sub(r"[^/@\s]+@", "***@", uri))
    return UserError(f"{TRACKING_URI} is {shown}, which is not the address of a tracking store: {advice}.")
