"""The checks of `helm test`, each failure in plain words."""

import shutil

import pytest
from mlflow.tracking import MlflowClient

from hardviews.errors import UserError
from hardviews.launch.chart import release_check
from hardviews.launch.chart.release_check import (
    Left,
    check_data,
    check_gpus,
    check_jobs,
    check_names,
    check_queue,
    check_store,
    main,
)
from hardviews.launch.kubernetes.cluster import JOBS
from hardviews.storage.store import open_store
from hardviews.tracking.uri import default_uri
from tests.charts.rendering import of_kind
from tests.fake_s3 import Refusal
from tests.launch.kubernetes.clusters import HOME, QUEUES, Few, refusal
from tests.stores import empty_store
from tests.tracking.servers import answering, free_port


def nodes(*gpus):
    return {"items": [{"status": {"allocatable": {"nvidia.com/gpu": str(number)}}} for number in gpus] + [{}]}


def test_names_resolve():
    assert check_names(["http://localhost:5000", "", "s3://"], 0) == "localhost resolves"


def test_a_name_that_nobody_knows_is_named():
    with pytest.raises(UserError, match=r"The name nobody\.invalid does not resolve.*SERVICE\.NAMESPACE"):
        check_names(["http://localhost", "http://nobody.invalid:9"], 0)


def test_without_servers_names_are_left_out():
    with pytest.raises(Left, match="no server is named"):
        check_names([""], 0)


def test_a_store_is_written_read_and_left_as_it_was(fake_s3):
    url = f"{fake_s3.url}/run"
    assert check_store(url, 1) == f"{url} can be written and read"
    assert open_store(url).files() == []


def test_a_store_that_takes_nothing_is_named(fake_s3):
    fake_s3.refuse("PutObject", by=Refusal(403, "AccessDenied"))
    with pytest.raises(UserError, match=r"run"):
        check_store(f"{fake_s3.url}/run", 1)


def test_a_store_that_cannot_be_read_is_named(fake_s3):
    fake_s3.refuse("HeadObject", "GetObject", "ListObjectsV2", by=Refusal(403, "AccessDenied"))
    with pytest.raises(UserError):
        check_data(f"{fake_s3.url}/data", 1)


def test_data_may_come_later(fake_s3):
    url = f"{fake_s3.url}/data"
    assert check_data(url, 1).endswith("nothing is packed there yet")
    open_store(f"{url}/train").write("index.json", b"{}")
    assert check_data(url, 1) == f"{url} can be read"


@pytest.mark.parametrize("check", [check_store, check_data])
def test_a_volume_is_left_out(check):
    with pytest.raises(Left, match="a volume"):
        check("/data/x", 1)
    with pytest.raises(Left, match="named"):
        check("", 1)


def test_mlflow_takes_a_record_and_keeps_none(tmp_path):
    folder = tmp_path / "project"
    shutil.copytree(empty_store(), folder)
    uri = default_uri(folder)
    assert release_check.check_tracking(uri) == f"{uri} takes records"
    assert release_check.check_tracking(uri)  # the experiment is there already
    client = MlflowClient(uri)
    (experiment,) = [each for each in client.search_experiments() if each.name == "hardviews helm test"]
    assert client.search_runs([experiment.experiment_id]) == []


def test_a_server_that_is_no_mlflow_is_named():
    with answering(403, b"forbidden") as address, pytest.raises(UserError, match="did not take a record"):
        release_check.check_tracking(address)


def test_a_password_in_an_address_is_not_printed():
    with pytest.raises(UserError) as caught:
        release_check.check_tracking(f"http://me:hidden@127.0.0.1:{free_port()}")
    assert "hidden" not in str(caught.value)


def test_queues():
    cluster = Few()
    assert check_queue(cluster, "default") == "the queue default is open"
    with pytest.raises(UserError, match="no queue other"):
        check_queue(cluster, "other")
    cluster.objects[f"{QUEUES}/default"] = {"status": {"state": "Closed"}}
    with pytest.raises(UserError, match="it is Closed"):
        check_queue(cluster, "default")
    cluster.objects[f"{QUEUES}/default"] = refusal(403, "forbidden")
    with pytest.raises(Left, match="may not read queues"):
        check_queue(cluster, "default")
    with pytest.raises(Left, match="rbac"):
        check_queue(cluster, "")


