"""Mistakes in the configuration of the AWS clients, with the variable or the file of their origin.

The clients find them before they send a request, so no server is at fault and a wait does not help.
"""

import os
import re
from types import TracebackType

from hardviews.failures import links

KEYS = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")

# Errors of botocore, by the names of their classes, caused by the network or a server.
_OUTSIDE = {
    *("HTTPClientError", "ConnectionError", "IncompleteReadError", "ChecksumError", "FlexibleChecksumError"),
    *("AwsChunkedWrapperError", "UnseekableStreamError", "CapacityNotAvailableError", "WaiterError"),
    *("CredentialRetrievalError", "MetadataRetrievalError", "TokenRetrievalError"),
}
# Errors of botocore for an address to which it sends no request.
_ADDRESS = {
    *("ParamValidationError", "InvalidHostLabelError", "InvalidDNSNameError", "UnsupportedS3ArnError"),
    *("UnsupportedOutpostResourceError", "UnsupportedS3AccesspointConfigurationError"),
}
_SECRET = {*KEYS, "AWS_SESSION_TOKEN", "AWS_SECURITY_TOKEN", "AWS_CONTAINER_AUTHORIZATION_TOKEN"}
_ENDPOINTS = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL")
_REGIONS = ("AWS_REGION", "AWS_DEFAULT_REGION")
_PROFILES = ("AWS_DEFAULT_PROFILE", "AWS_PROFILE")  # botocore looks in this order
_BUNDLES = ("AWS_CA_BUNDLE", "REQUESTS_CA_BUNDLE")
_PROXIES = ("HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy")


def settings() -> tuple[tuple[str, str], ...]:
    """Return all variables that the AWS clients read, sorted."""
    others = {*_BUNDLES, *_PROXIES, "NO_PROXY", "no_proxy"}
    return tuple(sorted(item for item in os.environ.items() if item[0].startswith("AWS_") or item[0] in others))


def mistake_in_keys() -> str | None:
    """Return why keys in the environment cannot be keys, with a remedy, or None.

    A line break at the end of a key comes from the file that it was copied from.
    """
    for name in (*KEYS, "AWS_SESSION_TOKEN"):
        if re.search(r"\s", os.environ.get(name, "")):
            return f"{name} has a blank or a line break in it. Set it without."
    return None


def mistake(error: BaseException) -> str | None:
    """Return the mistake in the configuration behind an error of the AWS clients, with a remedy, or None."""
    for link in links(error):
        found = _mistake(link)
        if found is not None:
            return found
    return None


def is_of_address(error: BaseException) -> bool:
    """Return whether an error means that the AWS clients could not use an address."""
    return any(type(link).__name__ in _ADDRESS for link in links(error))


def region_of_unknown_host() -> str:
    """Return a sentence about the region if the name of the host contains it, else nothing."""
    name = _first(_REGIONS)
    return (
        f" The name is made of the region: {name} is {os.environ[name]!r}." if name and not _first(_ENDPOINTS) else ""
    )


def proxy() -> str:
    """Return a sentence about the proxy of requests, if the environment names one."""
    name = _first(_PROXIES)
    return f" Requests go through the proxy that {name} names: check it too, or unset it." if name else ""


def _mistake(link: BaseException) -> str | None:
    names = {kind.__name__ for kind in type(link).__mro__}
    text = " ".join(str(link).split())[:300]
    modules = _modules(link.__traceback__)
    if isinstance(link, OSError):
        # This includes a missing program of `credential_process`, which another module starts.
        below = link.filename is not None and any(map(_is_client, modules))
        return _of_file(link, text) if below or (modules and _is_client(modules[-1])) else None
    if "BotoCoreError" not in names and not (modules and _is_client(modules[-1])):
        return None
    if (
        text.startswith("Invalid endpoint:")
        or "Custom endpoint" in text
        or "InvalidEndpointConfigurationError" in names
    ):
        return _of_endpoint(text)
    if "BotoCoreError" not in names:
        return _named(text) if isinstance(link, ValueError) and not isinstance(link, UnicodeError) else None
    if names & (_OUTSIDE | _ADDRESS):
        return None
    details = getattr(link, "kwargs", {})
    if "ProfileNotFound" in names:
        name = _first(_PROFILES) or "AWS_PROFILE"
        return (
            f"{name} is {details.get('profile')!r}, and neither {_config()} nor {_credentials()} has a profile of that "
            f"name. Correct it, or unset {name}."
        )
    if "ConfigParseError" in names:
        path = str(details.get("path"))
        named = {"AWS_CONFIG_FILE": _config(), "AWS_SHARED_CREDENTIALS_FILE": _credentials()}
        owner = next((name for name, file in named.items() if os.environ.get(name) and _expanded(file) == path), "")
        source = f", which {owner} names," if owner else ""
        return (
            f"The file {path}{source} cannot be read as a configuration of AWS clients. Correct the file{_or(owner)}."
        )
    if "InvalidRegionError" in names:
        region = details.get("region_name")
        name = next((name for name in _REGIONS if os.environ.get(name) == region), "")
        place = name or f"The region in {_config()}"
        return f"{place} is {region!r}, which is not the name of a region. Write a name such as us-east-1."
    if names & {"NoCredentialsError", "PartialCredentialsError"}:
        return _of_credentials(text, partial="PartialCredentialsError" in names)
    if names & {"SSOError", "LoginError"}:
        return f"There is no valid login for the AWS profile in use ({text.rstrip('.')}). Log in: aws sso login."
    return _named(text)


