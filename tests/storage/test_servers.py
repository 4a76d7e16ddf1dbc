"""Servers that speak a part of S3, and rights that cover a part of it: reported at once, with the remedy."""

import socket
from collections.abc import Callable
from pathlib import Path

import fsspec
import pytest

from hardviews.data.claim import Claim
from hardviews.data.index import Index
from hardviews.errors import UserError
from hardviews.failures import Needs
from hardviews.models.encoder import load
from hardviews.runs.checkpoint import Checkpoints
from hardviews.runs.life import lives_in, newest_life
from hardviews.runs.record import Record
from hardviews.runs.where import open_dataset
from hardviews.storage import patience, s3
from hardviews.storage.failures import (
    Denied,
    NoBucket,
    Refused,
    Unreachable,
    Unsupported,
    in_words,
    is_unknown_host,
    verdict,
)
from hardviews.storage.patience import Patience
from hardviews.storage.store import Store, open_store
from tests.data.helpers import write_dataset
from tests.fake_s3 import DENIED, SILENT, FakeS3, Refusal


@pytest.fixture
def store(fake_s3: FakeS3) -> Store:
    # Whoever waits this out makes the test fail by its time.
    return open_store(f"{fake_s3.url}/folder", patience=600)


WHEN = "AWS_REQUEST_CHECKSUM_CALCULATION=when_required"


@pytest.mark.parametrize(
    ("refusal", "words"),
    [
        (Refusal(501, "NotImplemented", "A header implies functionality that is not implemented"), WHEN),
        (Refusal(501), WHEN),
        (Refusal(505), WHEN),
        (Refusal(411, "MissingContentLength"), WHEN),
        (Refusal(400, "XAmzContentSHA256Mismatch"), WHEN),
        (Refusal(400, "InvalidRequest", "checksum"), WHEN),
        (Refusal(400, "InvalidArgument", "x-amz-checksum"), WHEN),
        (Refusal(405, "MethodNotAllowed"), "an S3 interface"),
        (Refusal(404, "NotFound"), "an S3 interface"),
    ],
)
def test_a_server_that_lacks_a_request_is_not_waited_for(
    fake_s3: FakeS3,
    store: Store,
    refusal: Refusal,
    words: str,
) -> None:
    fake_s3.refuse("PutObject", by=refusal)
    with pytest.raises(Unsupported, match=r"PutObject .*not implemented") as error:
        store.check_writable()
    assert words in str(error.value) and "server runs" not in str(error.value)
    assert fake_s3.asked.count("PutObject") == 1
    assert error.value.needs is Needs.SOFTWARE


