"""Mistakes that are refused before any cluster is asked, each with its remedy."""

import pytest
import torchx.specs as specs

from hardviews.errors import UserError
from hardviews.launch import component
from hardviews.launch.kubernetes.mistakes import unknown_options, validate
from hardviews.launch.kubernetes.scheduler import create_scheduler
from hardviews.launch.pod_options import PodOptions
from jobs.knn import knn
from jobs.pack import pack
from jobs.pretrain import pretrain
from tests.launch.kubernetes.jobs import AFFINITY, job

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
        ({"priority": "a" * 254}, ["priority class", "254 characters", "253"]),
        ({"secret": ["a..b"]}, ["secret 'a..b'"]),
        ({"node_selector": {"k": "v" * 64}}, ["node selector k=vvv", "its value has 64 characters", "63"]),
        ({"node_selector": {"k" * 64: "v"}}, ["node selector kkk", "its key has 64 characters"]),
        ({"node_selector": {f"{'a' * 254}/k": "v"}}, ["before the '/'", "254 characters", "253"]),
        ({"node_selector": {f"a.b/{'k' * 64}": "v"}}, ["after the '/'", "64 characters"]),
        ({"node_selector": {"A.b/k": "v"}}, ["node selector A.b/k=v", "before the '/'", "small letters"]),
        ({"node_selector": {"a..b/k": "v"}}, ["before the '/'"]),
        ({"node_selector": {"a/b/k": "v"}}, ["before the '/'"]),
        ({"node_selector": {"/k": "v"}}, ["before the '/'"]),
        ({"node_selector": {"a/": "v"}}, ["after the '/'"]),
        ({"node_selector": {"k-": "v"}}, ["node selector k-=v", "its key", "both ends"]),
        ({"node_selector": {"k": "v-"}}, ["node selector k=v-", "its value", "both ends"]),
        ({"node_selector": {"k": "a/b"}}, ["node selector k=a/b", "its value"]),
        ({"toleration": [f"k={'v' * 64}:NoSchedule"]}, ["toleration 'k=vvv", "63 characters"]),
        ({"toleration": [f"{'k' * 64}:NoSchedule"]}, ["toleration 'kkk", "63 characters"]),
        ({"toleration": [f"{'a' * 254}/k"]}, ["toleration 'aaa"]),
        ({"toleration": ["A.b/k"]}, ["toleration 'A.b/k'"]),
        ({"ttl": 2**31}, ["ttl is 2147483648"]),
        ({"shm": 0}, ["shm is 0 MB"]),
        ({"scratch": 0}, ["scratch is 0 MB"]),
        ({"scratch": -5}, ["scratch is -5"]),
        ({"cpu": -1}, ["-1 CPU"]),
        ({"memMB": -1}, ["-1 MB"]),
        ({"env": {"1A": "x"}}, ["'1A'", "environment variable"]),
        ({"env": {"A B": "x"}}, ["'A B'", "environment variable"]),
        ({"mount": ["type=volume", "src=c", "dst=data"]}, ["dst=data", "full path"]),
        ({"mount": ["type=volume", "src=c", "dst=/"]}, ["dst=/", "full path"]),
        ({"mount": ["type=volume", "src=My_Claim", "dst=/d"]}, ["src=My_Claim", "volume claim"]),
        ({"mount": ["type=bind", "src=here", "dst=/d"]}, ["src=here", "full path"]),
        ({"mount": ["type=volume", "src=a", "dst=/d", "type=volume", "src=b", "dst=/d"]}, ["2 volumes at /d"]),
        ({"mount": ["type=device", "src=/dev/fuse"]}, ["device", "privileged"]),
        ({"devices": {"rdma": "1"}}, ["device 'rdma'", "no '/'", "rdma/ib"]),
        ({"devices": {"a.kubernetes.io/x": "1"}}, ["device 'a.kubernetes.io/x'", "kubernetes.io"]),
        ({"devices": {"Rdma.x/ib": "1"}}, ["device 'Rdma.x/ib'", "small letters"]),
        ({"devices": {"rdma/ib": "0"}}, ["device rdma/ib", "'0' times", "at least 1"]),
        ({"devices": {"rdma/ib": "1.5"}}, ["device rdma/ib", "'1.5' times"]),
        ({"devices": {"rdma/ib": "-1"}}, ["device rdma/ib", "'-1' times"]),
        ({"devices": {"rdma/ib": "9" * 30}}, ["device rdma/ib", "times"]),
        ({"devices": {"nvidia.com/gpu": "1"}}, ["nvidia.com/gpu", "--gpu"]),
        ({"capabilities": ["SYS_ADMIN"]}, ["capability 'SYS_ADMIN'", "only IPC_LOCK"]),
        ({"capabilities": ["CAP_IPC_LOCK"]}, ["capability 'CAP_IPC_LOCK'", "only IPC_LOCK"]),
        ({"spread": ["a b"]}, ["spread over 'a b'", "kubernetes.io/hostname"]),
        ({"affinity": "no/such/file.yaml"}, ["no/such/file.yaml", "No such file", "YAML file"]),
        ({"image": "r/x@sha256:12"}, ["image r/x@sha256:12", "2 figures", "64"]),
        ({"image": f"r/x@sha256:{'A' * 64}"}, ["other characters", "a-f"]),
        ({"image": f"r/x@{'a' * 64}"}, ["not sha256:"]),
        ({"image": f"@sha256:{'a' * 64}"}, ["no name before the '@'"]),
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
        ({"mount": ["type=volume", "src=a"]}, ["--mount type=volume,src=a", "dst is missing"]),
        ({"mount": ["type=bind", "dst=/a"]}, ["src is missing"]),
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


