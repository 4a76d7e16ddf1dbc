"""The part of the Kubernetes API that jobs need: plain JSON, short timeouts, failures in words."""

import json
import logging
import re
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, TypeVar

from kubernetes import client, config
from kubernetes.client.rest import ApiException
from kubernetes.config.config_exception import ConfigException
from urllib3.exceptions import HTTPError, HTTPWarning

from hardviews.errors import UserError

Found = TypeVar("Found")

JOBS = "/apis/batch.volcano.sh/v1alpha1"
QUEUES = "/apis/scheduling.volcano.sh/v1beta1/queues"
GROUPS = "/apis/scheduling.volcano.sh/v1beta1/namespaces"

_TIMEOUT = (5, 30)  # seconds to connect, and between two pieces of an answer
_BRIEF = (3, 6)  # the same for answers of a pod's node, which may be dead
_QUIET = 60  # seconds of silence until a stream is opened again: its node may be gone
_STATUS = {"message", "reason", "code", "status"}  # keys of an answer that does not name its kind
_LONGEST_ANSWER = 200  # most characters of an answer in another form
_HEADERS = {"Accept": "application/json", "Content-Type": "application/json"}


class Silent(UserError):
    """The API server does not answer."""


class NotKubernetes(UserError):
    """The address of the API server belongs to another server."""

    def __init__(self, host: str, answer: str) -> None:
        super().__init__(
            f"The server at {host} does not seem to be a Kubernetes API (it answered: {answer}). Give the address of "
            "your cluster's API server in the kubeconfig, or name another kubeconfig by KUBECONFIG; a proxy in between "
            "may have answered too."
        )


class ApiRefused(Exception):
    """The API answered with an error.

    Attributes:
        status: status of HTTP.
        message: message of the answer, in one line.
        kubernetes: whether the answer has the form of the Kubernetes API.
    """

    def __init__(self, error: ApiException) -> None:
        self.status = int(error.status or 0)
        try:
            answer = json.loads(error.body)
        except (TypeError, ValueError):
            answer = None
        self.kubernetes = isinstance(answer, dict) and (answer.get("kind") == "Status" or set(answer) <= _STATUS)
        message = (answer.get("message") if isinstance(answer, dict) else None) or error.body or error.reason
        if isinstance(message, bytes):
            message = message.decode(errors="replace")
        self.message = str(message).strip()
        if not self.kubernetes:
            text = " ".join(re.sub(r"<[^>]*>", " ", self.message).split())[:_LONGEST_ANSWER]
            self.message = f"{self.status} {error.reason or ''}".strip() + (f": {text}" if text else "")
        super().__init__(self.message)


def open_client(file: str | None = None, context: str | None = None) -> tuple[Any, str | None]:
    """Read the kubeconfig, or inside a pod the service account.

    Args:
        file: the kubeconfig; None for the one that KUBECONFIG names, else ~/.kube/config.
        context: of the kubeconfig; None for its current one.

    Returns:
        The client, and the namespace that the kubeconfig's context names, if it does.

    Raises:
        UserError: neither exists, or the kubeconfig cannot be read.
    """
    settings = client.Configuration()
    settings.retries = False
    namespace = None
    try:
        config.load_kube_config(config_file=file, context=context, client_configuration=settings)
        contexts, current = config.list_kube_config_contexts(config_file=file)
        used = current if context is None else next(entry for entry in contexts if entry["name"] == context)
        namespace = used["context"].get("namespace")
    except ConfigException as error:
        if file is not None or context is not None:
            raise UserError(
                f"The kubeconfig cannot be used: {str(error).rstrip('.')}. Correct --kubeconfig and --context; "
                "`kubectl config get-contexts` lists the contexts."
            ) from error
        try:
            config.load_incluster_config(client_configuration=settings)
        except ConfigException:
            raise UserError(
                f"No Kubernetes cluster is known here: {str(error).rstrip('.')}. Set KUBECONFIG to the file that your "
                "cluster gave you, or put that at ~/.kube/config; `kubectl get nodes` should answer."
            ) from error
    return client.ApiClient(settings), namespace