def test_checksums_that_are_off_are_not_advised(
    fake_s3: FakeS3,
    store: Store,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("AWS_REQUEST_CHECKSUM_CALCULATION", "when_required")
    fake_s3.refuse("PutObject", by=Refusal(501, "NotImplemented"))
    with pytest.raises(Unsupported, match=r"off already; docs/s3\.md"):
        store.check_writable()


def test_checksums_are_not_sent_when_that_is_asked_for(
    fake_s3: FakeS3,
    store: Store,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The advice works on a server that knows no checksums."""
    fake_s3.rule = lambda operation, key, headers: (
        Refusal(501, "NotImplemented") if any("checksum" in name for name in headers) else None
    )
    with pytest.raises(Unsupported, match=WHEN):
        store.write("file", b"content")
    for name in ("AWS_REQUEST_CHECKSUM_CALCULATION", "AWS_RESPONSE_CHECKSUM_VALIDATION"):
        monkeypatch.setenv(name, "when_required")
    again = open_store(store.url, patience=5)
    again.check_writable()
    again.write("file", b"content")
    assert again.read("file") == b"content" and again.size("file") == 7


@pytest.mark.parametrize("refusal", [Refusal(501, "NotImplemented"), Refusal(400, "InvalidArgument"), None])
def test_a_server_without_conditional_writes_is_refused(
    fake_s3: FakeS3,
    store: Store,
    refusal: Refusal | None,
) -> None:
    """Also one that takes them and overwrites: two processes would, each other's files."""
    fake_s3.conditional = False
    fake_s3.rule = lambda operation, key, headers: refusal if "if-none-match" in headers else None
    with pytest.raises(Unsupported, match=r"If-None-Match.*only one of two processes"):
        store.check_writable()
    assert not fake_s3.files
    fake_s3.conditional, fake_s3.rule = True, lambda *_: None
    store.check_writable()
    assert not fake_s3.files


@pytest.mark.parametrize(
    ("operation", "right"),
    [("ListObjectsV2", "s3:ListBucket"), ("PutObject", "s3:PutObject"), ("DeleteObject", "s3:DeleteObject")],
)
def test_a_right_that_is_missing_is_named_and_nothing_is_left(
    fake_s3: FakeS3,
    store: Store,
    operation: str,
    right: str,
) -> None:
    fake_s3.refuse(operation, by=DENIED)
    with pytest.raises(Denied, match=f"{right} on arn:aws:s3:::bucket"):
        store.check_writable()
    assert not fake_s3.files


def test_whether_a_file_is_there_needs_no_list(fake_s3: FakeS3, store: Store) -> None:
    fake_s3.files = {"folder/file": b"content", "folder/empty": b""}
    fake_s3.refuse("ListObjectsV2", by=DENIED)
    assert (store.size("file"), store.size("empty"), store.size("missing")) == (7, 0, None)
    # A server that knows no HEAD is asked for the first byte.
    fake_s3.refuse("ListObjectsV2", "HeadObject", by=Refusal(405, "MethodNotAllowed"))
    assert (store.size("file"), store.size("empty"), store.size("missing")) == (7, 0, None)
    assert "ListObjectsV2" not in fake_s3.asked


def without_list(fake: FakeS3) -> None:
    """Deny to list, and then deny missing files too, as S3 does."""
    fake.rule = lambda operation, key, headers: (
        DENIED
        if operation == "ListObjectsV2" or (operation in ("GetObject", "HeadObject") and key not in fake.files)
        else None
    )


@pytest.mark.parametrize("given", ["data", "data/train"])
def test_a_dataset_is_read_without_the_right_to_list(
    fake_s3: FakeS3,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    given: str,
) -> None:
    monkeypatch.setenv("HARDVIEWS_CACHE", str(tmp_path / "cache"))
    local = write_dataset(str(tmp_path / "train"), [5] * 3)
    fake_s3.files = {f"data/train/{path.name}": path.read_bytes() for path in (tmp_path / "train").iterdir()}
    without_list(fake_s3)
    from hardviews.data.reader import Reader

    reader = Reader(open_dataset(f"{fake_s3.url}/{given}"))
    reader.check()
    assert [sample.data for sample in reader.read(range(15))] == [
        sample.data for sample in Reader(local).read(range(15))
    ]
    reader.close()
    fake_s3.files.pop("data/train/shard-000001.tar")
    with pytest.raises(Denied, match=r"shard-000001\.tar was denied.*no such file"):
        Reader(reader.index).check()


def test_what_is_denied_may_not_be_there(fake_s3: FakeS3, monkeypatch: pytest.MonkeyPatch) -> None:
    without_list(fake_s3)
    with pytest.raises(Denied, match=r"s3:ListBucket, S3 answers the same.*FSSPEC_S3_REQUESTER_PAYS=true"):
        open_dataset(f"{fake_s3.url}/data")
    monkeypatch.setenv("FSSPEC_S3_REQUESTER_PAYS", "true")
    with pytest.raises(Denied) as error:
        Index.load(f"{fake_s3.url}/data")
    assert "REQUESTER_PAYS" not in str(error.value)


def test_the_reader_pays(fake_s3: FakeS3, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """fsspec's value of FSSPEC_S3_REQUESTER_PAYS, which it reads when it is imported."""
    fake_s3.rule = lambda operation, key, headers: None if "x-amz-request-payer" in headers else DENIED
    fake_s3.files = {"folder/file": b"content"}
    with pytest.raises(Denied, match="FSSPEC_S3_REQUESTER_PAYS=true"):
        store.read("file")
    monkeypatch.setitem(fsspec.config.conf, "s3", {"requester_pays": True})
    monkeypatch.setenv("AWS_PROFILE_UNUSED", "another client")
    payer = open_store(store.url, patience=5)
    assert (payer.read("file", 1, 4), payer.size("file"), payer.size("missing"), payer.files()) == (
        *(b"ont", 7, None),
        ["file"],
    )
    payer.check_writable()


@pytest.mark.parametrize(
    ("refusal", "words"),
    [
        (Refusal(400, "ExpiredToken"), "session token .* has expired"),
        (Refusal(403, "SignatureDoesNotMatch"), "refused the signature"),
        (Refusal(403, "InvalidAccessKeyId"), "does not know the access key"),
        (Refusal(404, "NoSuchBucket"), "There is no bucket"),
    ],
)
def test_the_reason_is_asked_for_where_an_answer_has_none(
    fake_s3: FakeS3,
    store: Store,
    refusal: Refusal,
    words: str,
) -> None:
    """The answer to HEAD has no body."""
    fake_s3.refuse("HeadObject", "GetObject", by=refusal)
    with pytest.raises((Refused, NoBucket), match=words):
        store.size("file")


@pytest.mark.parametrize(
    ("refusal", "words"),
    [(Refusal(507, "XMinioStorageFull"), "has no room"), (Refusal(403, "QuotaExceeded"), "has no room")],
)
def test_a_full_store_needs_the_user(
    fake_s3: FakeS3,
    store: Store,
    refusal: Refusal,
    words: str,
) -> None:
    fake_s3.refuse("PutObject", by=refusal)
    with pytest.raises(Refused, match=words):
        store.write("file", b"")


@pytest.mark.parametrize(
    "attempt",
    [
        lambda url: open_store(url).read("file"),
        lambda url: open_store(url).size("file"),
        lambda url: open_store(url).files(),
        lambda url: open_store(url).remove("file"),
        lambda url: Claim(open_store(url)).holds(),
        Index.load,
        load,
        Record.read,
        lambda url: Checkpoints(url).manifest("step-00000001"),
        lambda url: newest_life(lives_in(url)),
    ],
)
def test_a_missing_bucket_is_not_a_missing_file(
    fake_s3: FakeS3, store: Store, attempt: Callable[[str], object]
) -> None:
    fake_s3.refuse("GetObject", "HeadObject", "ListObjectsV2", "DeleteObject", by=Refusal(404, "NoSuchBucket"))
    with pytest.raises(NoBucket, match="aws s3 mb"):
        attempt(store.url)


def test_a_throttling_server_is_not_taken_for_a_wrong_address(fake_s3: FakeS3, store: Store) -> None:
    fake_s3.refuse("ListObjectsV2", by=Refusal(503, "SlowDown", "Please reduce your request rate."))
    with pytest.raises(Unreachable, match=r"throttles.*has too much to do") as error:
        open_store(store.url, patience=0.3).files()
    assert "address is right" not in str(error.value)
    fake_s3.refuse("ListObjectsV2", by=Refusal(500, "InternalError"))
    with pytest.raises(Unreachable, match=r"500 InternalError.*look at its log"):
        open_store(store.url, patience=0.3).files()


def test_damage_that_comes_again_and_again_is_not_waited_for(
    fake_s3: FakeS3,
    store: Store,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(patience, "FIRST_PAUSE", 0.001)
    fake_s3.refuse("PutObject", by=Refusal(400, "BadDigest"))
    with pytest.raises(Refused, match="arrived damaged"):
        store.write("file", b"")
    assert fake_s3.asked.count("PutObject") == 3


@pytest.mark.parametrize("operation", ["PutObject", "GetObject", "HeadObject", "ListObjectsV2"])
def test_a_request_without_an_answer_ends(
    fake_s3: FakeS3,
    store: Store,
    operation: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(s3, "_ANSWER", 0.3)
    fake_s3.refuse(operation, by=SILENT)
    impatient = open_store(store.url, patience=0.1)
    with pytest.raises(Unreachable, match="stopped answering"):
        {
            "PutObject": lambda: impatient.write("file", b"content"),
            "GetObject": lambda: impatient.read("file"),
            "HeadObject": lambda: impatient.size("file"),
            "ListObjectsV2": impatient.files,
        }[operation]()


def test_no_request_waits_for_leave_to_send_its_body(fake_s3: FakeS3, store: Store) -> None:
    """The client has no timeout for that."""
    expecting: list[str] = []
    fake_s3.rule = lambda operation, key, headers: expecting.append(key) if "expect" in headers else None
    store.write("file", b"content")
    assert fake_s3.files and not expecting


def test_a_name_that_nobody_knows_is_waited_for_briefly() -> None:
    unknown, silent = socket.gaierror(socket.EAI_NONAME, "no"), socket.gaierror(socket.EAI_AGAIN, "again")
    assert is_unknown_host(unknown) and not is_unknown_host(silent)
    assert "cannot be resolved" in in_words(silent, "s3://bucket")
    for error, most in ((unknown, 0.2), (silent, 1.0)):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(patience, "UNKNOWN_HOST", 0.2)
            patch.setattr(patience, "FIRST_PAUSE", 0.01)
            waiting = Patience(1.0)

            def fail(error: Exception = error) -> None:
                raise error

            with pytest.raises(Unreachable) as given_up:
                waiting.call(fail, "s3://bucket", "file")
            assert given_up.value.__cause__ is error
            assert (waiting.requests > 1) and (most == 1.0 or "for 0 s" in str(given_up.value))


def test_a_failure_of_a_store_has_one_remedy() -> None:
    assert verdict(TimeoutError(), "s3://bucket", "file") is None  # it may pass
    denied = Denied("no")
    assert verdict(denied, "s3://bucket", "file") is denied
    missing = verdict(ImportError(name="gcsfs"), "gs://bucket", "file")
    assert missing is not None and "gcsfs" in str(missing)
    # A server's answer is no failure of this machine's disk, though clients give it such a number.
    assert verdict(OSError(5, "odd"), "s3://bucket", "file") is None


def test_mistakes_of_our_own_are_not_waited_for(store: Store) -> None:
    with pytest.raises(UserError, match="lacks '://'"):
        open_store("s3:/bucket/folder")
