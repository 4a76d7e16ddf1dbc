"""The form of an address: valid ones, and those that only look like a folder of this machine."""

from collections.abc import Callable

import pytest

from hardviews.data.pack_command import Packing
from hardviews.errors import UserError
from hardviews.evaluation.probes.knn import Knn
from hardviews.runs.audit import Audit
from hardviews.runs.where import Where
from hardviews.storage.store import open_store
from hardviews.storage.url import cache_folder, check_given, check_here, mistake


@pytest.mark.parametrize(
    ("address", "words"),
    [
        ("s3:/bucket/set", "Write s3://bucket/set;"),
        ("s3:bucket/set", "Write s3://bucket/set;"),
        ("S3:/bucket", "Write s3://bucket;"),
        ("s3//bucket/set", "Write s3://bucket/set;"),
        ("s3;//bucket/set", "Write s3://bucket/set;"),
        ("s3 ://bucket/set", "Write s3://bucket/set;"),
        ("s3:\\\\bucket\\set", "Write s3://bucket/set;"),
        ("s3:", "Write s3://bucket/folder;"),
        ("s3:///bucket/set", "Write s3://bucket/set"),
        ("s3://", "does not name a bucket. Write s3://bucket/folder"),
        ("s3:///", "does not name a bucket. Write s3://bucket/folder"),
        ("gs://", "does not name a bucket. Write gs://bucket/folder"),
        ("gs:///", "does not name a bucket. Write gs://bucket/folder"),
        ("https://", "does not name a host. Write https://host/folder"),
        ("file://", "does not name a folder. Write file:///folder"),
        ("memory://", "does not name a folder. Write memory:///folder"),
        ("S3://bucket/set", "Write s3://bucket/set"),
        (" s3://bucket/set", "Write s3://bucket/set"),
        ("arn:aws:s3:::bucket/set", "Write s3://bucket/set;"),
        ("http:/host/set", "Write http://host/set;"),
        ("gs:bucket", "Write gs://bucket;"),
        ("file:/data/set", "Write /data/set;"),
        ("file:data", "Write /data;"),
        ("C:\\data", "Windows"),
        ("D:/data", "Windows"),
        ("\\\\server\\share", "Windows"),
        ("server:/export/data", "neither a path nor an address"),
        ("user@server:/export/data", "neither a path nor an address"),
        ("", "is empty"),
    ],
)
def test_what_is_mistyped_is_refused_with_the_right_form(address: str, words: str) -> None:
    assert words in (mistake(address) or "")
    with pytest.raises(UserError, match=r"^--output "):
        check_given(output=address)


@pytest.mark.parametrize(
    "address",
    [
        *("runs/1", "/data/set", "./s3:/bucket", "../x", "~/data", "s3", "s3/bucket", "a b", "run:1", "lr=0.1:2"),
        *("runs/2026-01-01T10:00", "s3://bucket", "s3://bucket/a:b//c", "gs://b/x", "http://h:80/x", "file:///data"),
        *("memory://x", "memory:///x", "hdfs:///x", "https://h/x", "S3-data", "files//x", "C"),
    ],
)
def test_what_is_right_is_taken(address: str) -> None:
    assert mistake(address) is None
    check_given(output=address, data=None)


@pytest.mark.parametrize("address", ["s3://", "s3:///", "gs://"])
def test_every_option_that_takes_an_address_refuses_one_without_a_place(address: str) -> None:
    makers: dict[str, Callable[[], object]] = {
        "out": lambda: Packing("digits", address),
        "source": lambda: Packing(address, "out"),
        "output": lambda: Where("data", address),
        "data": lambda: Where(address, "output"),
        "run": lambda: Audit(address),
        "test": lambda: Knn("run", train="data", test=address),
    }
    for option, make in makers.items():
        with pytest.raises(UserError, match=f"^--{option} {address} does not name a bucket"):
            make()
    with pytest.raises(UserError, match="does not name a bucket"):
        open_store(address)


def test_a_cache_is_a_folder_of_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    for given in ("s3://bucket/cache", "s3:/cache"):
        monkeypatch.setenv("HARDVIEWS_CACHE", given)
        with pytest.raises(UserError, match="HARDVIEWS_CACHE"):
            cache_folder()
    monkeypatch.setenv("HARDVIEWS_CACHE", "/cache")
    assert cache_folder() == "/cache"
    check_here(project="folder", data=None)


@pytest.mark.parametrize(
    "address", ["s3://key:pw-of-mine@team/runs", "s3://:pw-of-mine@team/runs", "gs://pw-of-mine@b/x"]
)
def test_credentials_in_an_address_are_refused_and_not_repeated(address: str) -> None:
    with pytest.raises(UserError, match="contains credentials") as caught:
        check_given(data=address)
    assert "pw-of-mine" not in str(caught.value) and "--data" in str(caught.value)
    check_given(data="http://user:word@host/folder", output="s3://team/folder@2026")
