"""Classification of failures of the tracking store or its artifacts: they pass by themselves, or have a remedy.

Only failures of a kind that is known to pass count as passing. All others need the user, or other software.
"""

from shlex import quote
from urllib.parse import urlsplit

from hardviews.errors import UserError
from hardviews.failures import Needs, Remedy, links, of_machine
from hardviews.storage.failures import verdict
from hardviews.tracking.answers import NOT_MLFLOWS, PASSING, NotMlflow, is_page, of_status, status_of
from hardviews.tracking.connections import of_connection
from hardviews.tracking.scrub import brief, scrub
from hardviews.tracking.settings import TRACKING_URI
from hardviews.tracking.uri import folder_of, is_folder

# MLflow's names of failures that pass. A server error (5xx) without a name of its own counts as INTERNAL_ERROR.
_PASSING = {"TEMPORARILY_UNAVAILABLE", "REQUEST_LIMIT_EXCEEDED", "RESOURCE_EXHAUSTED", "DEADLINE_EXCEEDED", "ABORTED"}
_DENIED = {"PERMISSION_DENIED", "UNAUTHENTICATED", "CUSTOMER_UNAUTHORIZED"}
_ABSENT = {"ENDPOINT_NOT_FOUND", "NOT_IMPLEMENTED", "FEATURE_DISABLED"}
# A request that a server will never accept; other requests may succeed.
_REFUSED = {"INVALID_PARAMETER_VALUE", "BAD_REQUEST", "RESOURCE_ALREADY_EXISTS", "MALFORMED_REQUEST"}
_REFUSED_STATUS = {400, 413, 422}
# Failures of a database, by their text: a server passes on only the text.
_DATABASE_PASSES = ("is locked", "deadlock", "too many connections", "starting up", "server closed the connection")
_DATABASE = {
    "readonly database": "its database can only be read. Make the file and its folder writable",
    "database or disk is full": "the disk of its database is full. Free some space",
    "unable to open database file": "its database cannot be opened. Check that the folder is there and may be written",
    "disk I/O error": "the disk of its database reported an error. Look at the kernel's log",
    "is malformed": "its database is damaged. Restore it from a copy",
    "file is not a database": "the file is not a database of SQLite. Give another one",
    "no such table": "its database lacks tables. Give another one, or restore it from a copy",
    "out-of-date database schema": "its tables are of another MLflow. Copy the store, then run mlflow db upgrade",
    "password authentication failed": "its database refuses the password. Correct the one in the address",
}
# Packages to install for a module that MLflow imports on demand.
_PACKAGES = {
    "boto3": "boto3",
    "google": "google-cloud-storage",
    "azure": "azure-storage-blob azure-identity",
    "psycopg": "'psycopg[binary]'",
    "psycopg2": "psycopg2-binary",
    "MySQLdb": "mysqlclient",
    "pymysql": "pymysql",
    "pyodbc": "pyodbc",
    "pysftp": "pysftp",
}
# Answers in JSON of a program before the server, which do not name an error of MLflow.
_FOREIGN = {"not found": "ENDPOINT_NOT_FOUND", "no route": "ENDPOINT_NOT_FOUND"}
_FOREIGN |= dict.fromkeys(("unauthorized", "forbidden", "access denied", "not authenticated"), "PERMISSION_DENIED")


class MissingRun(UserError):
    """The tracking store does not know the run."""


def code(error: BaseException) -> str:
    """Return MLflow's name of an error in a server's answer, empty if there was no answer.

    Files are sent by plain HTTP: then the status decides.
    """
    status = status_of(error)
    name = str(getattr(error, "error_code", ""))
    if status in (401, 403):
        return "PERMISSION_DENIED"
    if _is_foreign(error):
        text = str(getattr(error, "json", "")).lower()
        name = next((found for part, found in _FOREIGN.items() if part in text), name)
    if name and name != "INTERNAL_ERROR":
        return name
    if status is None or status >= 500 or status in PASSING:
        return name
    return "ENDPOINT_NOT_FOUND" if status in (404, 405) else "BAD_REQUEST"


def is_refused(error: BaseException) -> bool:
    """Return whether this request is refused for ever, while others may succeed."""
    if _of_database(_text(error)) is not None:
        return False
    status = status_of(error)
    if status == 400 and is_page(_text(error)):
        return False  # a proxy's answer says nothing about the record
    return status in _REFUSED_STATUS if status is not None else code(error) in _REFUSED


def is_absent(error: BaseException) -> bool:
    """Return whether the server lacks the called function, such as logged models in MLflow 2."""
    return code(error) in _ABSENT or any(type(link).__name__.startswith("NotImplemented") for link in links(error))


def diagnose(error: BaseException, uri: str, artifacts: str = "") -> Remedy:
    """Return the remedy for a failure, with words that follow "the tracking store cannot be used:".

    Args:
        error: any exception of MLflow's client.
        uri: address of the tracking store.
        artifacts: address of the run's artifacts, if they were written.
    """
    place = scrub(artifacts or uri)
    for link in links(error):
        if isinstance(link, UserError):
            return Remedy(Needs.USER, str(link))
        if isinstance(link, NotMlflow):
            return Remedy(Needs.USER, NOT_MLFLOWS)
    text = scrub(_text(error))
    host = urlsplit(uri).netloc.rpartition("@")[2]
    if "Invalid Host header" in text:
        return Remedy(
            Needs.USER, f"it does not answer to the name {host}: start it with `mlflow server --allowed-hosts {host}`"
        )
    found = _of_kind(uri, text) or _of_package(error, place) or _of_s3(error, artifacts)
    found = found or of_connection(error, uri, text) or _of_answer(error, artifacts, text)
    found = found or _of_database(text) or of_machine(error, place)
    return found or Remedy(Needs.USER, brief(error))


