"""Removes secrets from logged texts."""

import re

from hardviews.tracking.text import encodable

# user:password@ or token@ in a URI, up to the last @ before the path.
_CREDENTIALS = re.compile(r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]{0,30}://)[^/\s]+@")
# Query parameters of signed URLs.
_SIGNED = re.compile(r"(?i)([?&](?:x-amz-[a-z-]*|sig|signature|token|awsaccesskeyid|password)=)[^&\s]+")
# A key id of AWS, in any place.
_KEY_ID = re.compile(r"\b(?:AKIA|ASIA)[A-Z0-9]{16}\b")
_SECRET_NAME = re.compile(
    r"(?i)(^|[._-])(aws_.*|.*(secret|password|passwd|credential|access_?key|api_?key).*|.*token)$"
)
# MLflow's own words before the message of the library that failed.
_PREFIX = re.compile(r"^API request to (?:endpoint )?\S+ failed with (?:timeout )?exception ")
HIDDEN = "***"


def scrub(text: str) -> str:
    """Return the text with passwords, signatures and key ids in it replaced by `***`, as text of UTF-8."""
    text = encodable(text)
    text = _CREDENTIALS.sub(rf"\g<scheme>{HIDDEN}@", text)
    text = _SIGNED.sub(rf"\g<1>{HIDDEN}", text)
    return _KEY_ID.sub(HIDDEN, text)


def scrub_item(key: str, value: str) -> str:
    """Return the value to log under `key`: hidden completely if the name is a secret's."""
    return HIDDEN if _SECRET_NAME.search(key) else scrub(value)


def brief(error: BaseException, longest: int = 300) -> str:
    """Return the first line of an error without secrets, cut between two words if it is longer."""
    line = (str(error).strip().splitlines() or [type(error).__name__])[0]
    line = scrub(_PREFIX.sub("", line))
    if len(line) <= longest:
        return line
    cut = line[: longest - 3]
    return f"{cut.rpartition(' ')[0] or cut}..."
