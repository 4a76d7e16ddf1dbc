"""The rights in one folder of a store: to list, read, delete, write, and write in parts. Test files are removed.

The steps of a store on S3 are the requests of a run's output, each with its own finding. After a failure that all
requests share (no server, no bucket, wrong keys) the others are skipped.
"""

import uuid
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from typing import Any

from hardviews.doctor.clock import compare
from hardviews.doctor.finding import Finding, missing, mistake, ok, skipped
from hardviews.errors import UserError
from hardviews.storage import aws
from hardviews.storage.failures import CONDITIONAL, Denied, Unreachable, Unsupported
from hardviews.storage.filesystem import endpoint
from hardviews.storage.patience import Patience
from hardviews.storage.remote_store import RemoteStore
from hardviews.storage.url import protocol_of

PATIENCE = 3.0  # seconds of further attempts after a failure that may pass

_DATA = b"hardviews doctor\n"
_SOURCES = {
    "env": "the environment (AWS_ACCESS_KEY_ID)",
    "shared-credentials-file": "the credentials file (AWS_SHARED_CREDENTIALS_FILE, else ~/.aws/credentials)",
    "config-file": "the configuration file (AWS_CONFIG_FILE, else ~/.aws/config)",
    "iam-role": "the role of this machine (instance metadata)",
    "container-role": "the role of this container",
    "assume-role": "a role that the profile assumes",
    "assume-role-with-web-identity": "a web identity (AWS_WEB_IDENTITY_TOKEN_FILE)",
    "custom-process": "the program that credential_process names",
    "sso": "a login (aws sso login)",
    "login": "a login (aws login)",
}
_STEPS = ("list", "read", "delete", "write", "conditional write", "multipart")


def credentials() -> Finding:
    """Return the source of the AWS clients' credentials, without the credentials themselves.

    Raises:
        ImportError: the clients are not installed.
    """
    import botocore.session

    wrong = aws.mistake_in_keys()
    if wrong:
        return mistake("credentials", UserError(wrong))
    try:
        found = botocore.session.Session().get_credentials()
        if found is not None:
            found.get_frozen_credentials()
    except Exception as error:
        words = aws.mistake(error) or f"They cannot be had ({' '.join(str(error).split())[:300]}). Check their source."
        return mistake("credentials", UserError(words))
    if found is None:
        both = " and ".join(aws.KEYS)
        return missing("credentials", "none were found", f"export {both}, or name a profile by AWS_PROFILE")
    return ok("credentials", f"from {_SOURCES.get(found.method, found.method)}")


def on_s3(url: str, write: bool, read: str | None = None) -> Iterator[Finding]:
    """Yield the findings about the rights in a folder on S3.

    Args:
        url: address of the folder.
        write: whether to write a file there, which is removed again.
        read: name of a file to read, which may be absent; None to read the written file only.
    """
    found = credentials()
    yield found
    if found.state != "ok":
        yield from _rest(_STEPS, "there are no credentials")
        return
    store = RemoteStore(url.rstrip("/"), PATIENCE)
    steps = _Steps(store, read)
    names = [name for name in _STEPS if write or name in ("list", "read")]
    done = 0
    for done, name in enumerate(names, 1):
        result = steps.take(name)
        yield from result
        if steps.over:
            yield from _rest(names[done:], steps.over)
            break
    if not write and not steps.over:
        yield skipped("write", "not tried", "--write writes a small file here, and removes it")


def _rest(names: Iterator[str] | tuple[str, ...] | list[str], reason: str) -> Iterator[Finding]:
    for name in names:
        yield skipped(name, reason)


