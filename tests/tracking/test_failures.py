"""Failures of the tracking store: which of them pass, who ends the others, and in which words."""

import builtins
import errno
import importlib
import sqlite3
import sys
from types import SimpleNamespace

import botocore.exceptions
import pytest
import requests
from mlflow.exceptions import MlflowException, RestException
from mlflow.protos import databricks_pb2
from mlflow.utils.rest_utils import MlflowHostCreds, http_request, verify_rest_response

from hardviews.errors import UserError
from hardviews.failures import Needs
from hardviews.tracking.failures import diagnose, is_absent, is_refused, unusable
from hardviews.tracking.mlflow_import import preload
from hardviews.tracking.server import Server
from hardviews.tracking.settings import setting
from hardviews.tracking.uri import check_uri

URI = "http://user:secret@mlflow.example.org:5000"
S3 = "s3://bucket/mlflow/1/abc/artifacts"


def answered(status, body="<html>no</html>"):
    """The error that MLflow's client makes of an answer to one of its calls."""
    response = SimpleNamespace(status_code=status, text=body)
    with pytest.raises(MlflowException) as caught:
        verify_rest_response(response, "/api/2.0/mlflow/runs/create")
    return caught.value


def uploaded(status):
    """The error of a file that a server answers so."""
    response = requests.Response()
    response.status_code = status
    response.url = "http://mlflow.example.org/x"
    with pytest.raises(requests.HTTPError) as caught:
        response.raise_for_status()
    return caught.value


def requested(uri, monkeypatch, raised):
    """The error that MLflow's client makes of a request that fails below it."""
    monkeypatch.setattr(requests.Session, "request", lambda *_, **__: (_ for _ in ()).throw(raised))
    with pytest.raises(MlflowException) as caught:
        http_request(MlflowHostCreds(uri), "/x", "GET", max_retries=0)
    return caught.value


@pytest.mark.parametrize("status", [408, 425, 429, 500, 502, 503, 504, 507, 520])
def test_statuses_that_pass(status):
    assert diagnose(answered(status), URI).needs is Needs.TIME
    assert diagnose(uploaded(status), URI, "mlflow-artifacts:/1/abc").needs is Needs.TIME
    assert not is_refused(answered(status)) and not is_absent(answered(status))


@pytest.mark.parametrize("status", [301, 400, 401, 402, 403, 404, 405, 407, 409, 410, 413, 418, 422, 451, 501, 505])
def test_statuses_that_need_somebody(status):
    if status >= 400:
        assert diagnose(uploaded(status), URI, "mlflow-artifacts:/1/abc").needs is not Needs.TIME
    assert diagnose(answered(status), URI).needs is not Needs.TIME


@pytest.mark.parametrize("name", ["TEMPORARILY_UNAVAILABLE", "REQUEST_LIMIT_EXCEEDED", "INTERNAL_ERROR"])
def test_names_that_pass(name):
    assert diagnose(RestException({"error_code": name, "message": "later"}), URI).needs is Needs.TIME


NAMES = ["INVALID_PARAMETER_VALUE", "RESOURCE_DOES_NOT_EXIST", "PERMISSION_DENIED", "UNAUTHENTICATED", "DATA_LOSS"]


@pytest.mark.parametrize("name", [*NAMES, "INVALID_STATE", "ENDPOINT_NOT_FOUND", "NOT_IMPLEMENTED", "CANCELLED"])
def test_names_that_need_somebody(name):
    assert diagnose(RestException({"error_code": name, "message": "no"}), URI).needs is not Needs.TIME


@pytest.mark.parametrize(
    ("raised", "needs", "words"),
    [
        (requests.ConnectionError("Connection refused"), Needs.TIME, "connection refused"),
        (requests.ConnectionError("Connection reset by peer"), Needs.TIME, "reset"),
        (requests.ReadTimeout("Read timed out."), Needs.TIME, "no answer in time"),
        (requests.exceptions.ChunkedEncodingError("broken"), Needs.TIME, "broken"),
        (requests.ConnectionError("NameResolutionError: x"), Needs.TIME, "no machine has the name mlflow.example.org"),
        (requests.exceptions.SSLError("CERTIFICATE_VERIFY_FAILED"), Needs.USER, "MLFLOW_TRACKING_SERVER_CERT_PATH"),
        (requests.exceptions.SSLError("WRONG_VERSION_NUMBER"), Needs.USER, "write http://"),
        (requests.exceptions.InvalidURL("no host"), Needs.USER, "address is wrong"),
        (requests.TooManyRedirects("30"), Needs.USER, "redirects for ever"),
        (UnicodeEncodeError("latin-1", "\u4e2d", 0, 1, "no"), Needs.USER, "latin-1"),
    ],
)
def test_requests_that_fail(monkeypatch, raised, needs, words):
    remedy = diagnose(requested(URI, monkeypatch, raised), URI)
    assert remedy.needs is needs and words in remedy.words and "secret" not in remedy.words


