"""The answer of a store's server that caused an error."""

from dataclasses import dataclass

from hardviews.failures import links

# The right that each request of S3 needs.
RIGHTS = {
    "ListObjectsV2": "s3:ListBucket",
    "HeadBucket": "s3:ListBucket",
    "GetObject": "s3:GetObject",
    "HeadObject": "s3:GetObject",
    "PutObject": "s3:PutObject",
    "CreateMultipartUpload": "s3:PutObject",
    "UploadPart": "s3:PutObject",
    "CompleteMultipartUpload": "s3:PutObject",
    "AbortMultipartUpload": "s3:AbortMultipartUpload",
    "DeleteObject": "s3:DeleteObject",
}
_TIDYING = "AbortMultipartUpload"  # follows another failed request, whose answer is the reason


@dataclass(frozen=True)
class Answer:
    """A refusal by a server.

    Attributes:
        code: the server's name of the error; the status if the answer had no body.
        status: status of HTTP.
        request: operation of S3, for example PutObject; empty for other protocols.
        message: message of the server.
    """

    code: str | None = None
    status: int | None = None
    request: str = ""
    message: str = ""

    @property
    def known(self) -> bool:
        """Whether a server answered at all."""
        return self.code is not None or self.status is not None

    @property
    def throttled(self) -> bool:
        """Whether the server asks for fewer requests."""
        return self.code in THROTTLING or self.status == 429 or "reduce your request rate" in self.message.lower()

    def __str__(self) -> str:
        names = [str(part) for part in (self.status, self.code) if part]
        shown = " ".join(dict.fromkeys(names))
        return f"{shown}: {self.message}" if self.message else shown


THROTTLING = {
    *("SlowDown", "Throttling", "ThrottlingException", "TooManyRequests", "TooManyRequestsException"),
    *("RequestLimitExceeded", "BandwidthLimitExceeded"),
}


def answer_of(error: BaseException) -> Answer:
    """Return the answer that caused an error; an empty one if no server answered."""
    found = [answer for answer in map(_answer, links(error)) if answer is not None]
    others = [answer for answer in found if answer.request != _TIDYING]
    return (others or found or [Answer()])[0]


def _answer(link: BaseException) -> Answer | None:
    response = getattr(link, "response", None)
    if isinstance(response, dict):  # botocore's
        details = response.get("Error", {})
        status = response.get("ResponseMetadata", {}).get("HTTPStatusCode")
        message = " ".join(str(details.get("Message") or "").split())[:300]
        return Answer(details.get("Code"), status, getattr(link, "operation_name", ""), message)
    status = getattr(link, "status", None)  # aiohttp's
    if isinstance(status, int) and status >= 300:
        return Answer(None, status, "", str(getattr(link, "message", ""))[:300])
    return None
