"""The meaning of a failure of the tracking store or its artifacts: which pass by themselves, and who ends the others.

Only failures of a kind that is known to pass count as passing. All others need the user, or other software.
"""

import re
from urllib.parse import urlsplit

from hardviews.errors import UserError
from hardviews.failures import Needs, Remedy, links, of_machine
from hardviews.storage.failures import verdict
from hardviews.tracking.scrub import scrub
from hardviews.tracking.settings import TRACKING_URI
from hardviews.tracking.uri import FORMS

# MLflow's names of failures that pass. A server error (5xx) without a name of its own counts as INTERNAL_ERROR.
_PASSING = {"TEMPORARILY_UNAVAILABLE", "REQUEST_LIMIT_EXCEEDED", "RESOURCE_EXHAUSTED", "DEADLINE_EXCEEDED", "ABORTED"}
_PASSING_STATUS = {408, 425, 429}
_DENIED = {"PERMISSION_DENIED", "UNAUTHENTICATED", "CUSTOMER_UNAUTHORIZED"}
_ABSENT = {"ENDPOINT_NOT_FOUND", "NOT_IMPLEMENTED", "FEATURE_DISABLED"}
# A request that a server will never take, and that says nothing about others.
_REFUSED = {"INVALID_PARAMETER_VALUE", "BAD_REQUEST", "RESOURCE_ALREADY_EXISTS", "MALFORMED_REQUEST"}
_REFUSED_STATUS = {400, 413, 422}
# Names of exceptions, of whichever library, that stand for a connection that failed.
_CONNECTION = {
    *("ConnectionError", "ConnectTimeout", "ReadTimeout", "Timeout", "ChunkedEncodingError", "ProxyError"),
    *("ProtocolError", "IncompleteRead", "RemoteDisconnected", "BadStatusLine", "TransportError"),
    *("ServiceRequestError", "ServiceResponseError", "ServiceRequestTimeoutError", "ServiceResponseTimeoutError"),
    *("RetryError", "ServiceUnavailable", "gaierror", "NewConnectionError", "MaxRetryError", "NameResolutionError"),
}
_TIMEOUT = {"Timeout", "ReadTimeout", "ConnectTimeout", "ReadTimeoutError", "ConnectTimeoutError", "TimeoutError"}
# The same for an address or a setting that is wrong.
_ADDRESS = {
    "InvalidURL",
    "MissingSchema",
    "InvalidSchema",
    "InvalidUrlException",
    "InvalidHeader",
    "LocationParseError",
}
# Failures of a database, by their text: a server passes them on as text alone.
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
# What to install for a module that MLflow imports on demand.
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
# Answers in JSON of a program before the server, which name no error of MLflow's.
_FOREIGN = {"not found": "ENDPOINT_NOT_FOUND", "no route": "ENDPOINT_NOT_FOUND"}
_FOREIGN |= dict.fromkeys(("unauthorized", "forbidden", "access denied", "not authenticated"), "PERMISSION_DENIED")
_STATUS = re.compile(r"failed with error code (\d{3})\b|^(\d{3}) (?:Client|Server) Error")


class MissingRun(UserError):
    """The tracking store does not know the run."""


def code(error: BaseException) -> str:
    """Return MLflow's name of an error that a server answered, empty if none answered.

    Files travel by plain HTTP: then the status decides.
    """
    status = _status(error)
    name = str(getattr(error, "error_code", ""))
    if status in (401, 403):
        return "PERMISSION_DENIED"
    answer = getattr(error, "json", None)
    if isinstance(answer, dict) and not answer.get("error_code"):
        text = str(answer).lower()
        name = next((found for part, found in _FOREIGN.items() if part in text), name)
    if name and name != "INTERNAL_ERROR":
        return name
    if status is None or status >= 500 or status in _PASSING_STATUS:
        return name
    return "ENDPOINT_NOT_FOUND" if status in (404, 405) else "BAD_REQUEST"


def is_refused(error: BaseException) -> bool:
    """Return whether this request is refused for ever, while others may be taken."""
    if _of_database(_text(error)) is not None:
        return False
    status = _status(error)
    return status in _REFUSED_STATUS if status is not None else code(error) in _REFUSED


def is_absent(error: BaseException) -> bool:
    """Return whether the server lacks the function that was called, as MLflow 2 lacks logged models."""
    return code(error) in _ABSENT or any(type(link).__name__.startswith("NotImplemented") for link in links(error))


def diagnose(error: BaseException, uri: str, artifacts: str = "") -> Remedy:
    """Return what ends a failure, with words that follow "the tracking store cannot be used:".

    Args:
        error: any exception of MLflow's client.
        uri: address of the tracking store.
        artifacts: address of the run's artifacts, if they were written.
    """
    place = scrub(artifacts or uri)
    for link in links(error):
        if isinstance(link, UserError):
            return Remedy(Needs.USER, str(link))
    text = scrub(_text(error))
    host = urlsplit(uri).netloc.rpartition("@")[2]
    if "Invalid Host header" in text:
        return Remedy(
            Needs.USER, f"it does not answer to the name {host}: start it with `mlflow server --allowed-hosts {host}`"
        )
    found = _of_package(error, place) or _of_s3(error, artifacts) or _of_connection(error, uri, text)
    found = found or _of_answer(error, artifacts, text) or _of_database(text) or of_machine(error, place)
    return found or Remedy(Needs.USER, _first_line(error))


