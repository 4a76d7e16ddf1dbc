"""The client of S3: s3fs, with a time limit for every request, and checks that need no listing."""

import asyncio
import logging
from typing import Any

from aiobotocore.session import AioSession
from fsspec.asyn import sync_wrapper
from s3fs import S3FileSystem

_ANSWER = 30.0  # seconds until the answer to a request, without the time for its body
_SLOWEST = 32 * 1024  # least speed of an upload in bytes per second
_NO_REASON = {"400", "403", "404", "405"}  # possible codes of an answer without a body, such as one to HEAD


# It logs the traceback of credentials that cannot be refreshed, although the error is raised too.
logging.getLogger("aiobotocore.credentials").setLevel(logging.CRITICAL)


class S3(S3FileSystem):  # type: ignore[misc]
    """An S3 file system whose requests end."""

    session: Any

    async def set_session(self, refresh: bool = False, kwargs: dict[str, Any] | None = None) -> Any:
        """Connect, like `S3FileSystem.set_session`."""
        if self.session is None:
            self.session = AioSession(**self.kwargs)
            # aiohttp has no timeout for a request that waits for the server's "100 Continue": if the connection is cut
            # silently, it waits for ever. To send the bodies of refused requests costs less.
            self.session.register("before-call.s3", _without_expect)
        return await super().set_session(refresh)

    _connect = set_session

    connect = sync_wrapper(set_session)

    async def _call_s3(self, method: str, *more: Any, **words: Any) -> Any:
        body = words.get("Body")
        seconds = _ANSWER + (len(body) / _SLOWEST if isinstance(body, bytes | bytearray | memoryview) else 0.0)
        # The client's own timeout begins after the body is sent, and a frozen server does not receive it.
        async with asyncio.timeout(seconds):
            return await super()._call_s3(method, *more, **words)

    call_s3 = sync_wrapper(_call_s3)

    async def _length(self, path: str) -> int:
        """Return the bytes of a file by requests for that file alone, which need no right to list.

        Raises:
            FileNotFoundError: there is no such file; otherwise the errors of other requests.
        """
        bucket, key, _ = self.split_path(path)
        try:
            return int((await self._call_s3("head_object", Bucket=bucket, Key=key))["ContentLength"])
        except OSError as error:
            answer = getattr(error.__cause__, "response", {})
            if answer.get("Error", {}).get("Code") not in _NO_REASON:
                raise
        # Only an answer with a body has a reason: a missing bucket, a wrong key, an expired token, a missing right.
        try:
            first = await self._call_s3("get_object", Bucket=bucket, Key=key, Range="bytes=0-0")
        except OSError as error:
            answer = getattr(error.__cause__, "response", {})
            if answer.get("Error", {}).get("Code") == "InvalidRange":
                return 0
            raise
        first["Body"].close()
        return int(str(first.get("ContentRange", "")).rpartition("/")[2] or first["ContentLength"])

    length = sync_wrapper(_length)


def _without_expect(params: dict[str, Any], **_: Any) -> None:
    params["headers"].pop("Expect", None)
