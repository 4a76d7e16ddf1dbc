"""This process's fsspec file systems: made on first use, and never carried across a fork."""

import os
import threading
from typing import Any

from hardviews.errors import UserError
from hardviews.storage import aws

# How long a connection may take, and how long one may be silent: the clients' own defaults notice a stalled server
# after a minute. Tries are counted and waited for in one place, `Patience`: fifteen tries inside each of ours would
# take longer than anyone asked for.
# Over HTTPS the client sends a checksum of what it uploads, and no signature of it; so it is to do over HTTP, where
# signing took a quarter of the time that a core spends on a checkpoint.
_CONFIG = {
    "connect_timeout": 5,
    "read_timeout": 20,
    "retries": {"mode": "standard", "total_max_attempts": 1},
    "s3": {"payload_signing_enabled": False},
}

_systems: dict[tuple[Any, ...], Any] = {}
_lock = threading.Lock()
# What a parent process made. It is kept, since being collected it would close connections that are the parent's.
_inherited: list[Any] = []


def _after_fork() -> None:
    global _lock
    _inherited.append(dict(_systems))
    _systems.clear()
    _lock = threading.Lock()


os.register_at_fork(after_in_child=_after_fork)


def file_system(protocol: str) -> Any:
    """Return the fsspec file system of a protocol, for S3 with the endpoint and credentials of the AWS environment.

    Raises UserError where fsspec knows no such protocol.
    """
    # The client reads the environment once; a process that changes it (a notebook) gets another client.
    key = (protocol, aws.settings() if protocol == "s3" else ())
    with _lock:
        if key not in _systems:
            _systems[key] = _make(protocol)
        return _systems[key]


def endpoint() -> str:
    """Return the address of the S3 server that this process talks to, for messages."""
    return os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL") or "Amazon S3"


def _make(protocol: str) -> Any:
    # Imported here: with it comes a second of imports for S3, which a local run has no use for.
    import fsspec

    # A listing kept from before would hide what another process wrote since.
    options: dict[str, Any] = {"use_listings_cache": False, "skip_instance_cache": True}
    if protocol == "s3":
        region = os.environ.get("AWS_REGION")  # botocore reads AWS_DEFAULT_REGION alone
        options |= {"config_kwargs": _CONFIG, "client_kwargs": {"region_name": region} if region else {}}
    try:
        if protocol == "s3":
            from hardviews.storage.s3 import S3

            system = S3(**options)
        else:
            system = fsspec.filesystem(protocol, **options)
    except (ValueError, ImportError) as error:
        raise UserError(
            f"No way to open addresses that begin with {protocol + '://'!r} is known here ({error}). Give a local "
            "path, s3://bucket/folder, or a protocol whose fsspec package is installed."
        ) from error
    if protocol == "s3":
        system.retries = 1
    return system