@pytest.mark.parametrize(
    ("error", "needs", "words"),
    [
        (answered(403, "Invalid Host header"), Needs.USER, "--allowed-hosts mlflow.example.org:5000"),
        (answered(401), Needs.USER, "refuses our credentials"),
        (answered(404), Needs.USER, "no MLflow at this address"),
        (answered(413), Needs.USER, "size"),
        (answered(407), Needs.USER, "proxy"),
        (RestException({"message": "Forbidden"}), Needs.USER, "refuses our credentials"),
        (RestException({"detail": "Not Found"}), Needs.USER, "no MLflow at this address"),
        (RestException({"error_code": "ENDPOINT_NOT_FOUND", "message": "x"}), Needs.SOFTWARE, "lacks a function"),
        (RestException({"message": "Service Unavailable"}), Needs.TIME, "Unavailable"),
        (ConnectionResetError(errno.ECONNRESET, "reset"), Needs.TIME, "reset"),
        (TimeoutError("no answer: timed out"), Needs.TIME, "no answer in time"),
        (OSError(errno.ENOSPC, "full", "/disk/x"), Needs.USER, "/disk/x: the disk is full"),
        (OSError(errno.EROFS, "read-only", "/disk/x"), Needs.USER, "can only be read"),
        (FileNotFoundError(errno.ENOENT, "no such file", "/disk/x"), Needs.USER, "no such file"),
        (RuntimeError("never seen before"), Needs.USER, "never seen before"),
        (UserError("do this"), Needs.USER, "do this"),
    ],
)
def test_failures_in_words(error, needs, words):
    remedy = diagnose(error, URI)
    assert remedy.needs is needs and words in remedy.words
    message = str(unusable(URI, error))
    assert "secret" not in message and words.rstrip(".") in message and "MLFLOW_TRACKING_URI" in message


def test_a_page_that_is_not_mlflows_is_not_a_server_that_is_away():
    response = SimpleNamespace(status_code=200, text="<html>Sign in</html>")
    with pytest.raises(MlflowException) as caught:
        verify_rest_response(response, "/api/2.0/mlflow/runs/create")
    remedy = diagnose(caught.value, URI)
    assert remedy.needs is Needs.USER and "login of a proxy" in remedy.words and "<html>" not in remedy.words


@pytest.mark.parametrize(
    ("module", "package"),
    [
        ("boto3", "boto3"),
        ("google.cloud", "google-cloud-storage"),
        ("azure.storage.blob", "azure-storage-blob"),
        ("psycopg2", "psycopg2-binary"),
        ("something.other", "something"),
    ],
)
def test_a_package_that_is_missing_is_named(monkeypatch, module, package):
    for name in [name for name in sys.modules if name.partition(".")[0] == module.partition(".")[0]]:
        monkeypatch.delitem(sys.modules, name)
    plain = builtins.__import__

    def without(name, *rest):
        if name.partition(".")[0] == module.partition(".")[0]:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
        return plain(name, *rest)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ImportError) as caught:
        exec(f"import {module}")
    remedy = diagnose(caught.value, URI, S3)
    assert remedy.needs is Needs.SOFTWARE and package in remedy.words


@pytest.mark.parametrize(
    ("scheme", "package"), [("gs://bucket/x", "google"), ("wasbs://c@a.blob.core.windows.net/x", "azure")]
)
def test_artifacts_in_other_clouds_name_their_package(scheme, package):
    from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

    with pytest.raises(ImportError) as caught:
        get_artifact_repository(scheme)
    remedy = diagnose(caught.value, URI, scheme)
    assert remedy.needs is Needs.SOFTWARE and package in remedy.words and "pip install" in remedy.words


def client_error(code, status):
    response = {"Error": {"Code": code, "Message": "m"}, "ResponseMetadata": {"HTTPStatusCode": status}}
    return botocore.exceptions.ClientError(response, "PutObject")


@pytest.mark.parametrize(
    ("error", "needs", "words"),
    [
        (botocore.exceptions.NoCredentialsError(), Needs.USER, "AWS_ACCESS_KEY_ID"),
        (client_error("AccessDenied", 403), Needs.USER, "denied"),
        (client_error("NoSuchBucket", 404), Needs.USER, "no bucket 'bucket'"),
        (client_error("InvalidAccessKeyId", 403), Needs.USER, "access key"),
        (client_error("SlowDown", 503), Needs.TIME, S3),
        (client_error("InternalError", 500), Needs.TIME, S3),
        (botocore.exceptions.EndpointConnectionError(endpoint_url="http://s3"), Needs.TIME, "http://s3"),
    ],
)
def test_failures_of_artifacts_in_s3_are_those_of_the_stores(error, needs, words):
    remedy = diagnose(error, URI, S3)
    assert remedy.needs is needs and words in remedy.words


