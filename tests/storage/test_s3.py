"""The store on a real S3 server: its files, its refusals, and outages."""

import multiprocessing
import os
import threading
import time
from pathlib import Path

import pytest

from hardviews.errors import UserError
from hardviews.storage import remote_store as module
from hardviews.storage.failures import NoBucket, Refused, Unreachable
from hardviews.storage.store import Store, open_store
from tests.s3 import SeaweedFS


@pytest.fixture
def store(s3: SeaweedFS) -> Store:
    return open_store(f"{s3.bucket()}/some/folder")


def test_files_and_folders(store: Store, tmp_path: Path) -> None:
    assert store.files() == store.folders() == []
    store.write("index.json", b"0123456789")
    store.write("checkpoints/step-00000012/manifest.json", b"{}")
    (tmp_path / "new").write_bytes(b"shard")
    store.put(str(tmp_path / "new"), "shard.tar", move=False)
    assert store.files() == ["index.json", "shard.tar"]
    assert store.folders() == ["checkpoints"]
    assert store.inside("checkpoints").folders() == ["step-00000012"]
    assert store.inside("checkpoints/step-00000012").files() == ["manifest.json"]
    assert store.read("index.json") == b"0123456789"
    assert store.read("index.json", 3) == b"3456789"
    assert store.read("index.json", 2, 4) == b"23"
    assert store.size("index.json") == 10
    assert store.size("checkpoints") is None
    assert store.size("missing") is None
    with pytest.raises(FileNotFoundError):
        store.read("missing")
    store.remove_folder("checkpoints")
    store.remove_folder("nothing")
    assert store.inside("checkpoints/step-00000012").files() == store.folders() == []
    store.remove("index.json")
    store.remove("index.json")
    assert store.files() == ["shard.tar"]
    assert (tmp_path / "new").exists()


def test_large_files_go_in_parts(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PART", 5 * 2**20)  # S3 takes no smaller ones
    data = os.urandom(23 * 2**20)
    (tmp_path / "large").write_bytes(data)
    store.put(str(tmp_path / "large"), "large")
    assert not (tmp_path / "large").exists()
    reader = open_store(store.url)
    reader.download("large", str(tmp_path / "copy"), len(data))
    assert (tmp_path / "copy").read_bytes() == data
    assert (reader.requests, reader.received, reader.retries) == (5, len(data), 0)


def test_a_new_file_replaces_none(store: Store) -> None:
    store.write("index.json", b"first", new=True)
    with pytest.raises(FileExistsError):
        store.write("index.json", b"second", new=True)
    assert store.read("index.json") == b"first"
    results: list[str] = []

    def race(content: bytes) -> None:
        try:
            open_store(store.url).write("raced", content, new=True)
            results.append("won")
        except FileExistsError:
            results.append("lost")

    threads = [threading.Thread(target=race, args=(bytes([i]),)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert sorted(results) == ["lost", "lost", "lost", "won"]


def test_a_check_leaves_nothing(store: Store) -> None:
    store.check_writable()
    assert store.files() == []
    assert store.inside("..").folders() == []


def test_what_is_wrong_is_said_at_once_and_in_words(s3: SeaweedFS, monkeypatch: pytest.MonkeyPatch) -> None:
    bucket = s3.bucket()
    writing = open_store("s3://no-such-bucket/folder")
    for attempt in (
        writing.check_writable,
        writing.files,
        lambda: writing.read("file"),
        lambda: writing.size("file"),
        lambda: writing.write("file", b""),
    ):
        with pytest.raises(NoBucket, match=r"no bucket 'no-such-bucket' at .*aws s3 mb s3://no-such-bucket"):
            attempt()
    for variables, words in (
        (s3.read_only, "denied"),
        ({"AWS_SECRET_ACCESS_KEY": "wrong"}, "refused the signature.*AWS_SECRET_ACCESS_KEY"),
        ({"AWS_ACCESS_KEY_ID": "wrong"}, "does not know the access key.*AWS_ACCESS_KEY_ID"),
        ({"AWS_ENDPOINT_URL": s3.endpoint.replace("http:", "https:")}, "TLS.*http://"),
        ({"AWS_ENDPOINT_URL": "nowhere"}, "AWS_ENDPOINT_URL is 'nowhere'"),
    ):
        with monkeypatch.context() as patch:
            for name, value in variables.items():
                patch.setenv(name, value)
            with pytest.raises(Refused, match=words) as error:
                open_store(bucket).check_writable()
            assert "read-only-secret" not in str(error.value)
    with monkeypatch.context() as patch:
        patch.delenv("AWS_ACCESS_KEY_ID")
        patch.setenv("AWS_SHARED_CREDENTIALS_FILE", os.devnull)
        with pytest.raises(UserError, match=r"No credentials .* Set AWS_ACCESS_KEY_ID"):
            open_store(bucket).files()
    for url, words in (("s3://", "does not name a bucket"), ("s3://b a d/x", "Write s3://bucket/folder")):
        with pytest.raises(UserError, match=words):
            open_store(url).files()
    for variable, words in (("http://127.0.0.1:9", "nothing listens"), ("http://no-such-host.invalid", "be resolved")):
        with monkeypatch.context() as patch:
            patch.setenv("AWS_ENDPOINT_URL", variable)
            with pytest.raises(Unreachable, match=words):
                open_store(bucket, patience=0.5).files()


def test_a_restarted_server_only_delays(s3: SeaweedFS, caplog: pytest.LogCaptureFixture) -> None:
    store = open_store(f"{s3.bucket()}/folder")
    store.write("file", b"content")
    s3.stop()
    # Answers of a starting server must not be taken for a missing file or wrong credentials.
    stopped = threading.Event()
    answers: set[object] = set()

    def ask() -> None:
        reader = open_store(store.url)
        while not stopped.is_set():
            try:
                answers.add((reader.read("file"), reader.size("file"), tuple(reader.files())))
            except Exception as error:
                answers.add(repr(error))

    threads = [threading.Thread(target=ask) for _ in range(2)]
    for thread in threads:
        thread.start()
    time.sleep(1)
    s3.start()
    store.write("other", b"content")
    stopped.set()
    for thread in threads:
        thread.join(60)
    assert answers <= {(b"content", 7, ("file",)), (b"content", 7, ("file", "other"))}
    assert store.read("other") == b"content"


def _read(url: str, results) -> None:
    results.put(open_store(url).read("file"))


@pytest.mark.parametrize("method", ["fork", "forkserver"])
def test_a_child_process_connects_again(store: Store, method: str) -> None:
    store.write("file", b"content")
    context = multiprocessing.get_context(method)
    results = context.SimpleQueue()
    children = [context.Process(target=_read, args=(store.url, results)) for _ in range(2)]
    for child in children:
        child.start()
    assert store.read("file") == b"content"
    for child in children:
        child.join(60)
        assert child.exitcode == 0
        assert results.get() == b"content"
