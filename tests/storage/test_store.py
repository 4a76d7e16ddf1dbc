"""The store: ranges, retries, and processes."""

import multiprocessing
import os
import pickle
import random
import socket
import threading
import time
from pathlib import Path

import fsspec
import pytest
from fsspec.implementations.memory import MemoryFileSystem

from hardviews.errors import UserError
from hardviews.storage import patience
from hardviews.storage import remote_store as module
from hardviews.storage.failures import Unreachable
from hardviews.storage.store import Store, open_store
from hardviews.storage.url import lies_in
from tests.data.helpers import web_server


class Flaky(MemoryFileSystem):
    """A remote store that fails or cuts its first answers."""

    protocol = "flaky"
    cachable = False
    failures: list[Exception | int] = []  # noqa: RUF012 (an exception to raise, or bytes to leave out)

    def _answer(self, data: bytes) -> bytes:
        if not self.failures:
            return data
        failure = self.failures.pop(0)
        if isinstance(failure, Exception):
            raise failure
        return data[:-failure]

    def cat_file(self, path, start=None, end=None, **_):
        return self._answer(super().cat_file(path.replace("flaky://", "/"), start, end))

    def cat_ranges(self, paths, starts, ends, on_error="return", **_):
        assert on_error == "raise"  # the default hands exceptions back among the parts
        return [self.cat_file(path, start, end) for path, start, end in zip(paths, starts, ends, strict=True)]


fsspec.register_implementation("flaky", Flaky, clobber=True)


@pytest.fixture
def flaky(monkeypatch: pytest.MonkeyPatch) -> Store:
    monkeypatch.setattr(patience, "FIRST_PAUSE", 0.001)
    Flaky.failures = []
    fsspec.filesystem("memory").pipe_file("/bucket/file", bytes(range(200)))
    return open_store("flaky://bucket", patience=0.1)


def test_transient_failures_are_retried_and_counted(flaky: Store) -> None:
    Flaky.failures = [ConnectionResetError("reset"), TimeoutError("stalled"), 3]
    assert flaky.read("file", 10, 20) == bytes(range(10, 20))
    assert flaky.retries == 3


