"""The fsspec file systems of this process: made on first use, and never kept across a fork."""

import os
import threading
from typing import Any

from hardviews.errors import UserError
from hardviews.storage import aws

# Limits of the time to connect, and of silence: with the clients' own defaults a stalled server is noticed after a
# minute. Attempts are counted in one place, `Patience`: fifteen attempts inside each of ours would take too long. Over
# HTTPS the client sends a checksum of an upload, and no signature of it. It must do the same over HTTP: the signature
# took a quarter of a core's time for a checkpoint.
_CONFIG = {
    "connect_timeout": 5,
    "read_timeout": 20,
    "retries": {"mode": "standard", "total_max_attempts": 1},
    "s3": {"payload_signing_enabled": False},
}

_systems: dict[tuple[Any, ...], Any] = {}
_lock = threading.Lock()
# Objects of a parent process. They are kept: their deletion would close the parent's connections.
_inherited: list[Any] = []


def _after_fork() -> None:
    global _lock
    _inherited.append(dict(_systems))
    _systems.clear()
    _lock = threading.Lock()


os.register_at_fork(after_in_child=_after_fork)


def file_system(protocol: str) -> Any:
    """Return the fsspec file system of a protocol, for S3 with the endpoint and credentials of the AWS environment.

    Raises:
        UserError: fsspec has no such protocol.
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
    # Imported here: it takes a second of imports for S3, which a local run does not need.
    import fsspec

    # A cached listing would hide later files of other processes.
    options: dict[str, Any] = {"use_listings_cache": False, "skip_instance_cache": True}
    if protocol == "s3":
        region = os.environ.get("AWS_REGION")  # botocore reads only AWS_DEFAULT_REGION
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