def unusable(uri: str, error: BaseException, own: bool = False) -> UserError:
    """Return the mistake to raise for a store that cannot be used; `own` is the one in the project's folder."""
    if own:
        advice = f"Mend it, give another --project, or name a server in {TRACKING_URI}."
    else:
        advice = f"Start it, correct {TRACKING_URI}, or unset it to keep the record in SQLite in the project's folder."
    words = diagnose(error, uri).words.rstrip(".")
    return UserError(f"The tracking store {scrub(uri)} cannot be used ({words}). {advice}")


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
            return Remedy(Needs.SOFTWARE, f"for {place} a Python package is missing here ({_first_line(link)})")
        if type(link).__name__ == "NoSuchModuleError":
            return Remedy(Needs.SOFTWARE, f"no database driver of that name is installed here ({_first_line(link)})")
    return None


def _of_s3(error: BaseException, artifacts: str) -> Remedy | None:
    """Return the remedy for a failure of an S3 client, by the classification of the stores."""
    client = next((link for link in links(error) if type(link).__module__.startswith("botocore")), None)
    if not isinstance(client, Exception):
        return None
    permanent = verdict(client, artifacts, artifacts)
    if permanent is not None:
        return Remedy(Needs.USER, scrub(str(permanent)))
    return Remedy(Needs.TIME, f"the store of its artifacts, {scrub(artifacts)}, fails: {_first_line(client)}")


def _of_connection(error: BaseException, uri: str, text: str) -> Remedy | None:
    kinds = {type(link).__name__ for link in links(error)}
    if "CERTIFICATE_VERIFY_FAILED" in text:
        return Remedy(
            Needs.USER, "its certificate cannot be verified: name the authority in MLFLOW_TRACKING_SERVER_CERT_PATH"
        )
    if "WRONG_VERSION_NUMBER" in text or "RECORD_LAYER_FAILURE" in text:
        return Remedy(Needs.USER, "it does not speak TLS: write http:// in its address")
    if kinds & {"SSLError", "SSLCertVerificationError"}:
        return Remedy(Needs.USER, f"TLS with it fails ({_first_line(error)})")
    if kinds & _ADDRESS:
        return Remedy(Needs.USER, f"its address is wrong ({_first_line(error)})")
    if "TooManyRedirects" in kinds:
        return Remedy(Needs.USER, "it redirects for ever: give the address that it has after the redirections")
    if "UnsupportedModelRegistryStoreURIException" in kinds:
        return Remedy(Needs.USER, f"MLflow does not know such addresses: write {FORMS}")
    if "NameResolutionError" in text or "Name or service not known" in text or "gaierror" in kinds:
        return Remedy(Needs.TIME, f"no machine has the name {urlsplit(uri).hostname}")
    if "Connection refused" in text:
        return Remedy(Needs.TIME, "connection refused")
    answered = _status(error) is not None
    if not answered and ("timed out" in text or kinds & _TIMEOUT):
        return Remedy(Needs.TIME, "no answer in time")
    if kinds & _CONNECTION or any(isinstance(link, ConnectionError) for link in links(error)):
        return Remedy(Needs.TIME, _first_line(error))
    return None


def _of_answer(error: BaseException, artifacts: str, text: str) -> Remedy | None:
    """Return the remedy for an answer of the server, or of the store of its artifacts."""
    status, name = _status(error), code(error)
    if name in _DENIED:
        if artifacts and not artifacts.startswith(("mlflow-artifacts:", "http:", "https:")):
            return Remedy(Needs.USER, f"{scrub(artifacts)} refuses our credentials ({_first_line(error)})")
        return Remedy(
            Needs.USER,
            "it refuses our credentials: set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or "
            "MLFLOW_TRACKING_TOKEN, to valid ones",
        )
    if "not in a valid JSON format" in text:
        return Remedy(
            Needs.USER, "it answers with a page that is not MLflow's, perhaps the login of a proxy: give MLflow's own"
        )
    if status == 407:
        return Remedy(Needs.USER, "the proxy wants a login: set HTTPS_PROXY with a user, or NO_PROXY")
    if status == 413:
        return Remedy(Needs.USER, "it refuses files of this size: raise the limit of the proxy before it")
    if name in _ABSENT or status in (501, 505):
        return Remedy(Needs.SOFTWARE, f"it lacks a function that is needed: use another MLflow ({_first_line(error)})")
    if _of_database(text) is not None:
        return None
    passing = name in _PASSING or status in _PASSING_STATUS or (status or 0) >= 500
    return Remedy(Needs.TIME, _first_line(error)) if passing or (status is None and _is_internal(error)) else None


def _is_internal(error: BaseException) -> bool:
    """Return whether a server reports an error of its own, which a later request may not meet.

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


def _status(error: BaseException) -> int | None:
    """Return the HTTP status of an answer, None if there was none."""
    for link in links(error):
        response = getattr(link, "response", None)
        for status in (getattr(response, "status_code", None), getattr(link, "status_code", None)):
            if isinstance(status, int):
                return status
        match = _STATUS.search(str(link))
        if match:
            return int(match[1] or match[2])
        status = getattr(link, "code", None)  # of Google's client
        if isinstance(status, int) and type(link).__module__.startswith("google."):
            return int(status)
    return None


def _text(error: BaseException) -> str:
    return " ".join(f"{type(link).__name__} {link}" for link in links(error))


def _first_line(error: BaseException) -> str:
    return scrub((str(error).strip().splitlines() or [type(error).__name__])[0][:300])
