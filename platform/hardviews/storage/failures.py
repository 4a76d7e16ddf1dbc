"""Classification of a store's failures: those that pass by themselves, and remedies for the others."""

import os
import socket

from hardviews.errors import UserError
from hardviews.failures import Needs, links
from hardviews.storage import aws
from hardviews.storage.answer import RIGHTS, Answer, answer_of
from hardviews.storage.filesystem import endpoint
from hardviews.storage.url import protocol_of


class Unreachable(UserError):
    """A store did not return or accept a file within the time of waiting."""


class Refused(UserError):
    """A store will never return or accept a file; more attempts are useless."""

    needs = Needs.USER


class Misconfigured(Refused):
    """The configuration of the clients on this machine is wrong: nothing was requested."""


class Denied(Refused):
    """A right is missing. S3 gives the same answer to a read of a missing file without s3:ListBucket."""


class Unsupported(Refused):
    """The server lacks a request that is needed."""

    needs = Needs.SOFTWARE


class NoBucket(UserError):
    """The bucket of an address does not exist."""


class DiskFailure(UserError):
    """A disk of this machine could not read or write a file."""


CONDITIONAL = (
    "Conditional writes (If-None-Match) are needed: by them only one of two processes makes a file, and they do not "
    "overwrite each other's data. Use a server that has them; docs/s3.md says which requests are needed."
)

# Answers that may pass with the next attempt, although they are not server errors.
_PASSING = {"RequestTimeout", "OperationAborted", "NoSuchUpload", "InternalError", "ServiceUnavailable"}
_PASSING_STATUS = {408, 409, 425, 429}
# Damage on the way, or a server that never accepts it: several attempts show which.
_DOUBTFUL = {"BadDigest", "IncompleteBody", "ResponseParserError"}
_DOUBTFUL_TRIES = 3
# A server that does not know a request, a header or a checksum.
_LACKS = {
    *("NotImplemented", "MethodNotAllowed", "MissingContentLength", "XAmzContentSHA256Mismatch", "InvalidDigest"),
    *("MissingDigest", "UnsupportedArgument", "UnsupportedOperation", "InvalidArgument", "InvalidRequest"),
}
_LACKS_STATUS = {405, 411, 501, 505, 506, 510}
_FULL = {
    *("XMinioStorageFull", "XMinioAdminBucketQuotaExceeded", "QuotaExceeded", "InsufficientStorage"),
    *("InsufficientCapacity", "StorageFull", "ServerStorageFull", "EntityTooLargeForQuota"),
}
_WRITES = {"PutObject", "CreateMultipartUpload", "UploadPart", "CompleteMultipartUpload"}
_READS = {"", "GetObject", "HeadObject", "ListObjectsV2", "HeadBucket"}

_KEYS = " and ".join(aws.KEYS)
_WHEN = "AWS_REQUEST_CHECKSUM_CALCULATION=when_required and AWS_RESPONSE_CHECKSUM_VALIDATION=when_required"
_CREDENTIALS = {"CredentialRetrievalError", "MetadataRetrievalError", "TokenRetrievalError"}
_PAYER = "FSSPEC_S3_REQUESTER_PAYS"