@pytest.mark.parametrize(
    "changes",
    [
        {"node_selector": {"k": "v" * 63, "k" * 63: "", f"{'a' * 253}/{'k' * 63}": "A_b.c-d"}},
        {"toleration": [f"k={'v' * 63}:NoSchedule", f"{'a' * 253}/k", "nvidia.com/gpu:NoExecute", "K_1"]},
        {"secret": ["a.b-c", "a" * 253], "priority": "system-node-critical"},
        {"devices": {"rdma/ib": "1", f"{'a' * 200}/{'k' * 63}": str(2**31 - 1)}, "capabilities": ["IPC_LOCK"]},
        {"spread": ["kubernetes.io/hostname", "rack"], "affinity": str(AFFINITY)},
        {"image": f"registry.example.org:5000/a/b:1@sha256:{'0af' * 21}0"},
    ],
)
def test_the_longest_that_the_api_takes_is_no_mistake(changes):
    assert validate(job(**changes), NOTHING) == []


@pytest.mark.parametrize(
    ("option", "value", "words"),
    [
        ("labels", {"team": "v" * 64}, ["labels team=vvv", "64 characters"]),
        ("labels", {"Team.x/y": "v"}, ["labels Team.x/y=v", "small letters"]),
        ("node_selector", {"k": "v" * 64}, ["node selector k=vvv", "64 characters"]),
        ("tolerations", ["k=v w"], ["toleration 'k=v w'"]),
        ("secrets", ["", "a"], ["secret ''"]),
        ("service_account", "Me", ["service account 'Me'"]),
        ("ttl", 2**31, ["ttl is 2147483648"]),
        ("scratch", 0, ["scratch is 0"]),
        ("annotations", {"a b": "c"}, ["annotation a b=c", "its key"]),
        ("annotations", {"a": "x" * (1 << 18)}, ["annotations have 262145 bytes"]),
        ("gpu_resource", "gpu", ["GPU resource 'gpu'", "nvidia.com/gpu"]),
        ("devices", {"rdma": "1"}, ["device 'rdma'"]),
        ("capabilities", ["NET_ADMIN"], ["capability 'NET_ADMIN'"]),
        ("spread", ["/x"], ["spread over '/x'"]),
        ("host_network", "yes", ["host_network is 'yes'", "true or false"]),
        ("runtime_class", "No such", ["runtime class 'No such'"]),
    ],
)
def test_each_option_of_the_site_is_looked_at(option, value, words):
    (found,) = validate(job(), PodOptions.of_site({option: value}))
    for word in words:
        assert word in found


def test_the_sites_options_are_looked_at_too():
    (found,) = validate(job(), PodOptions.of_site({"run_as_user": 0, "queue": "q"}))
    assert "root" in found
    (found,) = validate(job(), PodOptions.of_site({"image_pull_policy": "Sometimes"}))
    assert "IfNotPresent" in found


@pytest.mark.parametrize(("text", "count"), [("true", 0), ("False", 0), ("on", 1), ("1", 1)])
def test_metrics_are_open_or_not(text, count):
    found = create_scheduler("test").examine(job(), {"queue": "q", "open_metrics": text}, online=False).mistakes
    assert [f"open_metrics is {text!r}, which cannot be read: write true or false."] * count == found


def test_the_sites_gpus_are_not_among_the_devices():
    site = PodOptions.of_site({"gpu_resource": "amd.com/gpu"})
    (found,) = validate(job(devices={"amd.com/gpu": "1"}), site)
    assert "--gpu" in found
    assert validate(job(devices={"nvidia.com/gpu": "1"}), site) == []


def test_annotations_may_hold_any_text():
    site = PodOptions.of_site({"annotations": {"Example.org/k": 'a {"b": 1}\n', "k": ""}})
    assert validate(job(), site) == []


def test_a_role_that_could_not_be_found_again_is_refused():
    role = specs.Role(name="my-train", image="i", entrypoint="sh")
    (found,) = validate(specs.AppDef("a", [role]), NOTHING)
    assert "'my-train'" in found
    assert "my_train" in found


def test_names_too_long_for_a_host_are_refused():
    (found,) = validate(specs.AppDef("a" * 50, job().roles), NOTHING)
    assert "63" in found


def test_an_option_that_nobody_has_is_named_with_the_nearest():
    (found,) = unknown_options("-cfg ", ["queues"], ["queue", "ttl"])
    assert found == "-cfg queues is no run option of this scheduler. Did you mean queue? Choose from queue, ttl."


def test_sources_that_are_no_folders_are_known():
    from hardviews.data.given import _SHIPPED
    from hardviews.launch.kubernetes.mistakes import _MADE

    assert set(_SHIPPED) == _MADE
