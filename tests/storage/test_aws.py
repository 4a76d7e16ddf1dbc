"""The configuration of the AWS clients: a mistake that no waiting heals is named at once, by its variable or file."""

import os
from pathlib import Path

import pytest

from hardviews.storage.failures import Misconfigured, Unreachable
from hardviews.storage.store import open_store

KEYS = {"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "very-secret"}
FILES = {
    "broken": "no section\n[x\n",
    "half": "[default]\naws_access_key_id = a\n",
    "region": "[default]\nregion = no such\n",
    "bundle": "[default]\nca_bundle = /nope\n",
    "settings": "[default]\ns3 =\n  addressing_style = odd\n",
    "endpoint": "[default]\nendpoint_url = nope\n",
    "role": "[profile p]\nsource_profile = q\nrole_arn = arn:aws:iam::1:role/x\n",
    "login": "[profile p]\nsso_start_url = http://h\nsso_region = us-east-1\nsso_account_id = 1\nsso_role_name = r\n",
    "program": "[profile p]\ncredential_process = /nope/program\n",
}


@pytest.fixture(autouse=True)
def environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Leave no setting of this machine in place; return the folder that has `FILES`."""
    for name in os.environ:
        if name.startswith("AWS_") or name.upper().endswith(("_PROXY", "_BUNDLE")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    for name, text in FILES.items():
        (tmp_path / name).write_text(text)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def set_all(monkeypatch: pytest.MonkeyPatch, variables: dict[str, str]) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)


@pytest.mark.parametrize(
    ("variables", "words"),
    [
        ({"AWS_PROFILE": "nope"}, "AWS_PROFILE is 'nope', and neither ~/.aws/config nor"),
        ({"AWS_DEFAULT_PROFILE": "nope"}, "AWS_DEFAULT_PROFILE is 'nope', and"),
        ({"AWS_CA_BUNDLE": "/nope"}, "AWS_CA_BUNDLE names '/nope', which is not a file of certificates"),
        ({"AWS_CA_BUNDLE": "broken"}, "AWS_CA_BUNDLE names 'broken', which is not a file of certificates"),
        ({"AWS_CA_BUNDLE": "/"}, "AWS_CA_BUNDLE names '/', which is not a file of certificates"),
        ({"REQUESTS_CA_BUNDLE": "/nope"}, "REQUESTS_CA_BUNDLE names '/nope'"),
        ({"AWS_CONFIG_FILE": "bundle"}, "The ca_bundle in bundle is not a file of certificates"),
        ({"AWS_CONFIG_FILE": "broken"}, "broken, which AWS_CONFIG_FILE names, cannot be read"),
        ({"AWS_SHARED_CREDENTIALS_FILE": "broken"}, "broken, which AWS_SHARED_CREDENTIALS_FILE names, cannot be read"),
        ({"AWS_REGION": "no such"}, "AWS_REGION is 'no such', which is not the name of a region"),
        ({"AWS_DEFAULT_REGION": "no such"}, "AWS_DEFAULT_REGION is 'no such'"),
        ({"AWS_CONFIG_FILE": "region"}, "The region in region is 'no such'"),
        ({"AWS_ENDPOINT_URL": "localhost:9"}, "AWS_ENDPOINT_URL is 'localhost:9', which is not an address"),
        ({"AWS_ENDPOINT_URL": "http://"}, "AWS_ENDPOINT_URL is 'http://', which is not an address"),
        ({"AWS_ENDPOINT_URL": "http://h:99999"}, "AWS_ENDPOINT_URL is 'http://h:99999', which is not an address"),
        ({"AWS_ENDPOINT_URL": "ftp://h"}, "AWS_ENDPOINT_URL is 'ftp://h', which is not an address"),
        ({"AWS_ENDPOINT_URL_S3": "nope"}, "AWS_ENDPOINT_URL_S3 is 'nope'"),
        ({"AWS_ENDPOINT_URL": "", "AWS_CONFIG_FILE": "endpoint"}, "The endpoint_url in endpoint is not an address"),
        ({"AWS_DEFAULTS_MODE": "odd"}, "odd. Valid defaults modes include.*Correct it in AWS_DEFAULTS_MODE"),
        ({"AWS_REQUEST_CHECKSUM_CALCULATION": "odd"}, "Correct it in AWS_REQUEST_CHECKSUM_CALCULATION"),
        ({"AWS_CONFIG_FILE": "settings"}, "S3 addressing style odd is invalid.*Correct it in .*settings"),
        ({"AWS_ACCESS_KEY_ID": "a\n"}, "AWS_ACCESS_KEY_ID has a blank or a line break"),
        ({"AWS_SECRET_ACCESS_KEY": " very-secret"}, "AWS_SECRET_ACCESS_KEY has a blank or a line break"),
    ],
)
def test_a_mistake_is_named_at_once(monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], words: str) -> None:
    set_all(monkeypatch, KEYS | variables)
    with pytest.raises(Misconfigured, match=words) as refusal:
        # Whoever waits this out makes the test fail by its time.
        open_store("s3://bucket/folder", patience=600).size("run.json")
    assert "server runs" not in str(refusal.value) and "very-secret" not in str(refusal.value)
    assert str(refusal.value).startswith("s3://bucket/folder cannot be reached. ")


@pytest.mark.parametrize(
    ("variables", "words"),
    [
        ({}, "No credentials were found. Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"),
        ({"AWS_ACCESS_KEY_ID": "a"}, "not complete .*missing: AWS_SECRET_ACCESS_KEY"),
        ({"AWS_SECRET_ACCESS_KEY": "b"}, "AWS_ACCESS_KEY_ID is not set, although AWS_SECRET_ACCESS_KEY is"),
        ({"AWS_SHARED_CREDENTIALS_FILE": "half"}, "not complete .*missing: aws_secret_access_key"),
        ({"AWS_SHARED_CREDENTIALS_FILE": "/nope"}, "AWS_SHARED_CREDENTIALS_FILE names /nope, which is no file"),
        ({"AWS_METADATA_SERVICE_TIMEOUT": "x"}, "Correct it in AWS_METADATA_SERVICE_TIMEOUT"),
        ({"AWS_CONFIG_FILE": "role", "AWS_PROFILE": "p"}, 'The source_profile "q" .*Correct it in AWS_PROFILE'),
        ({"AWS_CONFIG_FILE": "login", "AWS_PROFILE": "p"}, "There is no valid login .*aws sso login"),
        ({"AWS_CONFIG_FILE": "program", "AWS_PROFILE": "p"}, "cannot use the file /nope/program"),
        (
            {"AWS_ROLE_ARN": "arn:aws:iam::1:role/x", "AWS_WEB_IDENTITY_TOKEN_FILE": "/nope"},
            "cannot use the file /nope, which AWS_WEB_IDENTITY_TOKEN_FILE names",
        ),
    ],
)
def test_missing_credentials_are_no_missing_file(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, variables: dict[str, str], words: str
) -> None:
    set_all(monkeypatch, variables)
    with pytest.raises(Misconfigured, match=words):
        open_store("s3://bucket/folder", patience=600).size("run.json")
    assert not caplog.records, "the clients log a traceback"


@pytest.mark.parametrize(
    ("variables", "words"),
    [
        ({}, "nothing listens at http://127.0.0.1:1"),
        ({"http_proxy": "http://127.0.0.1:1"}, "Requests go through the proxy that http_proxy names"),
        ({"AWS_ENDPOINT_URL": "", "AWS_REGION": "nosuch"}, "The name is made of the region: AWS_REGION is 'nosuch'"),
    ],
)
def test_a_server_that_is_away_is_waited_for(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], words: str
) -> None:
    set_all(monkeypatch, KEYS | variables)
    if "AWS_REGION" in variables:
        monkeypatch.setattr("hardviews.storage.failures.is_unknown_host", lambda error: True)
    with pytest.raises(Unreachable, match=words):
        open_store("s3://bucket/folder", patience=0).size("run.json")


def test_credentials_whose_source_is_away_are_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", "http://127.0.0.1:1/credentials")
    with pytest.raises(Unreachable, match=r"no credentials could be retrieved .*Check the source of the credentials"):
        open_store("s3://bucket/folder", patience=0).size("run.json")