def verdict(error: Exception, url: str, name: str, tries: int = 1) -> UserError | None:
    """Return the error for a failure that another attempt cannot solve, or None for one that may pass.

    `name` is the requested file in the folder at `url`; `tries` is the number of failed attempts so far.
    """
    if isinstance(error, UserError):
        return error
    answer = answer_of(error)
    code, status = answer.code, answer.status
    kinds = {type(link).__name__ for link in links(error)}
    text = _text(error)
    s3, bucket = protocol_of(url) == "s3", url.split("://", 1)[-1].split("/", 1)[0]
    if code == "NoSuchBucket" or (code == "404" and answer.request in ("ListObjectsV2", "HeadBucket")):
        return NoBucket(
            f"There is no bucket {bucket!r} at {endpoint()}. Create it, for example with: aws s3 mb s3://{bucket} "
            f"- or correct the address {url}."
        )
    misconfigured = aws.mistake(error) if s3 and not answer.known else None
    if misconfigured:
        return Misconfigured(f"{url} cannot be reached. {misconfigured}")
    if code == "InvalidAccessKeyId":
        return Refused(
            f"{endpoint()} does not know the access key that this process has. Correct {_KEYS}; they must be those of "
            f"the server that holds {url}."
        )
    if code == "SignatureDoesNotMatch":
        return Refused(
            f"{endpoint()} refused the signature of a request for {name}: the secret key does not belong to the "
            f"access key. Correct {_KEYS}."
        )
    if code in ("ExpiredToken", "ExpiredTokenException", "TokenRefreshRequired", "RequestExpired"):
        return Refused(f"The session token for {url} has expired. Renew AWS_SESSION_TOKEN and start again.")
    if code in ("InvalidToken", "InvalidClientTokenId"):
        return Refused(f"{endpoint()} does not accept the session token. Correct AWS_SESSION_TOKEN, or unset it.")
    if code == "RequestTimeTooSkewed":
        return Refused(f"{endpoint()} refused a request because this machine's clock is wrong. Set the clock.")
    if code in ("AuthorizationHeaderMalformed", "PermanentRedirect", "301") or status == 301:
        return Refused(f"The bucket {bucket!r} is in another region than this process asks in. Set AWS_REGION to its.")
    if code == "InvalidObjectState":
        return Refused(f"{name} lies in an archive of {endpoint()}. Restore it there, and start again.")
    if code in _FULL or status == 507:
        return Refused(f"{endpoint()} has no room for {name} ({answer}). Free some there, or have its quota raised.")
    if status in (401, 403) or (isinstance(error, PermissionError) and not answer.known and not s3):
        return Denied(_denied(answer, error, url, name, bucket))
    if "CERTIFICATE_VERIFY_FAILED" in text or "WRONG_VERSION_NUMBER" in text:
        return Refused(
            f"{endpoint()} cannot be talked to over TLS ({_short(error)}). Give an endpoint that begins with http:// "
            "if the server has no TLS; name the authority that signed its certificate with AWS_CA_BUNDLE."
        )
    if s3 and (isinstance(error, ValueError) or aws.is_of_address(error)) and "ResponseParserError" not in kinds:
        return Refused(f"{url} is not an address of a file store ({_short(error)}). Write s3://bucket/folder.")
    package = next((link.name or str(link) for link in links(error) if isinstance(link, ImportError)), None)
    if package:
        return Unsupported(f"{url} needs the Python package {package}, which is missing here: pip install {package}.")
    if answer.throttled or code in _PASSING:
        return None
    if lacks(answer):
        return Unsupported(_lacking(answer, url, name))
    if isinstance(error, FileNotFoundError | FileExistsError | IsADirectoryError):
        return None
    if code in _DOUBTFUL or kinds & _DOUBTFUL:
        return None if tries < _DOUBTFUL_TRIES else Refused(_misunderstood(answer, error, url, name))
    if status is None or status in _PASSING_STATUS or status >= 500:
        return None
    request = f" {answer.request}" if answer.request else ""
    return Refused(f"{endpoint() if s3 else url} refused a request{request} for {name}: {_short(error)}")


def lacks(answer: Answer) -> bool:
    """Return whether a server does not know the request, or something in it."""
    if answer.code in _LACKS or answer.status in _LACKS_STATUS:
        return True
    # A written file cannot be missing: a server with this answer is not a file server.
    return answer.request in _WRITES and answer.status == 404


def in_words(error: Exception, url: str) -> str:
    """Return a description of a passing failure, in a few words."""
    kinds = {type(link).__name__ for link in links(error)}
    place = endpoint() if protocol_of(url) == "s3" else url
    if kinds & _CREDENTIALS:
        return f"no credentials could be retrieved ({_short(error)})"
    if kinds & {"gaierror", "ClientConnectorDNSError"}:
        return f"the name of the host of {place} cannot be resolved"
    if "ConnectionRefusedError" in kinds or "ECONNREFUSED" in str(error) or "Connect call failed" in _text(error):
        return f"nothing listens at {place}"
    if kinds & {"ConnectTimeoutError", "ConnectionTimeoutError"}:
        return f"{place} does not answer"
    if kinds & {"EndpointConnectionError", "ClientConnectorError"}:
        return f"{place} cannot be connected to"
    if kinds & {"ReadTimeoutError", "SocketTimeoutError", "TimeoutError", "FSTimeoutError"}:
        return f"{place} stopped answering in the midst of a request"
    answer = answer_of(error)
    if answer.throttled:
        return f"{place} throttles: it asks for fewer requests ({answer})"
    return f"{place} answered {answer}" if answer.known else _short(error)


