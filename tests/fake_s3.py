"""A small S3 server in this process. It lacks or refuses operations that a test names, and keeps files in memory."""

import http.server
import os
import threading
import urllib.parse
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from multiprocessing import forkserver

import pytest

BUCKET = "bucket"


@dataclass(frozen=True)
class Refusal:
    """An answer without a success; `code` is left out of answers without a body."""

    status: int
    code: str = ""
    message: str = "said by the server"

    @property
    def body(self) -> bytes:
        return (
            f"<Error><Code>{self.code}</Code><Message>{self.message}</Message></Error>".encode() if self.code else b""
        )


DENIED = Refusal(403, "AccessDenied", "not authorized")
SILENT = Refusal(0)  # no answer at all, and the connection stays

Rule = Callable[[str, str, dict[str, str]], Refusal | None]  # of operation, key and headers


@dataclass
class FakeS3:
    """`files` by key; `rule` refuses requests; `asked` are the operations so far.

    conditional: whether If-None-Match is looked at.
    """

    rule: Rule = lambda operation, key, headers: None
    conditional: bool = True
    files: dict[str, bytes] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    port: int = 0
    ended: threading.Event = field(default_factory=threading.Event)

    @property
    def url(self) -> str:
        return f"s3://{BUCKET}"

    @property
    def environment(self) -> dict[str, str]:
        return {
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{self.port}",
            "AWS_ACCESS_KEY_ID": "a",
            "AWS_SECRET_ACCESS_KEY": "b",
            "AWS_REGION": "us-east-1",
            "AWS_EC2_METADATA_DISABLED": "true",
        }

    def refuse(self, *operations: str, by: Refusal) -> None:
        self.rule = lambda operation, key, headers: by if operation in operations else None


def _operation(method: str, key: str, query: dict[str, list[str]]) -> str:
    if method == "GET":
        return "GetObject" if key else "ListObjectsV2"
    if method == "HEAD":
        return "HeadObject" if key else "HeadBucket"
    if method == "PUT":
        return "UploadPart" if "partNumber" in query else "PutObject"
    return {"DELETE": "DeleteObject", "POST": "Multipart"}[method]


def _listing(files: dict[str, bytes], query: dict[str, list[str]]) -> bytes:
    prefix, delimiter = query.get("prefix", [""])[0], query.get("delimiter", [""])[0]
    inside: dict[str, str] = {}
    for key, data in sorted(files.items()):
        rest = key.removeprefix(prefix)
        if not key.startswith(prefix):
            continue
        if delimiter and delimiter in rest:
            folder = prefix + rest.split(delimiter)[0] + delimiter
            inside[folder] = f"<CommonPrefixes><Prefix>{folder}</Prefix></CommonPrefixes>"
        else:
            inside[key] = f"<Contents><Key>{key}</Key><Size>{len(data)}</Size></Contents>"
    text = f"<Name>b</Name><KeyCount>{len(inside)}</KeyCount><IsTruncated>false</IsTruncated>{''.join(inside.values())}"
    return f'<?xml version="1.0"?><ListBucketResult>{text}</ListBucketResult>'.encode()


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    fake: FakeS3

    def log_message(self, *_: object) -> None:
        pass

    def handle_expect_100(self) -> bool:
        return True  # answered, or not, with the rest

    def handle_one_request(self) -> None:
        try:
            super().handle_one_request()
        except OSError:
            self.close_connection = True

    def _answer(self, status: int, body: bytes = b"", **headers: str) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        if "Content_Length" not in headers:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def _any(self) -> None:
        fake, split = self.fake, urllib.parse.urlsplit(self.path)
        query = urllib.parse.parse_qs(split.query, keep_blank_values=True)
        key = urllib.parse.unquote(split.path).lstrip("/").partition("/")[2]
        operation = _operation(self.command, key, query)
        headers = {name.lower(): value for name, value in self.headers.items()}
        fake.asked.append(operation)
        refusal = fake.rule(operation, key, headers)
        if refusal is SILENT:
            fake.ended.wait(600)
            self.close_connection = True
            return
        if "100-continue" in headers.get("expect", ""):
            self.send_response_only(100)
            self.end_headers()
        body = self.rfile.read(int(headers.get("content-length") or 0))
        if refusal is not None:
            self._answer(refusal.status, refusal.body)
        elif operation == "ListObjectsV2":
            self._answer(200, _listing(fake.files, query))
        elif operation == "PutObject":
            if fake.conditional and "if-none-match" in headers and key in fake.files:
                self._answer(412, Refusal(412, "PreconditionFailed").body)
                return
            fake.files[key] = body
            self._answer(200, ETag='"x"')
        elif operation == "DeleteObject":
            fake.files.pop(key, None)
            self._answer(204)
        elif operation == "HeadBucket":
            self._answer(200)
        elif key not in fake.files:
            self._answer(404, b"" if self.command == "HEAD" else Refusal(404, "NoSuchKey").body)
        else:
            self._send(fake.files[key], headers.get("range"))

    def _send(self, data: bytes, wanted: str | None) -> None:
        date = {"ETag": '"x"', "Last_Modified": "Sun, 29 Nov 2026 00:00:00 GMT"}
        if self.command == "HEAD":
            self._answer(200, Content_Length=str(len(data)), **date)
        elif wanted is None:
            self._answer(200, data, **date)
        else:
            first, last = wanted.removeprefix("bytes=").split("-")
            part = data[int(first) : int(last) + 1 if last else None]
            if not part:
                self._answer(416, Refusal(416, "InvalidRange").body)
                return
            self._answer(206, part, Content_Range=f"bytes {first}-{int(first) + len(part) - 1}/{len(data)}", **date)

    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = _any


@pytest.fixture
def fake_s3(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeS3]:
    """The server, with its address in the environment, also of data loader workers."""
    fake = FakeS3()
    handler = type("Handler", (_Handler,), {"fake": fake})
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    server.block_on_close = False
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    fake.port = server.server_port
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    for name, value in fake.environment.items():
        monkeypatch.setenv(name, value)
    forkserver._forkserver._stop()  # type: ignore[attr-defined]
    yield fake
    fake.ended.set()
    server.shutdown()
    server.server_close()
    thread.join(10)
    forkserver._forkserver._stop()  # type: ignore[attr-defined]
