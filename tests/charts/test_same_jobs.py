"""The chart and `torchx run` make the same jobs: one description, compared field by field."""

import inspect
import json
from typing import Any

import pytest
import yaml

from tests.charts.by_torchx import AFFINITY, ARGUMENTS, COMPONENTS, submission
from tests.charts.rendering import CHART, REQUIRED, job
from tests.launch.kubernetes.jobs import manifest

TRAININGS = ("pretrain", "finetune")
EVALUATIONS = ("knn", "linear", "fewshot", "transfer", "classify")
# TorchX's own, and the chart's.
LABELS = ("torchx.pytorch.org/", "app.kubernetes.io/", "helm.sh/")


def by_torchx(name: str, values: dict[str, Any]) -> dict[str, Any]:
    """The job that `torchx run --dryrun` prints for the same values."""
    app, cfg = submission(name, values)
    return manifest(app, **cfg)


def normalised(made: dict[str, Any]) -> dict[str, Any]:
    """Without names and labels of TorchX and of the chart, and with variables and volumes in one order."""
    found: dict[str, Any] = json.loads(json.dumps(made).replace(made["metadata"]["name"], "NAME"))
    metadata = {"labels": kept(found["metadata"].get("labels", {}))}
    for task in found["spec"]["tasks"]:
        task.setdefault("maxRetry", 3)  # Volcano's default
        labels = task["template"]["metadata"]
        labels["labels"] = kept(labels["labels"])
        pod = task["template"]["spec"]
        for spread in pod.get("topologySpreadConstraints", []):
            own = spread["labelSelector"]["matchLabels"]
            assert own.pop("volcano.sh/job-name", None) or own.pop("app.kubernetes.io/instance") == "NAME"
        if "subdomain" in pod:
            pod["subdomain"] = "SERVICE"
        pod["volumes"].sort(key=lambda volume: str(volume["name"]))
        for container in pod["containers"]:
            container["env"] = sorted(
                (entry for entry in container["env"] if entry["name"] != "TORCHX_RANK0_HOST"),
                key=lambda entry: str(entry["name"]),
            )
            container["volumeMounts"].sort(key=lambda mount: str(mount["name"]))
            if not container.get("ports"):
                container.pop("ports", None)
    return {"apiVersion": found["apiVersion"], "kind": found["kind"], "metadata": metadata, "spec": found["spec"]}


def kept(labels: dict[str, str]) -> dict[str, str]:
    return {key: value for key, value in labels.items() if not key.startswith(LABELS)}


