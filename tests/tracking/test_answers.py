"""Answers that are not MLflow's usual ones, over real connections: each is a sentence with a remedy, and in time."""

import datetime
import ssl

import pytest

from hardviews.errors import UserError
from hardviews.tracking import server as server_module
from hardviews.tracking.failures import diagnose, is_refused
from hardviews.tracking.mlflow_import import preload
from hardviews.tracking.scrub import brief
from hardviews.tracking.server import Server
from tests.tracking.servers import answering, replying

HTML = b"<html><h1>Something of a proxy</h1></html>"
RAW = ("HTTPConnectionPool", "HTTPSConnectionPool", "Max retries", "Caused by", "API request", "<h")


@pytest.fixture(autouse=True)
def little_patience(monkeypatch):
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy", "KUBERNETES_SERVICE_HOST"):
        monkeypatch.delenv(name, raising=False)
    for name in ("MLFLOW_TRACKING_INSECURE_TLS", "MLFLOW_TRACKING_SERVER_CERT_PATH"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NO_PROXY", "*")
    monkeypatch.setattr(server_module, "_PATIENCE", 5.0)
    monkeypatch.setattr(server_module, "_PAUSE", 10.0)  # so one attempt is all


def refusal(uri, folder):
    """Return the words of a start that the store at an address refuses."""
    with pytest.raises(UserError) as caught:
        Server.connect(uri, folder).create_run("e", "x", None, {})
    message = str(caught.value)
    assert not any(part in message for part in RAW) and message.count("(") == message.count(")"), message
    assert message.startswith(f"The tracking store {uri} cannot be used: ")
    return message


@pytest.mark.parametrize(
    ("status", "body", "headers", "words"),
    [
        (500, b"oops", {}, "it answers with error 500: look at the server's log"),
        (500, b'{"error_code": "INTERNAL_ERROR", "message": "boom"}', {}, "it answers with error 500"),
        (502, HTML, {}, "error 502 (bad gateway): a proxy does not reach MLflow"),
        (503, b"", {"Retry-After": "3600"}, "error 503 (unavailable)"),
        (504, HTML, {}, "error 504 (no answer from behind the gateway)"),
        (429, b"", {"Retry-After": "3600"}, "too many requests (error 429)"),
        (404, HTML, {}, "no MLflow at this address (error 404): correct host, port and path"),
        (404, b"", {}, "no MLflow at this address"),
        (404, b'{"detail": "Not Found"}', {}, "no MLflow at this address"),
        (404, b'{"error_code": "ENDPOINT_NOT_FOUND", "message": "no"}', {}, "lacks a function"),
        (405, HTML, {}, "give the address after the redirection"),
        (302, b"", {"Location": "/login"}, "perhaps the login of a proxy"),
        (301, b"", {"Location": "/"}, "redirects for ever"),
        (413, HTML, {}, "client_max_body_size"),
        (400, b"<html>The plain HTTP request was sent to HTTPS port</html>", {}, "write https://"),
        (418, HTML, {}, "refuses a request with error 418: look at the log"),
        (418, b"no tea", {}, "refuses a request with error 418 (no tea): look at the log"),
        (204, b"", {}, "status 204, which is not MLflow's"),
        (200, b"", {}, "not MLflow's"),
        (200, b'{"ok": true}', {}, "not MLflow's"),
        (200, b'{"experiment": 5}', {}, "not MLflow's"),
        (200, b"[]", {}, "not MLflow's"),
        (200, HTML, {}, "not MLflow's"),
    ],
)
def test_an_answer_is_a_sentence_with_a_remedy(status, body, headers, words, tmp_path):
    with answering(status, body, headers) as uri:
        assert words in refusal(uri, tmp_path)


def test_a_redirection_that_is_not_followed_names_its_status(tmp_path, monkeypatch):
    monkeypatch.setenv("MLFLOW_ALLOW_HTTP_REDIRECTS", "false")
    with answering(302, b"", {"Location": "/login"}) as uri:
        assert "redirects to another address (status 302)" in refusal(uri, tmp_path)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "without an answer: if it speaks TLS, write https://"),
        (bytes([0x15, 3, 1, 0, 2, 2, 70]), "its answer is not HTTP"),
        (b"SSH-2.0-OpenSSH_9.0\r\n", "correct the port"),
    ],
)
def test_what_is_not_a_web_server_is_not_raw_text(data, words, tmp_path):
    with replying(data) as uri:
        assert words in refusal(uri, tmp_path)


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    """The file of a certificate for `localhost`, signed by itself, and the context of a server that has it."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .sign(key, hashes.SHA256())
    )
    folder = tmp_path_factory.mktemp("tls")
    (folder / "cert.pem").write_bytes(made.public_bytes(serialization.Encoding.PEM))
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    (folder / "key.pem").write_bytes(private)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "cert.pem", folder / "key.pem")
    return folder / "cert.pem", context


def test_tls_that_fails_names_the_setting(certificate, tmp_path, monkeypatch):
    file, context = certificate
    with answering(404, b"", tls=context) as uri:
        words = refusal(uri, tmp_path)
        assert "MLFLOW_TRACKING_SERVER_CERT_PATH" in words and "MLFLOW_TRACKING_INSECURE_TLS=true" in words
        monkeypatch.setenv("MLFLOW_TRACKING_SERVER_CERT_PATH", str(file))
        assert "no MLflow at this address" in refusal(uri, tmp_path)
        assert "for another name" in refusal(uri.replace("localhost", "127.0.0.1"), tmp_path)
        assert "write https://" in refusal(uri.replace("https:", "http:"), tmp_path)
        monkeypatch.setenv("MLFLOW_TRACKING_INSECURE_TLS", "true")
        assert "are both set: unset one" in refusal(uri, tmp_path)
        monkeypatch.delenv("MLFLOW_TRACKING_INSECURE_TLS")
        monkeypatch.setenv("MLFLOW_TRACKING_SERVER_CERT_PATH", str(tmp_path / "none.pem"))
        assert "is not there: correct the path" in refusal(uri, tmp_path)
        monkeypatch.setenv("MLFLOW_TRACKING_SERVER_CERT_PATH", __file__)
        assert "does not hold a certificate" in refusal(uri, tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_SERVER_CERT_PATH")
    with answering(404) as uri:
        assert "write http://" in refusal(uri.replace("http:", "https:"), tmp_path)


def test_a_proxy_that_fails_is_named(tmp_path, monkeypatch):
    monkeypatch.delenv("NO_PROXY")
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    words = refusal("http://mlflow.invalid", tmp_path)
    assert "the proxy that HTTP_PROXY" in words and "connection refused" in words and "to NO_PROXY" in words


@pytest.mark.parametrize("value", ["7", "50", "many"])
def test_mlflows_own_retries_do_not_prolong_a_start(value, tmp_path, monkeypatch):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", value)
    with answering(503) as uri:
        assert "error 503" in refusal(uri, tmp_path)


def test_a_timeout_that_is_none_is_named(tmp_path, monkeypatch):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "0")
    with answering(503) as uri:
        assert "MLFLOW_HTTP_REQUEST_TIMEOUT must be a number of seconds above 0" in refusal(uri, tmp_path)


@pytest.mark.parametrize("form", ["file://{}", "{}"])
def test_a_folder_of_files_names_the_database_and_the_move(form, tmp_path):
    folder = tmp_path / "mlruns"
    words = refusal(form.format(folder), tmp_path)
    assert f"export MLFLOW_TRACKING_URI=sqlite:///{tmp_path}/mlflow.db" in words and "migrate" not in words
    folder.mkdir()
    words = refusal(form.format(folder), tmp_path)
    assert f"mlflow migrate-filestore --source {folder} --target sqlite:///{tmp_path}/mlflow.db" in words
    assert "Start it" not in words and "maintenance" not in words


def test_the_command_that_moves_runs_is_mlflows():
    from mlflow.store.fs2db.cli import migrate_filestore

    assert migrate_filestore.name == "migrate-filestore"
    assert {"--source", "--target"} <= {name for option in migrate_filestore.params for name in option.opts}


@pytest.mark.parametrize(("uri", "words"), [("databricks", "databricks configure"), ("uc:x", "write databricks")])
def test_stores_of_databricks_are_sentences_at_once(uri, words, tmp_path, monkeypatch):
    monkeypatch.setattr(server_module, "_PATIENCE", 600.0)  # nobody waits so long
    assert words in refusal(uri, tmp_path)


def test_a_page_of_a_proxy_refuses_no_record():
    preload()
    from mlflow.exceptions import MlflowException

    page = MlflowException("API request to endpoint /x failed with error code 400 != 200. Response body: '<html>x'")
    assert not is_refused(page) and "error 400" in diagnose(page, "http://x").words
    plain = MlflowException("API request to endpoint /x failed with error code 400 != 200. Response body: 'too long'")
    assert is_refused(plain)


def test_text_that_is_cut_ends_with_a_whole_word():
    text = "word " * 100
    assert brief(ValueError(text), 23) == "word word word word..."
    assert brief(ValueError("short")) == "short" and len(brief(ValueError("x" * 1000))) == 300