class Cluster:
    """Requests to one API server.

    Raises, from every method:
        UserError: no cluster is known, it does not answer (`Silent`), or it does not know us.
        ApiRefused: any other answer than success.
    """

    def __init__(self, api: Any = None, namespace: str | None = None, timeout: tuple[float, float] = _TIMEOUT) -> None:
        """Keep a client, or make one when it is needed.

        Args:
            api: the client of the kubernetes package.
            namespace: that its context names.
            timeout: seconds to connect, and between two pieces of an answer.
        """
        self._api = api
        self._namespace = namespace
        self._timeout = timeout

    def client(self) -> Any:
        """Return the client of the kubernetes package."""
        if self._api is None:
            self._api, self._namespace = open_client()
        return self._api

    def namespace(self) -> str | None:
        """Return the namespace that the kubeconfig's context names, if it does."""
        self.client()
        return self._namespace

    def get(self, path: str, **query: str) -> dict[str, Any]:
        """Read an object or a list."""
        return self._object("GET", path, query)

    def get_with_date(self, path: str) -> tuple[dict[str, Any], str | None]:
        """Read an object, and the time of the server as its answer's header has it."""
        answer, _, headers = self._call("GET", path, {}, headers=True)
        return self._checked(answer), headers.get("Date")

    def find(self, path: str) -> dict[str, Any] | None:
        """Read an object; return None if there is none."""
        try:
            return self.get(path)
        except ApiRefused as error:
            if error.status == 404:
                return None
            raise

    def create(self, path: str, body: Mapping[str, Any], **query: str) -> dict[str, Any]:
        """Create an object."""
        return self._object("POST", path, query, body)

    def foreign(self, error: ApiRefused) -> NotKubernetes:
        """Return the error for an answer that does not come from a Kubernetes API."""
        return NotKubernetes(str(self.client().configuration.host), error.message)

    def delete(self, path: str, **query: str) -> None:
        """Delete an object."""
        self._call("DELETE", path, query)

    def text(self, path: str, **query: str) -> bytes:
        """Read a text from a node, within seconds; this raises urllib3's HTTPError."""
        response = self._call("GET", path, query, preload=False, timeout=_BRIEF)
        try:
            return bytes(response.read())
        finally:
            response.close()

    @contextmanager
    def stream(self, path: str, **query: str) -> Iterator[Any]:
        """Open an endless answer and read it as it comes; reading raises urllib3's HTTPError."""
        response = self._call("GET", path, query, preload=False, timeout=(_TIMEOUT[0], _QUIET))
        try:
            yield response
        finally:
            response.close()

    def _object(
        self, method: str, path: str, query: Mapping[str, str], body: Mapping[str, Any] | None = None
    ) -> dict[str, Any]:
        return self._checked(self._call(method, path, query, body))

    def _checked(self, answer: Any) -> dict[str, Any]:
        """Return an answer that is an object; raises NotKubernetes if it is anything else."""
        if not isinstance(answer, Mapping):
            text = " ".join(re.sub(r"<[^>]*>", " ", str(answer)).split())[:_LONGEST_ANSWER]
            raise NotKubernetes(str(self.client().configuration.host), text or "nothing")
        return dict(answer)

    def _call(
        self,
        method: str,
        path: str,
        query: Mapping[str, str],
        body: Mapping[str, Any] | None = None,
        preload: bool = True,
        timeout: tuple[float, float] | None = None,
        headers: bool = False,
    ) -> Any:
        api = self.client()
        logging.getLogger("urllib3").setLevel(logging.ERROR)
        # A kubeconfig without a certificate is its author's decision.
        warnings.filterwarnings("ignore", category=HTTPWarning)
        # The kubernetes package reads the headers of an error by an old method.
        warnings.filterwarnings("ignore", message=r"HTTPResponse\.getheader")
        try:
            return api.call_api(
                path,
                method,
                query_params=list(query.items()),
                header_params=dict(_HEADERS),
                body=body,
                response_types_map=dict.fromkeys((200, 201, 202), "object"),
                auth_settings=["BearerToken"],
                _return_http_data_only=not headers,
                _preload_content=preload,
                _request_timeout=timeout or self._timeout,
            )
        except ApiException as error:
            if error.status == 401:
                raise UserError(
                    f"The cluster at {api.configuration.host} does not accept our credentials. Log in again, or get a "
                    "new kubeconfig; `kubectl auth whoami` should answer."
                ) from error
            raise ApiRefused(error) from error
        except (HTTPError, OSError) as error:
            raise Silent(
                f"The cluster at {api.configuration.host} does not answer ({reason(error)}). See that it runs and that "
                "this machine reaches it (VPN, proxy); KUBECONFIG chooses another."
            ) from error


def patiently(call: Callable[[], Found], seconds: float = 60.0, pause: float = 2.0) -> Found:
    """Call until the API server answers; raise the last failure after `seconds` of silence."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            return call()
        except Silent:
            if time.monotonic() >= deadline:
                raise
            time.sleep(pause)


def reason(error: BaseException) -> str:
    """Return the innermost cause of a failed request, without addresses of objects."""
    inner = getattr(error, "reason", None)
    if isinstance(inner, BaseException):
        return reason(inner)
    text = str(inner or error) or type(error).__name__
    return text.split(": ", 1)[-1] if "object at 0x" in text or "HTTPSConnection(" in text else text