def test_downloads_survive_cut_answers(flaky: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PART", 7)
    Flaky.failures = [1, OSError("503 SlowDown"), 5]
    flaky.download("file", str(tmp_path / "copy"), 200)
    assert (tmp_path / "copy").read_bytes() == bytes(range(200))
    assert flaky.retries == 3
    assert flaky.requests == 29 + 3  # a part that failed is asked for again, and none of the others
    assert flaky.received == 200


def test_lasting_failures_name_the_file_and_the_reason(flaky: Store) -> None:
    Flaky.failures = [OSError("500 InternalError")] * 9999
    with pytest.raises(Unreachable, match=r"flaky://bucket/file could not be reached.*500 InternalError"):
        flaky.read("file")


def test_a_refusal_is_not_retried(flaky: Store) -> None:
    Flaky.failures = [PermissionError("403 AccessDenied")]
    with pytest.raises(UserError, match="credentials"):
        flaky.read("file")
    assert flaky.retries == 0


def test_a_missing_file_is_not_retried(flaky: Store) -> None:
    with pytest.raises(FileNotFoundError):
        flaky.read("missing")
    assert flaky.retries == 0
    assert flaky.size("missing") is None


def test_retrying_leaves_the_global_random_numbers_alone(flaky: Store) -> None:
    random.seed(0)
    state = random.getstate()
    Flaky.failures = [OSError("reset")]
    flaky.read("file")
    assert random.getstate() == state


@pytest.mark.parametrize("scheme", ["", "file://", "memory://"])
def test_files_are_published_whole_and_listed(tmp_path: Path, scheme: str) -> None:
    store = open_store(f"{scheme}{tmp_path}/folder")
    assert store.files() == []
    (tmp_path / "new").write_bytes(b"0123456789")
    store.put(str(tmp_path / "new"), "b")
    assert not (tmp_path / "new").exists()
    assert store.files() == ["b"]
    assert store.read("b") == b"0123456789"
    assert store.read("b", 2, 5) == b"234"
    assert store.size("b") == 10
    assert store.size("c") is None
    store.remove("b")
    store.remove("b")
    assert store.files() == []


@pytest.mark.parametrize("scheme", ["", "file://", "memory://"])
def test_staged_files_are_those_of_a_folder_after_the_block(tmp_path: Path, scheme: str) -> None:
    store = open_store(f"{scheme}{tmp_path}/folder")
    with store.staging("checkpoint") as folder:
        (folder / "a").write_bytes(b"first")
        (folder / "b").write_bytes(b"second")
    inside = store.inside("checkpoint")
    assert store.folders() == ["checkpoint"]
    assert {name: inside.read(name) for name in inside.files()} == {"a": b"first", "b": b"second"}
    assert folder.exists() == store.local
    store.remove_folder("checkpoint")
    assert inside.files() == []


def test_nothing_is_sent_of_a_staging_that_fails(tmp_path: Path) -> None:
    store = open_store(f"memory://{tmp_path}/folder")
    with pytest.raises(ZeroDivisionError), store.staging("checkpoint") as folder:
        (folder / "a").write_bytes(b"first")
        raise ZeroDivisionError
    assert store.folders() == [] and not folder.exists()


def test_only_an_empty_folder_is_removed(tmp_path: Path) -> None:
    store = open_store(str(tmp_path / "folder"))
    store.write("file", b"")
    store.remove_if_empty()
    assert store.files() == ["file"]
    store.remove("file")
    store.remove_if_empty()
    store.remove_if_empty()
    assert not (tmp_path / "folder").exists()


def test_a_failed_publication_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = open_store(str(tmp_path / "folder"))
    (tmp_path / "new").write_bytes(b"x")

    def fail(*_: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OSError, match="disk full"):
        store.put(str(tmp_path / "new"), "b")
    assert os.listdir(tmp_path / "folder") == []


def test_a_pickle_carries_no_connection(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"content")
    with web_server(str(tmp_path)) as url:
        store = open_store(url)
        store.read("file")
        copy = pickle.loads(pickle.dumps(store))
        assert copy._fs is None
        assert copy.read("file") == b"content"


def _read_in_child(store: Store, results) -> None:
    results.put(store.read("file", 1, 4))


@pytest.mark.parametrize("url", ["folder", "file:///tmp/folder", "s3://bucket/folder"])
def test_a_store_is_the_same_behind_a_pickle_and_with_another_patience(url: str) -> None:
    store = open_store(f"{url}/", patience=7)
    for copy in (pickle.loads(pickle.dumps(store)), store.patient(3), store.patient(None)):
        assert (copy.url, copy.path, copy.local) == (url, store.path, "s3" not in url)
        assert copy.name("file") == store.name("file")
        assert copy.inside("in").name("file") == store.name("in/file")


@pytest.mark.parametrize("method", ["fork", "forkserver", "spawn"])
def test_a_used_store_works_in_a_child_process(tmp_path: Path, method: str) -> None:
    (tmp_path / "file").write_bytes(b"content")
    with web_server(str(tmp_path)) as url:
        store = open_store(url)
        assert store.read("file") == b"content"
        context = multiprocessing.get_context(method)
        results = context.SimpleQueue()
        child = context.Process(target=_read_in_child, args=(store, results))
        child.start()
        child.join(60)
        assert child.exitcode == 0
        assert results.get() == b"ont"
        assert store.read("file") == b"content"


def test_an_unreachable_server_is_an_error_and_not_a_wait() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with pytest.raises(UserError, match="nothing listens at"):
        open_store(f"http://127.0.0.1:{port}", patience=0.3).read("file")


def test_closing_ends_a_wait(flaky: Store) -> None:
    store = open_store("flaky://bucket", patience=600)
    Flaky.failures = [OSError("500 InternalError")] * 9999
    threading.Timer(0.2, store.close).start()
    began = time.monotonic()
    with pytest.raises(Unreachable):
        store.read("file")
    assert time.monotonic() - began < 10


def test_a_web_server_is_not_written_to() -> None:
    store = open_store("http://127.0.0.1:9/folder", patience=0.1)
    with pytest.raises(UserError, match="can only be read"):
        store.write("file", b"")


@pytest.mark.parametrize(
    ("url", "folder", "inside"),
    [
        ("s3://bucket/data/train/run", "s3://bucket/data/train/", True),
        ("s3://bucket/data/train", "s3://bucket/data/train", True),
        ("s3://bucket/data/training", "s3://bucket/data/train", False),
        ("data/train", "s3://bucket/data", False),
        ("file:///data/train/run", "/data/train", True),
        ("/data/train/../run", "/data/train", False),
    ],
)
def test_what_lies_in_a_folder(url: str, folder: str, inside: bool) -> None:
    assert lies_in(url, folder) == inside
