"""No secret passes `masked`, whatever its form, its name, or the place that it is in."""

import base64
import json
import string
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hardviews.doctor import masking
from hardviews.doctor.masking import environment, is_secret_name, masked

SECRET = "Xq7/Zt3+Pw9Lk2Mn5Vb8Rd1Fg4Hj6Ys0Ua3Ec7Ti"  # 40 characters, as those of AWS
JWT = "eyJhbGciOiJSUzI1NiIsImtpZCI6IjEifQ.eyJpc3MiOiJrdWJlcm5ldGVzIn0.c2lnbmF0dXJlLW9mLXRva2Vu"
KEY = (
    "-----BEGIN RSA PRIVATE "
    + "KEY-----\nMIIEpAIBAAKCAQEAplanted\nbGluZXMgb2YgYSBrZXk\n-----END RSA PRIVATE "
    + "KEY-----"
)


@pytest.fixture(autouse=True)
def nothing_known(monkeypatch, tmp_path):
    """No file of the machine that runs the tests is read."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("KUBECONFIG", raising=False)


@pytest.mark.parametrize(
    ("text", "secret"),
    [
        ("see http://me:p4ssw0rd@host:5000/path", "p4ssw0rd"),
        ("postgresql://user:p4ss%2Fw0rd@host/db", "p4ss%2Fw0rd"),
        (f"aws_secret_access_key = {SECRET}", SECRET),
        (f"AWS_SECRET_ACCESS_KEY={SECRET}", SECRET),
        (f"the key is {SECRET}, alone", SECRET),
        ("id AKIAIOSFODNN7EXAMPLE", "AKIAIOSFODNN7EXAMPLE"),
        ("id ASIAIOSFODNN7EXAMPLE", "ASIAIOSFODNN7EXAMPLE"),
        ('{"Authorization": "Bearer abcdefghijkl.mnop"}', "abcdefghijkl"),
        ("Authorization: Basic bWU6cGxhbnRlZA==", "bWU6cGxhbnRlZA"),
        ("authorization: AWS4-HMAC-SHA256 Credential=AKIA/20261130/x, Signature=fe5f80f77d5fa3beca", "fe5f80f77d5f"),
        ("curl -H 'Authorization: token abcdef123456'", "abcdef123456"),
        ("Cookie: session=abcdef123456", "abcdef123456"),
        ("https://b.s3.amazonaws.com/k?X-Amz-Credential=AK%2Fx&X-Amz-Signature=0123abcdef", "0123abcdef"),
        ("https://b/k?x=1&X-Goog-Signature=0123abcdef&y=2", "0123abcdef"),
        ("https://acct.blob/k?sv=2022&sig=abc%2Fdef%3D", "abc%2Fdef"),
        ("https://host/x?api_key=0123abcdef", "0123abcdef"),
        (f"token: {JWT}", JWT),
        (f"a line with {JWT} in it", JWT),
        (f"before\n{KEY}\nafter", "MIIEpAIBAAKCAQEAplanted"),
        (KEY.partition("MII")[1] + KEY.partition("MII")[2], "AKCAQEAplanted"),
        ("client-key-data: LS0tLS1CRUdJTiBSU0EgUFJJVkFURSBLRVktLS0tLQ==", "LS0tLS1CRUdJTiBSU0EgUFJJVkFURSBLRVk"),
        ("password='two words here'", "two words here"),
        ('"db_password": "pass\\"word more"', "word more"),
        ("MLFLOW_TRACKING_PASSWORD=hunter22", "hunter22"),
        ("ghp_0123456789abcdefghijABCDEFGHIJ012345", "ghp_0123456789abcdefghij"),
        ("hf_0123456789abcdefghijABCDEFGHIJ", "hf_0123456789abcdefghij"),
        ("curl -u admin:hunter2pass https://host/x", "hunter2pass"),
        ("client --password hunter2pass --verbose", "hunter2pass"),
        ("mysql -phunter2pass db", "hunter2pass"),
        ("docker login -u me -p hunter2pass registry", "hunter2pass"),
        ("AccountName=a;AccountKey=aHVudGVyMnBhc3M=;x", "aHVudGVyMnBhc3M"),
        ("the password is hunter2pass", "hunter2pass"),
        ("Passwort: hunterpass", "hunterpass"),
        ("root:$6$saltsalt$hashhashhash:19000:0", "hashhashhash"),
        ("export DATABRICKS_TOKEN=dapi0123456789abcdef0123456789abcdef", "dapi0123456789abcdef"),
    ],
)
def test_secrets_of_every_form_are_replaced(text, secret):
    assert secret in text
    result = masked(text)
    assert secret not in result
    assert "***" in result


@pytest.mark.parametrize(
    "text",
    [
        "commit 0fc7e18a6b7c8d9e0f1a2b3c4d5e6f7a8b9c0d1e",
        "method.patch_tokens = 196",
        "tokens: none",
        '"predict_token": false',
        "loader.workers: 4, key encoder of MoCo",
        "s3://bucket/runs/first/checkpoints/step-00000012/manifest.json",
        "step 12, loss 5.4321",
        "it refuses our credentials: set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD to valid ones",
        "new token: patch embedding",
        "GET /bucket?list-type=2&max-keys=1 200",
        "hardviews linear -u 3",
    ],
)
def test_what_is_no_secret_stays(text):
    assert masked(text) == text


@given(
    value=st.text(string.ascii_letters + string.digits + "/+!$%&@#", min_size=8, max_size=40),
    before=st.sampled_from(["", "x", "\n", "'", "= ", "("]),
    after=st.sampled_from(["", "x", "\n", "'", ") and"]),
)
def test_a_value_of_the_environment_is_replaced_wherever_it_is(value, before, after):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MY_SECRET", value)
        if masking._PLAIN_VALUE.fullmatch(value):
            return
        for form in (value, quote(value, safe=""), json.dumps(value), base64.b64encode(value.encode()).decode()):
            assert value not in masked(f"{before}{form}{after}")
            if form.isalnum():
                assert form not in masked(f"{before}{form}{after}")


def test_secrets_of_files_are_known(tmp_path, monkeypatch):
    (tmp_path / ".aws").mkdir()
    (tmp_path / ".aws" / "credentials").write_text("[default]\naws_secret_access_key = plainwordsecret\n")
    (tmp_path / ".netrc").write_text("machine m login l password netrcpassword\n")
    kubeconfig = tmp_path / "config"
    kubeconfig.write_text("users:\n- name: u\n  user:\n    token: clustertoken1\n    client-key-data: a2V5ZGF0YQ==\n")
    monkeypatch.setenv("KUBECONFIG", str(kubeconfig))
    monkeypatch.setenv("STORE", "http://me:inanaddress@host")
    token = tmp_path / "web-token"
    token.write_text("webidentitytoken\n")
    monkeypatch.setenv("AWS_WEB_IDENTITY_TOKEN_FILE", str(token))
    words = "plainwordsecret netrcpassword clustertoken1 a2V5ZGF0YQ== inanaddress webidentitytoken"
    assert masked(words) == " ".join(["***"] * 6)
    assert masked(str(token)) == str(token)  # the name of a file is no secret


def test_the_name_of_a_container_s_user_does_not_garble_the_records(monkeypatch, tmp_path):
    monkeypatch.setenv("USER", "data")
    monkeypatch.setenv("HOME", str(tmp_path / "workspace"))
    text = '{"data": "s3://bucket/shards", "data_wait": 0.1, "at": "/mnt/workspace/x"}'
    assert masked(text, personal=True) == text


def test_variables_with_the_names_of_secrets_are_left_out():
    given = {
        "AWS_SECRET_ACCESS_KEY": "x",
        "AWS_ACCESS_KEY_ID": "x",
        "MLFLOW_TRACKING_TOKEN": "x",
        "MLFLOW_TRACKING_PASSWORD": "x",
        "GITHUB_TOKEN": "x",
        "HARDVIEWS_SECRETS": "store",
        "MLFLOW_TRACKING_URI": "http://me:password1@host",
        "OMP_NUM_THREADS": "1",
    }
    assert environment(given) == {
        "HARDVIEWS_SECRETS": "store",
        "MLFLOW_TRACKING_URI": "http://***@host",
        "OMP_NUM_THREADS": "1",
    }
    assert not is_secret_name("HARDVIEWS_KEEPER")


def test_people_are_replaced(monkeypatch, tmp_path):
    home = "/ho" + "me/alicexyz"
    monkeypatch.setenv("HOME", home)
    monkeypatch.setenv("USER", "alicexyz")
    text = f"{home}/runs/first by alicexyz; /ho" + "me/bob/data; alicexyzw"
    assert masked(text, personal=True) == "~/runs/first by USER; /ho" + "me/USER/data; alicexyzw"
    assert masked(text) == text


def test_a_long_line_takes_no_time_by_its_square():
    assert len(masked("a" * 50_000)) == 50_000
