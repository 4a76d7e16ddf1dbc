"""The form of an address: what is one, and what only looks like a folder of this machine."""

import pytest

from hardviews.errors import UserError
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
        *("memory://x", "https://h/x", "S3-data", "files//x", "C"),
    ],
)
def test_what_is_right_is_taken(address: str) -> None:
    assert mistake(address) is None
    check_given(output=address, data=None)


def test_a_cache_is_a_folder_of_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    for given in ("s3://bucket/cache", "s3:/cache"):
        monkeypatch.setenv("HARDVIEWS_CACHE", given)
        with pytest.raises(UserError, match="HARDVIEWS_CACHE"):
            cache_folder()
    monkeypatch.setenv("HARDVIEWS_CACHE", "/cache")
    assert cache_folder() == "/cache"
    check_here(project="folder", data=None)