def _modules(trace: TracebackType | None) -> list[str]:
    """Return the names of the modules in an error's traceback; the last one raised it."""
    modules = []
    while trace is not None:
        modules.append(str(trace.tb_frame.f_globals.get("__name__", "")))
        trace = trace.tb_next
    return modules


def _is_client(module: str) -> bool:
    return module.split(".")[0] in ("botocore", "aiobotocore")


def _of_file(link: OSError, text: str) -> str | None:
    """Return the mistake in a file that the clients could not use; sockets have no such errors."""
    if "X509" in text or "PEM" in text or (link.filename is None and isinstance(link, _UNREADABLE)):
        name = _first(_BUNDLES)
        shown = f"{name} names {os.environ[name]!r}, which" if name else f"The ca_bundle in {_config()}"
        return (
            f"{shown} is not a file of certificates that can be read ({link.strerror or text}). Correct it{_or(name)}."
        )
    if link.filename is None or not isinstance(link, _UNREADABLE):
        return None
    path = str(link.filename)
    name = next((name for name, value in _set().items() if _expanded(value) == path), "")
    owner = f", which {name} names," if name else ""
    return f"The AWS clients cannot use the file {path}{owner} ({link.strerror}). Correct it{_or(name)}."


_UNREADABLE = (FileNotFoundError, IsADirectoryError, NotADirectoryError, PermissionError)


def _of_endpoint(text: str) -> str:
    name = _first(_ENDPOINTS)
    shown = f"{name} is {os.environ[name]!r}, which" if name else f"The endpoint_url in {_config()}"
    reason = "" if name else f" ({text})"
    return f"{shown} is not an address{reason}. Write http://HOST:PORT or https://HOST."


def _of_credentials(text: str, partial: bool) -> str:
    both = " and ".join(KEYS)
    if partial:
        return f"The credentials are not complete ({text}). Set {both} in the environment of this process."
    present, absent = ([key for key in KEYS if bool(os.environ.get(key)) is there] for there in (True, False))
    if present and absent:
        return f"No credentials were found: {absent[0]} is not set, although {present[0]} is. Set {both}."
    missing = [
        f"{name} names {os.environ[name]}, which is no file."
        for name in ("AWS_SHARED_CREDENTIALS_FILE", "AWS_CONFIG_FILE")
        if os.environ.get(name) and not os.path.isfile(_expanded(os.environ[name]))
    ]
    return " ".join(["No credentials were found.", *missing, f"Set {both} in the environment of this process."])


def _named(text: str) -> str:
    """Return the mistake that an error's text describes, with the variables whose values are in the text."""
    held = [name for name in os.environ if name.startswith("AWS_") and name in text]
    held += [name for name, value in _set().items() if re.search(rf"(?<!\w){re.escape(value)}(?!\w)", text)]
    source = " and ".join(held) or ", ".join([*_set(), _config(), _credentials()])
    return f"The configuration of the AWS clients is wrong: {text.rstrip('.')}. Correct it in {source}."


def _set() -> dict[str, str]:
    """Return the variables of the AWS clients that are set, without secrets."""
    return {
        name: value
        for name, value in sorted(os.environ.items())
        if name.startswith("AWS_") and name not in _SECRET and value
    }


def _first(names: tuple[str, ...]) -> str:
    """Return the first of some variables that is set, or nothing."""
    return next((name for name in names if os.environ.get(name)), "")


def _config() -> str:
    return os.environ.get("AWS_CONFIG_FILE") or "~/.aws/config"


def _credentials() -> str:
    return os.environ.get("AWS_SHARED_CREDENTIALS_FILE") or "~/.aws/credentials"


def _expanded(path: str) -> str:
    return os.path.expandvars(os.path.expanduser(path))


def _or(name: str) -> str:
    return f", or unset {name}" if name else ""
