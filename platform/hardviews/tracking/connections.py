"""Messages for a tracking server that cannot be reached: wrong address, TLS, proxy, network."""

import re
from urllib.parse import urlsplit

from hardviews.failures import Needs, Remedy, links
from hardviews.tracking.answers import status_of
from hardviews.tracking.scrub import brief
from hardviews.tracking.uri import FORMS

# Names of exceptions of any library for a failed connection.
_CONNECTION = {
    *("ConnectionError", "ConnectTimeout", "ReadTimeout", "Timeout", "ChunkedEncodingError", "ProxyError"),
    *("ProtocolError", "IncompleteRead", "RemoteDisconnected", "BadStatusLine", "TransportError"),
    *("ServiceRequestError", "ServiceResponseError", "ServiceRequestTimeoutError", "ServiceResponseTimeoutError"),
    *("RetryError", "ServiceUnavailable", "gaierror", "NewConnectionError", "MaxRetryError", "NameResolutionError"),
}
_TIMEOUT = {"Timeout", "ReadTimeout", "ConnectTimeout", "ReadTimeoutError", "ConnectTimeoutError", "TimeoutError"}
# The same for a wrong address or setting.
_ADDRESS = {
    "InvalidURL",
    "MissingSchema",
    "InvalidSchema",
    "InvalidUrlException",
    "InvalidHeader",
    "LocationParseError",
}
_CUT = {"RemoteDisconnected", "ConnectionResetError", "BrokenPipeError", "ConnectionAbortedError"}
_CAUSE = re.compile(r"\(Caused by (?:\w+Error\()*['\"]?(?:<[^>]*>: )?(.*?)['\")]*$")
# Part of a text, and the words for it: settings of TLS that contradict each other, or name no certificate.
_SETTINGS = {
    "server_cert_path' must not be set": "MLFLOW_TRACKING_INSECURE_TLS and MLFLOW_TRACKING_SERVER_CERT_PATH are both "
    "set: unset one of them",
    "suitable TLS CA certificate bundle": "the file in MLFLOW_TRACKING_SERVER_CERT_PATH (or REQUESTS_CA_BUNDLE) is not "
    "there: correct the path",
    "NO_CERTIFICATE_OR_CRL_FOUND": "the file in MLFLOW_TRACKING_SERVER_CERT_PATH (or REQUESTS_CA_BUNDLE) does not hold "
    "a certificate: give one in the form PEM",
    "find the TLS certificate file": "the file in MLFLOW_TRACKING_CLIENT_CERT_PATH is not there: correct the path",
    "connect timeout to": "MLFLOW_HTTP_REQUEST_TIMEOUT must be a number of seconds above 0",
}


def of_connection(error: BaseException, uri: str, text: str) -> Remedy | None:
    """Return the remedy for a failed connection, None if it did not fail.

    Args:
        error: any exception of MLflow's client.
        uri: address of the tracking store.
        text: texts of the error and its causes.
    """
    kinds = {type(link).__name__ for link in links(error)}
    words = next((words for part, words in _SETTINGS.items() if part in text), None) or _of_tls(kinds, text)
    if words:
        return Remedy(Needs.USER, words)
    if "SSLEOFError" in kinds or "UNEXPECTED_EOF" in text:  # a server that is starting ends a handshake too
        return Remedy(Needs.TIME, "it ended the connection as TLS began: if it does not speak TLS, write http://")
    if kinds & {"SSLError", "SSLCertVerificationError"}:
        return Remedy(Needs.USER, f"TLS with it fails ({_cause(error)})")
    if kinds & _ADDRESS:
        return Remedy(Needs.USER, f"its address is wrong ({brief(error)})")
    if "TooManyRedirects" in kinds:
        return Remedy(Needs.USER, "it redirects for ever: give the address that it has after the redirections")
    if "UnsupportedModelRegistryStoreURIException" in kinds:
        return Remedy(Needs.USER, f"MLflow does not know such addresses: write {FORMS}")
    if status_of(error) is not None:
        return None
    return _of_network(error, uri, text, kinds)


def _of_tls(kinds: set[str], text: str) -> str | None:
    if "certificate has expired" in text:
        return "its certificate has expired: renew it"
    if "CertificateError" in kinds or "Hostname mismatch" in text or "IP address mismatch" in text:
        return "its certificate is for another name: write the name in the certificate into the address"
    if "CERTIFICATE_VERIFY_FAILED" in text:
        return (
            "its certificate cannot be verified: set MLFLOW_TRACKING_SERVER_CERT_PATH to the file of its authority, or "
            "of the certificate itself if it is self-signed (MLFLOW_TRACKING_INSECURE_TLS=true turns the check off)"
        )
    if "WRONG_VERSION_NUMBER" in text or "RECORD_LAYER_FAILURE" in text or "[SSL: HTTP_REQUEST]" in text:
        return "it does not speak TLS: write http:// in its address"
    return None


def _of_network(error: BaseException, uri: str, text: str, kinds: set[str]) -> Remedy | None:
    plain = uri.lower().startswith("http:")
    if "ProxyError" in kinds:
        return Remedy(
            Needs.TIME,
            f"the proxy that HTTP_PROXY or HTTPS_PROXY names fails ({_cause(error)}): correct it, or add "
            f"{urlsplit(uri).hostname} to NO_PROXY",
        )
    if "NameResolutionError" in text or "Name or service not known" in text or "gaierror" in kinds:
        return Remedy(Needs.TIME, f"no machine has the name {urlsplit(uri).hostname}")
    if "Connection refused" in text:
        return Remedy(Needs.TIME, "connection refused")
    if "timed out" in text or kinds & _TIMEOUT:
        return Remedy(Needs.TIME, "no answer in time")
    if "BadStatusLine" in kinds or "BadStatusLine" in text:
        advice = "if it speaks TLS, write https:// in its address; otherwise correct the port"
        return Remedy(Needs.TIME, f"its answer is not HTTP: {advice if plain else 'correct the port'}")
    if plain and (kinds & _CUT or "RemoteDisconnected" in text):
        cause = "connection reset" if "reset" in text else "the connection was cut"
        return Remedy(Needs.TIME, f"{cause} without an answer: if it speaks TLS, write https:// in its address")
    if kinds & _CONNECTION or any(isinstance(link, ConnectionError) for link in links(error)):
        return Remedy(Needs.TIME, _cause(error))
    return None


def _cause(error: BaseException) -> str:
    """Return the system's own text for a failure, else the innermost text of the clients."""
    for link in links(error):
        if isinstance(link, OSError) and link.errno and link.strerror and not type(link).__module__.startswith("ssl"):
            return link.strerror[:1].lower() + link.strerror[1:]
    words = brief(error, longest=2000)
    match = _CAUSE.search(words)
    return brief(ValueError(match[1] if match else words))