@pytest.mark.parametrize(
    ("message", "needs"),
    [
        ("attempt to write a readonly database", Needs.USER),
        ("database or disk is full", Needs.USER),
        ("unable to open database file", Needs.USER),
        ("disk I/O error", Needs.USER),
        ("no such table: runs", Needs.USER),
        ("database disk image is malformed", Needs.USER),
        ("database is locked", Needs.TIME),
    ],
)
def test_failures_of_a_database_here_and_behind_a_server(message, needs):
    def fail(*_):
        raise sqlite3.OperationalError(message)

    try:
        fail()
    except sqlite3.OperationalError as error:
        here = MlflowException(f"(sqlite3.OperationalError) {error}", databricks_pb2.TEMPORARILY_UNAVAILABLE)
        here.__cause__ = error
    assert diagnose(here, "sqlite:////x/mlflow.db").needs is needs
    there = RestException({"error_code": "TEMPORARILY_UNAVAILABLE", "message": str(here)})
    assert diagnose(there, URI).needs is needs
    assert not is_refused(here) and not is_refused(there)


def test_a_request_that_is_refused_says_nothing_of_others():
    assert is_refused(RestException({"error_code": "INVALID_PARAMETER_VALUE", "message": "bad name"}))
    assert is_refused(uploaded(413)) and not is_refused(answered(401)) and not is_refused(RuntimeError("x"))
    assert (
        is_absent(answered(404)) and is_absent(RestException({"detail": "Not Found"})) and not is_absent(answered(401))
    )


@pytest.mark.parametrize(
    ("uri", "words"),
    [
        ("localhost:5000", "write http://localhost:5000"),
        ("mlflow:5000", "write http://mlflow:5000"),
        ("127.0.0.1:5000/x", "write http://127.0.0.1:5000/x"),
        ("me:secret@mlflow.example.org:5000", "write http://mlflow.example.org:5000"),
        ("mlflow.example.org", "write http://mlflow.example.org"),
        ("//mlflow:5000", "write http://mlflow:5000"),
        ("http:/mlflow", "write http://HOST:PORT"),
        ("https://", "write https://HOST:PORT"),
        ("http://mlflow:port", "write http://HOST:PORT"),
        ("ftp:mlflow", "postgresql://"),
        ("mlflow.db", "write sqlite:////"),
        ("sqlite:mlflow.db", "write sqlite:////"),
    ],
)
def test_an_address_of_a_wrong_form_is_put_right(uri, words):
    with pytest.raises(UserError) as caught:
        check_uri(uri)
    assert words in str(caught.value) and "secret" not in str(caught.value)


@pytest.mark.parametrize(
    "uri", ["http://mlflow:5000", "https://u:p@h/x", "sqlite:///a.db", "databricks", "databricks://p", "./mlruns"]
)
def test_an_address_of_a_right_form_stays(uri):
    assert check_uri(uri) == uri


def test_an_unknown_scheme_is_refused_with_the_possible_forms(tmp_path):
    with pytest.raises(UserError, match=r"postgresql://USER@HOST/DATABASE"):
        Server.connect("htpp://mlflow:5000", tmp_path).create_run("e", "x", None, {})


@pytest.mark.parametrize("value", ["", "  "])
def test_a_variable_that_is_empty_is_unset(tmp_path, monkeypatch, value):
    for name in ("MLFLOW_TRACKING_URI", "MLFLOW_TRACKING_USERNAME", "MLFLOW_HTTP_REQUEST_TIMEOUT"):
        monkeypatch.setenv(name, value)
    assert setting("MLFLOW_TRACKING_URI") is None
    server = Server.connect(None, tmp_path)
    assert server.uri == f"sqlite:///{tmp_path}/mlflow.db"
    # Record and figures lie in one place.
    assert server._folder == tmp_path
    from mlflow.environment_variables import MLFLOW_HTTP_REQUEST_TIMEOUT, MLFLOW_TRACKING_USERNAME

    assert MLFLOW_HTTP_REQUEST_TIMEOUT.get() == 60 and MLFLOW_TRACKING_USERNAME.get() is None
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", value)
    assert not importlib.import_module("hardviews.tracking.server").in_a_pod()
    preload()
