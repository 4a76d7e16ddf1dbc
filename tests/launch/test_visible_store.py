"""Whether the store of a job is visible from the machine that submits the job."""

import pytest

from hardviews.launch.visible_store import StoreOfJob, visible_store

KEYS = {"AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret"}
INSIDE, FORWARDED = {"AWS_ENDPOINT_URL": "http://store:8333"}, {"AWS_ENDPOINT_URL": "http://localhost:8333"}
OTHER = {"AWS_ACCESS_KEY_ID": "another"}


@pytest.fixture(autouse=True)
def no_credentials_file(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))


@pytest.mark.parametrize(
    ("job", "here", "endpoint"),
    [
        # The same endpoint, wherever it is said.
        (StoreOfJob(INSIDE | KEYS), INSIDE | KEYS, "http://store:8333"),
        (StoreOfJob({"AWS_ENDPOINT_URL_S3": "http://store:8333/"}), INSIDE | KEYS, "http://store:8333"),
        (StoreOfJob(KEYS), KEYS, None),
        (StoreOfJob({}), KEYS, None),
        # A forwarded port, known by its key.
        (StoreOfJob(INSIDE | KEYS), FORWARDED | KEYS, "http://localhost:8333"),
        # Keys alone: the job's endpoint may be reached from here.
        (StoreOfJob(INSIDE | KEYS), KEYS, "http://store:8333"),
        # Nothing names the job's store: then it is the one that is named here.
        (StoreOfJob({}, complete=False), FORWARDED | KEYS, "http://localhost:8333"),
        (StoreOfJob({}), FORWARDED | KEYS, "http://localhost:8333"),
    ],
)
def test_a_store_that_is_the_jobs_is_looked_at(job, here, endpoint):
    store = visible_store(job, here | {"PATH": "/bin"})
    assert store is not None
    assert store.get("AWS_ENDPOINT_URL") == endpoint
    assert store["AWS_ACCESS_KEY_ID"] == "key"
    assert "PATH" not in store


@pytest.mark.parametrize(
    ("job", "here"),
    [
        (StoreOfJob({}), {}),  # no credentials
        (StoreOfJob(INSIDE), INSIDE),
        (StoreOfJob(INSIDE | OTHER), FORWARDED | KEYS),  # another store on this machine
        (StoreOfJob(KEYS | OTHER), FORWARDED | KEYS),  # the job's is Amazon's
        (StoreOfJob(INSIDE | KEYS), {"AWS_ENDPOINT_URL": "https://elsewhere"} | KEYS),
        (StoreOfJob({}, complete=False), KEYS),  # a Secret that we may not read may hold an endpoint
    ],
)
def test_another_store_is_not(job, here):
    assert visible_store(job, here) is None


def test_credentials_may_lie_in_a_file(tmp_path):
    assert visible_store(StoreOfJob({}), {}) is None
    (tmp_path / ".aws").mkdir()
    (tmp_path / ".aws" / "credentials").touch()
    assert visible_store(StoreOfJob({}), {}) is not None