def advice(error: Exception, url: str) -> str:
    """Return a remedy for a failure that did not pass within the time of waiting."""
    answer = answer_of(error)
    if answer.throttled:
        return (
            "The server is there, and has too much to do: have fewer processes use it at once, or raise its limits. "
            "To wait longer, set HARDVIEWS_PATIENCE to a number of seconds."
        )
    if answer.known:
        return (
            "The server is there, and fails: look at its log. To wait longer, set HARDVIEWS_PATIENCE to a number of "
            "seconds."
        )
    if any(type(link).__name__ in _CREDENTIALS for link in links(error)):
        return f"Check the source of the credentials, or set {_KEYS}."
    region = aws.region_of_unknown_host() if is_unknown_host(error) else ""
    hints = region + aws.proxy() if protocol_of(url) == "s3" else ""
    return f"Check that the address is right and that the server runs.{hints}"


def is_unknown_host(error: BaseException) -> bool:
    """Return whether the name server answered that there is no such name; false if it did not answer."""
    numbers = {socket.EAI_NONAME, getattr(socket, "EAI_NODATA", socket.EAI_NONAME)}
    found: list[object] = []
    for link in links(error):
        found += [link, getattr(link, "os_error", None)]  # aiohttp's
    return any(isinstance(each, socket.gaierror) and each.errno in numbers for each in found)


def is_taken(error: BaseException) -> bool:
    """Return whether a new file exists already; s3fs recognises only AWS's wording of this error."""
    return isinstance(error, FileExistsError) or answer_of(error).code in ("PreconditionFailed", "412")


def _denied(answer: Answer, error: Exception, url: str, name: str, bucket: str) -> str:
    if protocol_of(url) != "s3":
        return (
            f"Access to {name} was denied ({_short(error)}). Check that the credentials that this process has may "
            "read, and for what is written also write and delete there."
        )
    right = RIGHTS.get(answer.request)
    lines = [f"Access to {name} was denied ({answer})."]
    if right == "s3:ListBucket":
        lines += [
            f"The request was to list files, which needs the right {right} on arn:aws:s3:::{bucket}. Reading a packed "
            "dataset needs no list; the output of a run and packing do."
        ]
    elif right:
        lines += [f"The request was {answer.request}, which needs the right {right} on arn:aws:s3:::{bucket}/*."]
    if right == "s3:GetObject":
        lines += ["Without s3:ListBucket, S3 answers the same if there is no such file: check the address too."]
    lines += [f"The credentials are those of {_KEYS}, or of whatever else the AWS clients find."]
    if answer.request in _READS and os.environ.get(_PAYER, "").lower() not in ("true", "1"):
        lines += [f"If the reader pays for this bucket (requester pays), set {_PAYER}=true."]
    return " ".join([*lines, "docs/s3.md lists the rights that are needed."])


def _lacking(answer: Answer, url: str, name: str) -> str:
    place = endpoint() if protocol_of(url) == "s3" else url
    words = f"{place} does not support a request that is needed: {answer.request or 'the one'} for {name} "
    words += f"is not implemented there, or something in it ({answer})."
    if answer.request in _WRITES and answer.status not in (404, 405):
        if os.environ.get("AWS_REQUEST_CHECKSUM_CALCULATION", "").lower() == "when_required":
            return f"{words} Checksums are off already; docs/s3.md lists the requests that a server has to support."
        return f"{words} Most such servers lack only the checksums that AWS clients send. Set {_WHEN}, and start again."
    if answer.request == "GetObject" and answer.status in (400, 501):
        return f"{words} If the server lacks checksums, set {_WHEN}, and start again."
    return (
        f"{words} Check that the address is that of an S3 interface, and not of a web page or a console; docs/s3.md "
        "lists the requests that a server has to support."
    )


def _misunderstood(answer: Answer, error: Exception, url: str, name: str) -> str:
    if answer.code in _DOUBTFUL:
        return (
            f"{endpoint()} says again and again that {name} arrived damaged ({answer}). If it does not know the "
            f"checksums that AWS clients send, set {_WHEN}; else look for the damage on the way there."
        )
    return (
        f"{endpoint()} answers for {name} with something that is not S3 ({_short(error)}). Check that the address is "
        "that of an S3 interface, and not of a web page or a console."
    )


def _text(error: BaseException) -> str:
    return " ".join(str(link) for link in links(error))


def _short(error: BaseException) -> str:
    return " ".join((str(error) or type(error).__name__).split())[:300]
