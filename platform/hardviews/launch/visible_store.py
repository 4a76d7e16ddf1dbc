"""Whether the object store of a job's processes can be looked at from the machine that submits the job."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

_ENDPOINTS = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL")
_KEY = "AWS_ACCESS_KEY_ID"
_IDENTITIES = (_KEY, "AWS_PROFILE", "AWS_SHARED_CREDENTIALS_FILE", "AWS_WEB_IDENTITY_TOKEN_FILE")
_LOOPBACK = ("localhost", "127.0.0.1", "::1")


@dataclass(frozen=True)
class StoreOfJob:
    """What is known of the object store that a job's processes use.

    Attributes:
        variables: variables of their environment, as far as they are known.
        complete: whether all of them are known; keys in a Secret that we may not read are not.
    """

    variables: Mapping[str, str]
    complete: bool = True


def visible_store(job: StoreOfJob, here: Mapping[str, str] = os.environ) -> dict[str, str] | None:
    """Return the variables by which the job's store is reached from here, or None if that is not known.

    The credentials are always those of this environment. The store is the job's if both name one endpoint, if both
    have one access key (a forwarded port has an address of its own), or if nothing says where the job's is.
    """
    mine = {name: value for name, value in here.items() if name.startswith("AWS_")}
    if not any(mine.get(name) for name in _IDENTITIES) and not (Path.home() / ".aws" / "credentials").is_file():
        return None
    mine["AWS_EC2_METADATA_DISABLED"] = "true"
    ours, theirs = _endpoint(mine), _endpoint(job.variables)
    same_key = bool(mine.get(_KEY)) and mine.get(_KEY) == job.variables.get(_KEY)
    if theirs:
        if ours == theirs or (same_key and urlsplit(ours).hostname in _LOOPBACK):
            return mine
        return mine | {"AWS_ENDPOINT_URL": theirs} if not ours else None
    if not job.complete:
        return mine if ours else None
    # With credentials and no endpoint the job's store is Amazon's.
    return mine if not ours or same_key or not job.variables.get(_KEY) else None


def _endpoint(variables: Mapping[str, str]) -> str:
    return next((variables[name] for name in _ENDPOINTS if variables.get(name)), "").rstrip("/")