def unusable(uri: str, error: BaseException, own: bool = False) -> UserError:
    """Return the error for a store that cannot be used; `own` is set for the store in the project's folder."""
    if own:
        advice = f"Mend it, give another --project, or name a server in {TRACKING_URI}."
    else:
        begin = "Correct" if is_folder(uri) or uri.startswith(("databricks", "uc:")) else "Start it, correct"
        advice = f"{begin} {TRACKING_URI}, or unset it to keep the record in SQLite in the project's folder."
    words = diagnose(error, uri).words.rstrip(".")
    return UserError(f"The tracking store {scrub(uri)} cannot be used: {words}. {advice}")


def _of_kind(uri: str, text: str) -> Remedy | None:
    """Return the remedy for a kind of store that this MLflow does not support in its present form."""
    if "migrate-filestore" in text:
        folder = folder_of(uri)
        source, target = quote(str(folder)), quote(f"sqlite:///{folder.parent / 'mlflow.db'}")
        words = f"it is a folder of files, and this MLflow keeps runs in databases: export {TRACKING_URI}={target}"
        if folder.is_dir():
            words += f". This moves the runs there: mlflow migrate-filestore --source {source} --target {target}"
        return Remedy(Needs.USER, words)
    if "databricks-sdk" in text or "Databricks credential" in text:
        return Remedy(
            Needs.SOFTWARE if "databricks-sdk" in text else Needs.USER,
            "Databricks needs a package and a login: pip install databricks-sdk, then databricks configure, or "
            "DATABRICKS_HOST and DATABRICKS_TOKEN",
        )
    if "Unity Catalog tracking URI" in text:
        return Remedy(Needs.USER, "Unity Catalog keeps no runs: write databricks for the workspace")
    return None


def _of_package(error: BaseException, place: str) -> Remedy | None:
    for link in links(error):
        name = getattr(link, "name", None) if isinstance(link, ImportError) else None
        root = str(name).partition(".")[0] if name else ""
        if root in _PACKAGES:
            return Remedy(
                Needs.SOFTWARE,
                f"for {place} the Python package {root} is missing here: pip install {_PACKAGES[root]}",
            )
        if isinstance(link, ImportError):
            return Remedy(Needs.SOFTWARE, f"for {place} a Python package is missing here ({brief(link)})")
        if type(link).__name__ == "NoSuchModuleError":
            return Remedy(Needs.SOFTWARE, f"no database driver of that name is installed here ({brief(link)})")
    return None


def _of_s3(error: BaseException, artifacts: str) -> Remedy | None:
    """Return the remedy for a failure of an S3 client, by the classification of the stores."""
    client = next((link for link in links(error) if type(link).__module__.startswith("botocore")), None)
    if not isinstance(client, Exception):
        return None
    permanent = verdict(client, artifacts, artifacts)
    if permanent is not None:
        return Remedy(Needs.USER, scrub(str(permanent)))
    return Remedy(Needs.TIME, f"the store of its artifacts, {scrub(artifacts)}, fails: {brief(client)}")


def _of_answer(error: BaseException, artifacts: str, text: str) -> Remedy | None:
    """Return the remedy for an answer of the server, or of the store of its artifacts."""
    status, name = status_of(error), code(error)
    if name in _DENIED:
        if artifacts and not artifacts.startswith(("mlflow-artifacts:", "http:", "https:")):
            return Remedy(Needs.USER, f"{scrub(artifacts)} refuses our credentials ({brief(error)})")
        return Remedy(
            Needs.USER,
            "it refuses our credentials: set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or "
            "MLFLOW_TRACKING_TOKEN, to valid ones",
        )
    if "not in a valid JSON format" in text or any(type(link).__name__ == "ParseError" for link in links(error)):
        return Remedy(Needs.USER, NOT_MLFLOWS)
    if "--no-serve-artifacts" in text:
        return Remedy(Needs.USER, "it keeps no artifacts: start it with `mlflow server --serve-artifacts`")
    if _of_database(text) is not None:
        return None
    if status is not None:
        return of_status(status, error, text, artifacts)
    if name in _ABSENT:
        if not artifacts and _is_foreign(error):
            return of_status(404, error, text, artifacts)
        return Remedy(Needs.SOFTWARE, f"it lacks a function that is needed: use another MLflow ({brief(error)})")
    return Remedy(Needs.TIME, brief(error)) if name in _PASSING or _is_internal(error) else None


def _is_foreign(error: BaseException) -> bool:
    """Return whether an answer in JSON does not name an error of MLflow: another program gave it."""
    answer = getattr(error, "json", None)
    return isinstance(answer, dict) and not answer.get("error_code")


def _is_internal(error: BaseException) -> bool:
    """Return whether a server reports an internal error, which a later request may not meet.

    MLflow gives the same name to failures on this side: then the failure itself is among the links.
    """
    own = all(type(link).__module__.startswith("mlflow.") for link in links(error))
    return own and str(getattr(error, "error_code", "")) == "INTERNAL_ERROR"


def _of_database(text: str) -> Remedy | None:
    for part, words in _DATABASE.items():
        if part in text:
            return Remedy(Needs.USER, words)
    if any(part in text for part in _DATABASE_PASSES) or "OperationalError" in text:
        return Remedy(Needs.TIME, "its database is busy or away")
    return None


def _text(error: BaseException) -> str:
    return " ".join(f"{type(link).__name__} {link}" for link in links(error))
