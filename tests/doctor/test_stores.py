"""The probes of data and output: each right and each mistake has its line, and nothing is left in the store."""

import pytest

from hardviews.cli import main
from tests.fake_s3 import DENIED, Refusal
from tests.s3 import SECRET_KEY

ALL = ("endpoint", "clock", "list", "read", "delete", "write", "conditional write", "multipart")


def test_a_store_that_allows_everything(s3, probe):
    bucket = s3.bucket()
    found = probe("output", output=f"{bucket}/runs/first")
    assert {name: found[name].state for name in ALL} == dict.fromkeys(ALL, "ok")
    assert found["credentials"].text == "from the environment (AWS_ACCESS_KEY_ID)"
    assert s3.client().find(bucket) == []


def test_data_are_only_read_unless_it_is_asked_to_write(s3, probe):
    bucket = s3.bucket()
    found = probe("data", data=f"{bucket}/shards")
    assert (found["list"].state, found["read"].state, found["write"].state) == ("ok", "ok", "skipped")
    assert "--write" in found["write"].remedy
    assert found["dataset"].state == "warning" and "hardviews pack" in found["dataset"].remedy
    s3.client().pipe_file(f"{bucket}/shards/train/index.json", b"{}")
    found = probe("data", data=f"{bucket}/shards", write=True)
    assert found["dataset"].text == "packed, train"
    assert found["multipart"].state == "ok"
    assert s3.client().find(bucket) == [f"{bucket[5:]}/shards/train/index.json"]


def test_a_key_that_may_only_read(s3, probe, monkeypatch):
    for name, value in s3.read_only.items():
        monkeypatch.setenv(name, value)
    found = probe("output", output=f"{s3.bucket()}/runs")
    assert found["list"].state == "ok"
    assert found["delete"].state == "missing"
    assert "s3:DeleteObject" in found["delete"].remedy
    assert found["write"].text == "a written file could not be removed again"


@pytest.mark.parametrize(
    ("variable", "value", "text"),
    [("AWS_SECRET_ACCESS_KEY", "wrong-secret", "refused the signature"), ("AWS_ACCESS_KEY_ID", "nobody", "access key")],
)
def test_wrong_credentials(s3, probe, monkeypatch, variable, value, text):
    bucket = s3.bucket()
    monkeypatch.setenv(variable, value)
    found = probe("data", data=f"{bucket}/d")
    assert found["list"].state == "missing" and text in found["list"].text
    assert "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY" in found["list"].remedy
    assert found["read"].state == "skipped" and "dataset" not in found
    assert value not in str(found)


def test_no_bucket(s3, probe):
    found = probe("output", output="s3://no-such-bucket/runs")
    assert "no bucket" in found["list"].text and "aws s3 mb" in found["list"].remedy
    assert found["multipart"].state == "skipped"


def test_no_credentials(fake_s3, probe, monkeypatch):
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    found = probe("data", data=fake_s3.url)
    assert found["credentials"].state == "missing" and "AWS_PROFILE" in found["credentials"].remedy
    assert fake_s3.asked == []


def test_credentials_of_a_file(fake_s3, probe, monkeypatch, tmp_path):
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    (tmp_path / ".aws").mkdir()
    (tmp_path / ".aws" / "credentials").write_text("[default]\naws_access_key_id = a\naws_secret_access_key = bbbbbb\n")
    assert "credentials file" in probe("data", data=fake_s3.url)["credentials"].text


def test_nothing_listens(fake_s3, probe, monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    found = probe("data", data="s3://bucket/d")
    assert "nothing listens at http://127.0.0.1:9" in found["list"].text
    assert "AWS_ENDPOINT_URL" in found["list"].remedy


@pytest.mark.parametrize(
    ("operation", "what"),
    [("ListObjectsV2", "list"), ("DeleteObject", "delete"), ("PutObject", "write"), ("Multipart", "multipart")],
)
def test_one_right_that_is_missing(fake_s3, states, operation, what):
    fake_s3.refuse(operation, by=DENIED)
    found = states("output", output=f"{fake_s3.url}/runs")
    assert found[what] == "missing"
    # The small server of this test keeps no parts of an upload.
    assert {name for name, state in found.items() if state == "missing"} <= {what, "multipart"}
    assert fake_s3.files == {}


def test_a_server_that_overwrites_what_must_be_new(fake_s3, probe):
    fake_s3.conditional = False
    found = probe("output", output=f"{fake_s3.url}/runs")
    assert found["conditional write"].state == "missing" and "If-None-Match" in found["conditional write"].remedy
    assert fake_s3.files == {}


def test_a_clock_that_is_wrong(fake_s3, probe):
    fake_s3.refuse("ListObjectsV2", by=Refusal(403, "RequestTimeTooSkewed"))
    assert "clock is wrong" in probe("data", data=fake_s3.url)["list"].text


def test_folders_of_this_machine(tmp_path, probe):
    found = probe("output", output=str(tmp_path / "runs"))
    assert found["write"].state == "ok" and not (tmp_path / "runs").exists()
    assert probe("data", data=str(tmp_path))["dataset"].state == "warning"
    assert probe("output", output="/proc/runs")["output"].state == "missing"


def test_what_is_not_named_is_skipped(states):
    assert states("data") == {"data": "skipped"}
    assert states("output") == {"output": "skipped"}
    assert states("MLflow") == {"MLflow": "skipped"}


def test_the_report_of_a_store_shows_no_secret(s3, capfd, monkeypatch):
    monkeypatch.setenv("HARDVIEWS_OUTPUT", f"{s3.bucket()}/runs")
    main(["doctor", "--timeout", "120"])
    printed = "".join(capfd.readouterr())
    assert "  ok       multipart " in printed and SECRET_KEY not in printed