class _Steps:
    """The requests to a folder on S3. `over` is the reason to skip the remaining steps."""

    def __init__(self, store: RemoteStore, read: str | None) -> None:
        self.over = ""
        self._store, self._file = store, read
        self._probe = f".hardviews-doctor-{uuid.uuid4().hex}"
        self._calls = Patience(PATIENCE)
        self._bucket, _, prefix = store.url.removeprefix("s3://").partition("/")
        self._prefix = f"{prefix}/" if prefix else ""

    def take(self, name: str) -> list[Finding]:
        """Return the findings of a step."""
        steps: dict[str, Callable[[], list[Finding]]] = {
            "list": self._list,
            "read": self._read,
            "delete": self._delete,
            "write": self._write,
            "conditional write": self._conditional,
            "multipart": self._multipart,
        }
        try:
            return steps[name]()
        except (Denied, Unsupported) as error:
            return [mistake(name, error)]
        except UserError as error:
            away = isinstance(error, Unreachable)
            self.over = "the server was not reached" if away else f"see the failure above: {name}"
            found = mistake(name, error)
            hint = " AWS_ENDPOINT_URL sets the address." if away else ""
            return [replace(found, remedy=f"{found.remedy}{hint}")]

    def _call(self, method: str, file: str = "", **words: Any) -> Any:
        """Make one request to S3, by the client's name for it."""
        fs = self._store.fs()
        name = self._store.name(file) if file else self._store.url
        if file:
            words["Key"] = self._prefix + file
        return self._calls.call(lambda: fs.call_s3(method, Bucket=self._bucket, **words), self._store.url, name)

    def _list(self) -> list[Finding]:
        try:
            answer = self._call("list_objects_v2", Prefix=self._prefix, MaxKeys=1)
        except FileNotFoundError as error:  # the client's error for a missing bucket
            raise UserError(
                f"There is no bucket {self._bucket!r} at {endpoint()}. Create it, for example with: aws s3 mb "
                f"s3://{self._bucket} - or correct the address {self._store.url}."
            ) from error
        date = answer.get("ResponseMetadata", {}).get("HTTPHeaders", {}).get("date")
        return [ok("endpoint", f"{endpoint()} answers"), compare(date), ok("list", f"{self._store.url} may be listed")]

    def _read(self) -> list[Finding]:
        if self._file is None:
            return []  # the written file is read later
        there = self._store.size(self._file) is not None
        if there:
            self._store.read(self._file, 0, 1)
        return [ok("read", "allowed" if there else f"allowed; {self._file} is not there")]

    def _delete(self) -> list[Finding]:
        # Before the write: a server checks the right even if there is no such file. Without it nothing is written.
        try:
            self._store.remove(self._probe)
        except Denied as error:
            self.over = "a written file could not be removed again"
            return [mistake("delete", error)]
        return [ok("delete", "allowed")]

    def _write(self) -> list[Finding]:
        try:
            self._store.write(self._probe, _DATA)
        except Denied as error:
            self.over = "writing is denied"
            return [mistake("write", error)]
        try:
            same = self._store.read(self._probe) == _DATA
        except Denied as error:
            return [ok("write", "allowed"), mistake("read", error)]
        finally:
            self._store.remove(self._probe)
        if not same:
            text = "the bytes read are not the bytes written"
            return [missing("write", text, "Ask the store's owner: a proxy or a cache changes the data.")]
        return [ok("write", "allowed"), *([ok("read", "allowed")] if self._file is None else [])]

    def _conditional(self) -> list[Finding]:
        try:
            self._store.write(self._probe, _DATA)
            self._store.write(self._probe, b"again\n", new=True)
        except FileExistsError:
            return [ok("conditional write", "the server refuses to create a file twice")]
        finally:
            self._store.remove(self._probe)
        return [missing("conditional write", "the server overwrites a file that must be new", CONDITIONAL)]

    def _multipart(self) -> list[Finding]:
        file = f"{self._probe}-parts"
        upload = self._call("create_multipart_upload", file)["UploadId"]
        try:
            part = self._call("upload_part", file, UploadId=upload, PartNumber=1, Body=_DATA)
            parts = {"Parts": [{"PartNumber": 1, "ETag": part["ETag"]}]}
            self._call("complete_multipart_upload", file, UploadId=upload, MultipartUpload=parts)
        except BaseException:
            with suppress(Exception):
                self._call("abort_multipart_upload", file, UploadId=upload)
            raise
        try:
            if self._store.read(file) != _DATA:
                return [missing("multipart", "the bytes read are not the bytes written", "Ask the store's owner.")]
        finally:
            self._store.remove(file)
        other = self._call("create_multipart_upload", file)["UploadId"]
        self._call("abort_multipart_upload", file, UploadId=other)
        return [ok("multipart", "parts are joined, and an upload can be cancelled")]


def elsewhere(url: str, write: bool) -> Iterator[Finding]:
    """Yield the findings about a store with another protocol than S3."""
    store = RemoteStore(url.rstrip("/"), PATIENCE)
    if write:
        store.check_writable()
        yield ok("write", f"{url} can be written, and a written file can be removed")
    else:
        number = len(store.files()) + len(store.folders())
        yield ok("list", f"{url} holds {number} files and folders")


def is_s3(url: str) -> bool:
    """Return whether an address is on S3."""
    return protocol_of(url) == "s3"
