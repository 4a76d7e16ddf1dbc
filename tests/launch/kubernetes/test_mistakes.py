"""What is refused before any cluster is asked, each mistake with its remedy."""

import pytest
import torchx.specs as specs

from hardviews.errors import UserError
from hardviews.launch import component
from hardviews.launch.kubernetes.mistakes import validate
from hardviews.launch.kubernetes.options import PodOptions
from jobs.knn import knn
from jobs.pack import pack
from jobs.pretrain import pretrain
from tests.launch.kubernetes.jobs import job

NOTHING = PodOptions()


def test_a_job_without_mistakes_has_none():
    assert validate(job(), NOTHING) == []
    assert validate(pretrain(), NOTHING) == []  # placeholders: a dry run shows them
    assert validate(pack(source="digits", image="i", data="s3://b/d"), NOTHING) == []
    assert validate(job(data="/data/x", mount=["type=volume", "src=c", "dst=/data"]), NOTHING) == []
    assert validate(job(env={"AWS_REGION": "here", "TOKENIZERS_PARALLELISM": ""}), NOTHING) == []


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"memMB": 0}, ["trainer", "0 MB of memory", "--memMB"]),
        ({"cpu": 0}, ["trainer", "0 CPU", "--cpu"]),
        ({"gpu": -1}, ["-1 GPUs"]),
        ({"image": " "}, ["image is empty", "--image", "HARDVIEWS_IMAGE"]),
        ({"output": "runs/1"}, ["--output runs/1", "inside the pod", "s3://", "--mount"]),
        ({"output": "file:///runs"}, ["--output file:///runs", "inside the pod"]),
        ({"data": "/data/x"}, ["--data /data/x", "inside the pod", "dst=/data/x"]),
        ({"data": "/database", "mount": ["type=volume", "src=c", "dst=/data"]}, ["--data /database"]),
        ({"data": "s3:///d"}, ["--data s3:///d", "no bucket"]),
        ({"tracking": "http://localhost:5000"}, ["MLFLOW_TRACKING_URI", "the pod itself"]),
        ({"tracking": "sqlite:///x.db"}, ["MLFLOW_TRACKING_URI", "lost with the pod"]),
        ({"tracking": "http://me:pw@mlflow"}, ["MLFLOW_TRACKING_URI", "password", "--secret"]),
        ({"data": "s3://key:secret@b/d"}, ["argument of the role trainer", "password"]),
        ({"env": {"AWS_ACCESS_KEY_ID": "x"}}, ["AWS_ACCESS_KEY_ID", "--secret", "kubectl create secret"]),
        ({"env": {"MLFLOW_TRACKING_PASSWORD": "x"}}, ["MLFLOW_TRACKING_PASSWORD", "--secret"]),
        ({"env": {"HF_TOKEN": "x"}}, ["HF_TOKEN", "--secret"]),
        ({"env": {"AWS_ENDPOINT_URL": "http://127.0.0.1:8333"}}, ["AWS_ENDPOINT_URL", "the pod itself"]),
        ({"secret": ["AKIA/secret"]}, ["'AKIA/secret'", "not the name"]),
        ({"toleration": ["a:Never"]}, ["'a:Never'", "NoSchedule"]),
        ({"node_selector": {"a b": "c"}}, ["node selector a b=c"]),
        ({"grace": -1}, ["grace is -1"]),
        ({"ttl": -1}, ["ttl is -1"]),
        ({"shm": 5000}, ["--shm 5000", "4096 MB"]),
        ({"priority": "High!"}, ["priority class 'High!'"]),
        ({"mount": ["type=device", "src=/dev/fuse"]}, ["device", "privileged"]),
    ],
)
def test_every_mistake_is_named_with_its_remedy(changes, words):
    (found,) = validate(job(**changes), NOTHING)
    for word in words:
        assert word in found
    assert found.endswith(".")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"j": "two"}, ["-j two", "MIN:MAXxPROCESSES"]),
        ({"j": "3:2x1"}, ["at least 3", "at most 2", "2:3x1"]),
        ({"j": "1:2x4", "gpu": 2}, ["4 processes", "2 GPUs"]),
        ({"mount": ["dst=/data"]}, ["--mount dst=/data", "type=volume"]),
        ({"mount": ["type=tape", "src=a", "dst=b"]}, ["--mount", "type=volume"]),
    ],
)
def test_arguments_that_make_no_job_leave_one_in_which_more_is_found(changes, words):
    with pytest.raises(component.Mistaken) as caught:
        job(**changes, memMB=0)
    assert isinstance(caught.value, UserError)
    (found,) = caught.value.mistakes
    for word in words:
        assert word in found
    assert "0 MB" in " ".join(validate(caught.value.app, NOTHING))


def test_all_mistakes_are_named_at_once():
    assert len(validate(job(memMB=0, cpu=0, output="x", env={"A_SECRET": "x"}, secret=["A"]), NOTHING)) == 5


@pytest.mark.parametrize("app", [knn(image="i", data="d", output="s3://b/o"), pack(source="pictures", data="s3://b")])
def test_other_jobs_are_looked_at_too(app):
    (found,) = validate(app, NOTHING)
    assert "inside the pod" in found


def test_the_sites_options_are_looked_at_too():
    (found,) = validate(job(), PodOptions.of_site({"run_as_user": 0, "queue": "q"}))
    assert "root" in found
    (found,) = validate(job(), PodOptions.of_site({"image_pull_policy": "Sometimes"}))
    assert "IfNotPresent" in found


def test_a_role_that_could_not_be_found_again_is_refused():
    role = specs.Role(name="my-train", image="i", entrypoint="sh")
    (found,) = validate(specs.AppDef("a", [role]), NOTHING)
    assert "'my-train'" in found
    assert "my_train" in found


def test_names_too_long_for_a_host_are_refused():
    (found,) = validate(specs.AppDef("a" * 50, job().roles), NOTHING)
    assert "63" in found


def test_sources_that_are_no_folders_are_known():
    from hardviews.data.packing import _SHIPPED
    from hardviews.launch.kubernetes.mistakes import _MADE

    assert set(_SHIPPED) == _MADE
