"""What a store's failures mean: which may pass by themselves, and what a user should do about the others."""

from collections.abc import Iterator

from hardviews.errors import UserError
from hardviews.storage.address import protocol_of
from hardviews.storage.filesystem import endpoint


class Unreachable(UserError, OSError):
    """A store did not give, or take, a file, for as long as was waited for it."""


class Refused(UserError, PermissionError):
    """A store will not give, or take, a file, however often it is asked."""


class NoBucket(UserError, FileNotFoundError):
    """The bucket of an address does not exist."""


# Answers that the next try may not get, although they are no server errors.
_PASSING = {"RequestTimeout", "SlowDown", "OperationAborted", "Throttling", "ThrottlingException", "TooManyRequests"}
_PASSING_STATUS = {408, 409, 425, 429}

_KEYS = "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"


def verdict(error: Exception, url: str, name: str) -> UserError | None:
    """What to tell the user of a failure that trying again cannot heal, or None for one that may pass.

    `name` is the file that was asked for in the folder at `url`.
    """
    if isinstance(error, UserError):
        return error
    code, status = _answer(error)
    kinds = {type(link).__name__ for link in _links(error)}
    text = " ".join(str(link) for link in _links(error))
    s3, bucket = protocol_of(url) == "s3", url.split("://", 1)[-1].split("/", 1)[0]
    if code == "NoSuchBucket":
        return NoBucket(
            f"There is no bucket {bucket!r} at {endpoint()}. Create it, for example with: aws s3 mb s3://{bucket} "
            f"- or correct the address {url}."
        )
    if kinds & {"NoCredentialsError", "PartialCredentialsError"}:
        return Refused(f"No credentials for {url} were found. Set {_KEYS} in the environment of this process.")
    if code == "InvalidAccessKeyId":
        return Refused(
            f"{endpoint()} does not know the access key that this process has. Correct {_KEYS}; they must be those of "
            f"the server that holds {url}."
        )
    if code == "SignatureDoesNotMatch":
        return Refused(
            f"{endpoint()} refused the signature of a request for {name}: the secret key is not that of the access "
            f"key. Correct {_KEYS}."
        )
    if code in ("ExpiredToken", "TokenRefreshRequired"):
        return Refused(f"The session token for {url} has expired. Renew AWS_SESSION_TOKEN and start again.")
    if code == "RequestTimeTooSkewed":
        return Refused(f"{endpoint()} refused a request because this machine's clock is wrong. Set the clock.")
    if code in ("AuthorizationHeaderMalformed", "PermanentRedirect", "301") or status == 301:
        return Refused(f"The bucket {bucket!r} is in another region than this process asks in. Set AWS_REGION to its.")
    if isinstance(error, PermissionError) or status in (401, 403):
        keys = f" The credentials are those of {_KEYS}, or of whatever else the AWS clients find." if s3 else ""
        return Refused(
            f"Access to {name} was denied ({_short(error)}). Check that the credentials that this process has may "
            f"read, and for what is written also write and delete there.{keys}"
        )
    if "CERTIFICATE_VERIFY_FAILED" in text or "WRONG_VERSION_NUMBER" in text:
        return Refused(
            f"{endpoint()} cannot be talked to over TLS ({_short(error)}). Give an endpoint that begins with http:// "
            "where the server has no TLS; name the authority that signed its certificate with AWS_CA_BUNDLE."
        )
    if s3 and "Invalid endpoint" in text:
        return Refused(
            f"AWS_ENDPOINT_URL is {endpoint()!r}, which is no address. Write http://HOST:PORT or https://HOST."
        )
    if s3 and (isinstance(error, ValueError) or "ParamValidationError" in kinds):
        return Refused(f"{url} is not an address of a file store ({_short(error)}). Write s3://bucket/folder.")
    if isinstance(error, FileNotFoundError | FileExistsError | IsADirectoryError) or code in _PASSING:
        return None
    if status is None or status in _PASSING_STATUS or status >= 500:
        return None
    return Refused(f"{endpoint() if s3 else url} refused a request for {name}: {_short(error)}")


def in_words(error: Exception, url: str) -> str:
    """What a passing failure was, in a few words."""
    kinds = {type(link).__name__ for link in _links(error)}
    place = endpoint() if protocol_of(url) == "s3" else url
    if kinds & {"gaierror", "ClientConnectorDNSError"}:
        return f"the name of the host of {place} cannot be resolved"
    if "ConnectionRefusedError" in kinds or "ECONNREFUSED" in str(error) or "Connect call failed" in _text(error):
        return f"nothing listens at {place}"
    if kinds & {"ConnectTimeoutError", "ConnectionTimeoutError"}:
        return f"{place} does not answer"
    if kinds & {"EndpointConnectionError", "ClientConnectorError"}:
        return f"{place} cannot be connected to"
    if kinds & {"ReadTimeoutError", "SocketTimeoutError", "TimeoutError"}:
        return f"{place} stopped answering in the midst of a request"
    return _short(error)


def is_taken(error: BaseException) -> bool:
    """Whether a file that was to be new exists already. s3fs knows this from AWS's wording alone."""
    return isinstance(error, FileExistsError) or _answer(error)[0] in ("PreconditionFailed", "412")


def _links(error: BaseException) -> Iterator[BaseException]:
    """An error and those that it was made from: clients wrap the one that tells most."""
    seen: set[int] = set()
    waiting: list[BaseException | None] = [error]
    while waiting:
        link = waiting.pop()
        if link is None or id(link) in seen:
            continue
        seen.add(id(link))
        yield link
        # botocore's errors hold the client's as an argument of their message.
        inner = getattr(link, "kwargs", {})
        held = inner.get("error") if isinstance(inner, dict) else None
        waiting += [link.__cause__, link.__context__, held if isinstance(held, BaseException) else None]


def _answer(error: BaseException) -> tuple[str | None, int | None]:
    """Code and HTTP status of a server's answer, where there was one."""
    for link in _links(error):
        response = getattr(link, "response", None)
        if isinstance(response, dict):
            return response.get("Error", {}).get("Code"), response.get("ResponseMetadata", {}).get("HTTPStatusCode")
        status = getattr(link, "status", None)  # aiohttp's
        if isinstance(status, int):
            return None, status
    return None, None


def _text(error: BaseException) -> str:
    return " ".join(str(link) for link in _links(error))


def _short(error: BaseException) -> str:
    return " ".join((str(error) or type(error).__name__).split())[:300]