def test_gpus():
    cluster = Few()
    cluster.objects["/api/v1/nodes"] = nodes(0, 4)
    assert check_gpus(cluster, 4) == "a node has 4 GPUs"
    with pytest.raises(UserError, match=r"asks for 8 GPUs.*no node has more than 4"):
        check_gpus(cluster, 8)
    with pytest.raises(Left):
        check_gpus(cluster, 0)
    cluster.objects["/api/v1/nodes"] = refusal(403, "forbidden")
    with pytest.raises(Left):
        check_gpus(cluster, 1)


def released():
    """A cluster with the jobs of a release in the namespace n, which nothing lacks."""
    given = {"image": "hardviews:1", "data": "s3://b/d", "output": "s3://b/o", "tracking": "http://m:5000"}
    found = of_kind("Job", {**given, "secrets": ["store"], "knn": {"enabled": True}, "pretrain": {"enabled": True}})
    cluster = Few()
    cluster.objects[f"{JOBS}/namespaces/n/jobs"] = {"items": found}
    cluster.objects[f"{HOME}/secrets/store"] = {"data": {"AWS_ACCESS_KEY_ID": "x", "AWS_SECRET_ACCESS_KEY": "y"}}
    cluster.objects[f"{HOME}/serviceaccounts/default"] = {}
    for kind in ("resourcequotas", "limitranges"):
        cluster.objects[f"{HOME}/{kind}"] = {"items": []}
    return cluster


def test_jobs_that_lack_nothing():
    assert check_jobs(released(), "n", "demo") == "pretrain, knn lack nothing that this pod may see"


def test_a_secret_that_is_not_there_is_named_once_for_all_jobs():
    cluster = released()
    del cluster.objects[f"{HOME}/secrets/store"]
    with pytest.raises(UserError, match=r"pretrain, knn: The namespace n has no secret store") as caught:
        check_jobs(cluster, "n", "demo")
    assert str(caught.value).count("no secret store") == 1


def test_a_job_that_its_queue_never_has_room_for():
    cluster = released()
    cluster.objects[f"{QUEUES}/default"] = {"spec": {"capability": {"cpu": "1"}}, "status": {"state": "Open"}}
    with pytest.raises(UserError, match=r"The queue default allows 1 of cpu in all.*it never fits"):
        check_jobs(cluster, "n", "demo")


def test_jobs_that_are_over_need_nothing():
    cluster = released()
    del cluster.objects[f"{HOME}/secrets/store"]
    for made in cluster.objects[f"{JOBS}/namespaces/n/jobs"]["items"]:
        made["status"] = {"state": {"phase": "Completed"}}
    with pytest.raises(Left, match="no job waits or runs"):
        check_jobs(cluster, "n", "demo")


def test_jobs_that_may_not_be_read_are_left_out():
    cluster = released()
    cluster.objects[f"{JOBS}/namespaces/n/jobs"] = refusal(403, "forbidden")
    for namespace in ("n", ""):
        with pytest.raises(Left, match="read jobs"):
            check_jobs(cluster, namespace, "demo")


def test_every_check_has_a_line_and_one_failure_fails(fake_s3, capsys):
    cluster = Few()
    words = ["--data", f"{fake_s3.url}/d", "--output", f"{fake_s3.url}/o", "--queue", "default", "--patience", "1"]
    assert main(words, cluster) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == ["names", "data", "output", "tracking", "queue", "jobs", "gpus"]
    said = [line[9:18].strip() for line in lines]
    assert said == ["passed", "passed", "passed", "left out", "passed", "left out", "left out"]
    assert main([*words, "--queue", "other"], cluster) == 1
    assert "queue    FAILED   The cluster has no queue other" in capsys.readouterr().out