MOUNTS = [
    {"type": "volume", "src": "claim", "dst": "/data"},
    {"type": "bind", "src": "/mnt/images", "dst": "/images", "readonly": True},
]
# Values of the whole chart; JOB stands for the job that is compared.
CASES: dict[str, dict[str, Any]] = {
    "defaults": {},
    "secrets": {"secrets": ["store"], "JOB": {"secrets": ["mlflow", "store"]}},
    "tolerations": {
        "pod": {"tolerations": ["nvidia.com/gpu", "a=:NoExecute"]},
        "JOB": {"tolerations": ["dedicated=vision:NoSchedule", "nvidia.com/gpu", "b:NoSchedule", "c=d"]},
    },
    "mounts": {"pod": {"mounts": MOUNTS[:1]}, "JOB": {"mounts": MOUNTS[1:]}},
    "own scratch and tmp": {
        "JOB": {
            "scratch": 5000,
            "mounts": [
                {"type": "volume", "src": "a", "dst": "/scratch"},
                {"type": "volume", "src": "b", "dst": "/tmp"},
            ],
        }
    },
    "shm": {"pod": {"shm": 100}, "JOB": {"shm": 1000}},
    "shm of the site": {"pod": {"shm": 100}},
    "little memory": {"JOB": {"memMB": 1}},
    "odd memory": {"JOB": {"memMB": 4097, "cpu": 7}},
    "ttl": {"pod": {"ttl": 0}},
    "ttl of the job": {"pod": {"ttl": 7}, "JOB": {"ttl": 2147483647}},
    "priority": {"pod": {"priorityClass": "low"}, "JOB": {"priorityClass": "high"}},
    "service account": {"pod": {"serviceAccount": "trainer", "runAsUser": 2000}},
    "environment": {
        "pod": {"env": {"AWS_REGION": "eu-west-1", "OMP_NUM_THREADS": "2"}},
        "JOB": {"env": {"AWS_REGION": "here", "PYTHONSAFEPATH": "", "LOGLEVEL": "INFO", "A": 'x "<y>" $(B) \u00e9'}},
    },
    "our own variables": {
        "JOB": {
            "scratch": 9,
            "env": {
                "MLFLOW_TRACKING_URI": "http://other:5000",
                "HOME": "/tmp",
                "HARDVIEWS_CACHE": "/tmp/cache",
                "HARDVIEWS_IMAGE": "other",
                "HARDVIEWS_NAMESPACE": "there",
                "PYTHONSAFEPATH": "0",
            },
        }
    },
    "scratch": {"pod": {"scratch": 12345}},
    "cache of the job": {"JOB": {"scratch": 77, "env": {"HARDVIEWS_CACHE_BYTES": "5"}}},
    "labels": {"pod": {"labels": {"team": "a", "x.org/y": ""}}, "JOB": {"labels": {"team": "b"}}},
    "node selector": {"pod": {"nodeSelector": {"disk": "ssd"}}, "JOB": {"nodeSelector": {"gpu": "h100"}}},
    "image": {
        "imagePullSecrets": ["registry", "other"],
        "pod": {"imagePullPolicy": "Always"},
        "queue": "vision",
    },
    "words": {"JOB": {"args": ["--seed", "3", "--name", "a b", "--x={1: '\u00e9'}"]}},
}
PLACEMENT: dict[str, dict[str, Any]] = {
    "annotations": {"pod": {"annotations": {"a/b": "c"}}, "JOB": {"annotations": {"d": "e"}}},
    "spread": {"pod": {"topologySpread": ["topology.kubernetes.io/zone", "kubernetes.io/hostname"]}},
    "affinity": {"pod": {"affinity": yaml.safe_load(AFFINITY.read_text())}},
    "devices": {"pod": {"devices": {"rdma/ib": 1, "example.org/x": 12}, "capabilities": ["IPC_LOCK"]}},
    "runtime class": {"pod": {"runtimeClassName": "gvisor"}},
    "open metrics": {"metrics": {"open": True}},
    "closed metrics": {"metrics": {"open": False}},
    "network of the node": {"pod": {"hostNetwork": True}},
}
GPUS: dict[str, dict[str, Any]] = {
    "other gpus": {"pod": {"gpuResource": "amd.com/gpu"}, "JOB": {"gpu": 2, "j": "1x2"}},
    "other gpus, but none": {"pod": {"gpuResource": "amd.com/gpu"}},
}
ELASTIC: dict[str, dict[str, Any]] = {
    "gpu": {"JOB": {"j": "2:4x8", "gpu": 8, "cpu": 16, "memMB": 64000}},
    "processes": {"JOB": {"j": "3x2"}},
    "one node": {"JOB": {"j": "4"}},
    "min and max": {"JOB": {"j": "2:5"}},
    "many nodes": {"JOB": {"j": "16:60x8", "gpu": 8}},
    "odd number of nodes": {"JOB": {"j": "1:21"}},
    "wait": {"JOB": {"wait": 3600}},
    "wait an odd time": {"secrets": ["s"], "pod": {"env": {"AWS_REGION": "x"}}, "JOB": {"wait": 7}},
    "no wait": {"secrets": ["s"], "pod": {"env": {"AWS_REGION": "x"}}, "JOB": {"wait": 0}},
    "data of a volume": {"JOB": {"data": "/data/x", "wait": 60, "mounts": MOUNTS[:1]}},
    "data of its own": {"JOB": {"data": "s3://b/other", "wait": 60}},
}
TRAINING: dict[str, dict[str, Any]] = {
    "recipe and grace": {"JOB": {"recipe": "smoke", "grace": 120}},
    "no grace": {"JOB": {"grace": 0}},
}
FINETUNE: dict[str, dict[str, Any]] = {
    "a run of its own": {"JOB": {"run": "s3://b/other", "wait": 60}},
    "a run of MLflow": {"JOB": {"run": "0123456789abcdef0123456789abcdef"}},
    "an untrained network": {"JOB": {"run": "timm:resnet50", "data": "/data/x", "mounts": MOUNTS[:1]}},
    "some labels": {"JOB": {"args": ["--labels", "10%", "--training.epochs", "3"]}},
    "the run of a volume": {"output": "/data/run", "JOB": {"mounts": MOUNTS[:1]}},
}
EVALUATION: dict[str, dict[str, Any]] = {
    "gpus without processes": {"JOB": {"gpu": 4}},
    "an encoder": {"JOB": {"args": ["--encoder", "s3://b/e"]}},
    "an encoder, and data": {"JOB": {"args": ["--encoder=s3://b/e", "--sets", "s3://b/s"]}},
    "a checkpoint": {"JOB": {"args": ["--checkpoint", "newest"]}},
    "a run of its own": {"JOB": {"run": "s3://b/other"}},
    "a tuned run": {"finetune": {"output": "s3://b/tuned"}},
    "a run of its own beside a tuned one": {"finetune": {"output": "s3://b/tuned"}, "JOB": {"run": "s3://b/other"}},
    "data in the words": {"JOB": {"args": ["--train", "s3://b/train", "--test", "s3://b/test"]}},
}


def cases() -> list[Any]:
    found = []
    for name in COMPONENTS:
        chosen = CASES | PLACEMENT
        chosen |= ELASTIC | GPUS if name != "pack" else {"source": {"JOB": {"source": "photographs"}}}
        chosen |= TRAINING if name in TRAININGS else EVALUATION if name in EVALUATIONS else {}
        chosen |= FINETUNE if name == "finetune" else {}
        found += [pytest.param(name, values, id=f"{name}: {case}") for case, values in chosen.items()]
    return found


@pytest.mark.parametrize(("name", "values"), cases())
def test_the_chart_makes_the_job_of_torchx(name, values):
    values = {(name if key == "JOB" else key): value for key, value in values.items()}
    values = {**values, name: {**REQUIRED.get(name, {}), **values.get(name, {})}}
    assert normalised(job(name, values)) == normalised(by_torchx(name, values))


@pytest.mark.parametrize("name", COMPONENTS)
def test_defaults_are_those_of_the_component(name):
    """Every argument of a component has a key, and the same default."""
    values = yaml.safe_load((CHART / "values.yaml").read_text())
    back = {argument: key for key, argument in {**ARGUMENTS, "topologySpread": "spread"}.items()}
    for argument, parameter in inspect.signature(COMPONENTS[name]).parameters.items():
        key = back.get(argument, argument)
        if argument == "script_args":
            assert values[name]["args"] == []
            continue
        places = [place for place in (values[name], values["pod"], values) if key in place]
        assert places, f"the chart has no {key} for {argument} of {name}"
        default = parameter.default if parameter.default is not inspect.Parameter.empty else None
        assert (places[0][key] or None) == (default or None), key
