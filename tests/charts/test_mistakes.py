"""Refusals: one table of mistakes for both `torchx run` and the chart."""

from pathlib import Path
from typing import Any

import helm_python
import pytest
import yaml

from hardviews.launch.chart.wording import in_values
from hardviews.launch.component import Mistaken
from hardviews.launch.kubernetes.mistakes import validate
from hardviews.launch.kubernetes.scheduler import create_scheduler
from hardviews.launch.pod_options import PodOptions
from hardviews.launch.site import unsaid
from tests.charts.by_torchx import submission
from tests.charts.rendering import SITE, ci, job, objects

TABLE = yaml.safe_load((Path(__file__).parent / "mistakes.yaml").read_text())


def refused(values: dict[str, Any]) -> str:
    """The chart's message."""
    with pytest.raises(helm_python.HelmError) as caught:
        objects(values)
    return str(caught.value)


def by_torchx(name: str, values: dict[str, Any]) -> list[str]:
    """TorchX's messages."""
    try:
        app, cfg = submission(name, values)
    except Mistaken as error:
        return error.mistakes
    found = unsaid(app, local=False) if values.get("queue") != "" else []
    scheduler = create_scheduler("test")
    return [*found, *scheduler.examine(app, cfg, online=False).mistakes]


def switched_on(row: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    name = row.get("job", "pretrain")
    values = {**SITE, **row["values"]}
    return name, values | {name: {"enabled": True, **values.get(name, {})}}


def test_the_table_is_long_enough():
    assert len(TABLE) >= 40
    assert len({str(row) for row in TABLE}) == len(TABLE)


@pytest.mark.parametrize("row", TABLE, ids=lambda row: f"{row.get('job', '')}{row['values']}")
def test_torchx_and_the_chart_refuse_the_same(row, monkeypatch):
    for variable in ("HARDVIEWS_IMAGE", "HARDVIEWS_DATA", "HARDVIEWS_OUTPUT", "MLFLOW_TRACKING_URI"):
        monkeypatch.delenv(variable, raising=False)
    name, values = switched_on(row)
    theirs = by_torchx(name, row["values"])
    for word in row["torchx"]:
        assert word in " ".join(theirs)
    ours = refused(values)
    if "chart" in row:
        assert row["chart"] in ours
        return
    for sentence in theirs:
        assert in_values(sentence) in ours


def test_validate_is_what_the_scheduler_asks():
    app, cfg = submission("pretrain", {"output": "runs/1"})
    assert validate(app, PodOptions.of_site(cfg)) == by_torchx("pretrain", {"output": "runs/1"})


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"pretrain": {"epochs": 3}}, "epochs"),
        ({"pod": {"hostPID": True}}, "hostPID"),
        ({"pod": {"hostNetwork": "yes"}}, "/pod/hostNetwork"),
        ({"pod": {"capabilities": ["SYS_ADMIN"]}}, "/pod/capabilities/0"),
        ({"pod": {"devices": {"cpu": 1}}}, "/pod/devices"),
        ({"pod": {"devices": {"rdma/ib": 0}}}, "/pod/devices/rdma~1ib"),
        ({"pod": {"devices": {"nvidia.com/gpu": 1}}}, "is the GPU resource, of which gpu says how many"),
        ({"pod": {"affinity": {"node": {}}}}, "/pod/affinity"),
        ({"pretrian": {}}, "pretrian"),
        ({"objectStore": {"enabled": True}}, "objectStore.image is empty"),
        ({"mlflow": {"enabled": True}}, "a server that nothing would use"),
        ({"queueSpec": {"create": True}}, "Make the queue by a release without jobs"),
        ({"priorityClassSpec": {"create": True}}, "Give pod.priorityClass"),
        ({"networkPolicy": {"enabled": True}}, "networkPolicy.egress is empty"),
        ({"metrics": {"open": True, "from": [{"podSelector": {}}]}}, "Leave one of them out"),
        ({"metrics": {"interval": 0}}, "/metrics/interval"),
        ({"knn": {"enabled": True, "schedule": "@hourly", "gpu": 2}}, "an evaluation with a schedule is one process"),
        ({"knn": {"enabled": True, "schedule": "hourly"}}, "/knn/schedule"),
        ({"knn": {"enabled": True, "schedule": "99 * * * *"}}, "/knn/schedule"),
        ({"knn": None}, "missing property 'knn'"),
        ({"objectStore": {"enabled": True, "image": "x", "buckets": ["other"]}}, "objectStore.buckets has no b"),
        ({"pack": {"enabled": True}}, "The job pack lacks source"),
        ({"finetune": {"enabled": True}}, "finetune: The job finetune lacks an output of its own: finetune.output"),
        (
            {"finetune": {"enabled": True, "output": "s3://b/o"}},
            "finetune: output s3://b/o is the run that is fine-tuned",
        ),
        ({"output": "", "finetune": {"enabled": True, "output": "s3://b/t"}}, "lacks run (encoder"),
        ({"finetune": {"enabled": True, "run": "--labels"}}, "/finetune/run"),
        ({"finetune": {"enabled": True, "output": "s3://b/t", "schedule": "@hourly"}}, "schedule"),
        ({"networkPolicy": {"enabled": True, "egress": [{"to": [{"ipBlock": {"cidr": "x"}}]}]}}, "cidr"),
        ({"pretrain": {"enabled": "yes"}}, "/pretrain/enabled"),
        ({"commonLabels": {"a": 1}}, "/commonLabels/a"),
        ({"fullnameOverride": "A"}, "/fullnameOverride"),
        ({"quota": {"hard": {"cpu": "many"}}}, "/quota/hard/cpu"),
    ],
)
def test_mistakes_of_the_chart_alone(values, words):
    pretrain = {"enabled": True, **values.get("pretrain", {})}
    assert words in refused({**SITE, **values, "pretrain": pretrain})


def test_all_mistakes_are_named_at_once():
    pretrain = {"enabled": True, "j": "3:2x1", "shm": 9999, "env": {"A_TOKEN": "x"}}
    ours = refused({**SITE, "output": "x", "pretrain": pretrain})
    assert all(word in ours for word in ("at least 3", "9999 MB", "A_TOKEN", "--output x"))


@pytest.mark.parametrize("name", ["pretrain", "knn", "pack"])
def test_the_longest_name_that_fits_is_taken(name):
    """The name of a pod is that of a host: 63 characters."""
    own = {"enabled": True, "source": "digits"} if name == "pack" else {"enabled": True}
    values = {**SITE, "nameOverride": "r", name: own}
    longest = next(length for length in range(53, 0, -1) if _fits(values, "r" * length))
    made = job(name, values, "r" * longest)
    pods = [f"{made['metadata']['name']}-{task['name']}-0" for task in made["spec"]["tasks"]]
    assert max(len(pod) for pod in pods) == 63
    with pytest.raises(helm_python.HelmError, match=r"makes? pod names of 64 characters; Kubernetes takes 63"):
        objects(values, "r" * (longest + 1))


def _fits(values: dict[str, Any], release: str) -> bool:
    try:
        objects(values, release)
    except helm_python.HelmError:
        return False
    return True


@pytest.mark.parametrize("name", ["gpu", "production", "kind"])
def test_a_job_that_is_switched_off_is_not_looked_at(name):
    values = ci(name)
    values["fewshot"] = {"enabled": False, "j": "3:2x1"}
    objects(values)
