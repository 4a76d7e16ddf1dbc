"""One set of values as an argument list of `torchx run`."""

from pathlib import Path
from typing import Any

from torchx.specs import AppDef

from jobs import classify, fewshot, finetune, knn, linear_eval, pack, pretrain, transfer_eval
from tests.charts.rendering import SITE

COMPONENTS = {
    "pack": pack.pack,
    "pretrain": pretrain.pretrain,
    "finetune": finetune.finetune,
    "knn": knn.knn,
    "linear": linear_eval.linear_eval,
    "fewshot": fewshot.fewshot,
    "transfer": transfer_eval.transfer_eval,
    "classify": classify.classify,
}
# Arguments of a component, and run options of the site, by the chart's keys.
ARGUMENTS = {
    "secrets": "secret",
    "tolerations": "toleration",
    "nodeSelector": "node_selector",
    "priorityClass": "priority",
    "mounts": "mount",
}
OPTIONS = {
    "labels": "labels",
    "imagePullPolicy": "image_pull_policy",
    "serviceAccount": "service_account",
    "runAsUser": "run_as_user",
    "annotations": "annotations",
    "topologySpread": "spread",
    "affinity": "affinity",
    "devices": "devices",
    "gpuResource": "gpu_resource",
    "capabilities": "capabilities",
    "runtimeClassName": "runtime_class",
    "hostNetwork": "host_network",
}
AFFINITY = Path(__file__).parent / "affinity.yaml"
"""The only affinity of the cases: TorchX takes the path of a file."""


def words(mounts: list[dict[str, Any]]) -> list[str]:
    """Mounts as an argument of a component."""
    found = []
    for mount in mounts:
        found += [f"type={mount['type']}", f"src={mount['src']}", f"dst={mount['dst']}"]
        found += ["readonly"] if mount.get("readonly") else []
    return found


def submission(name: str, values: dict[str, Any]) -> tuple[AppDef, dict[str, Any]]:
    """The job, and the run options of the scheduler, for the same values.

    Raises:
        Mistaken: the component refuses them.
    """
    own, pod = dict(values.get(name, {})), values.get("pod", {})
    merged = dict(own)
    for key, value in pod.items():
        if isinstance(value, list):
            merged[key] = [*value, *own.get(key, [])]
        elif isinstance(value, dict):
            merged[key] = {**value, **own.get(key, {})}
        else:
            merged.setdefault(key, value)
    cfg = {OPTIONS[key]: merged.pop(key) for key in list(merged) if key in OPTIONS}
    if "affinity" in cfg:
        cfg["affinity"] = str(AFFINITY)
    if "devices" in cfg:
        cfg["devices"] = {name: str(count) for name, count in cfg["devices"].items()}
    if "hostNetwork" in own or "hostNetwork" in pod:
        cfg["host_network"] = str(cfg["host_network"]).lower()
    cfg["queue"] = values.get("queue", "default")
    if "imagePullSecrets" in values:
        cfg["image_pull_secrets"] = values["imagePullSecrets"]
    if "metrics" in values:
        cfg["open_metrics"] = str(values["metrics"]["open"]).lower()
    merged["secrets"] = [*values.get("secrets", []), *merged.get("secrets", [])]
    if "mounts" in merged:
        merged["mounts"] = words(merged["mounts"])
    arguments = {ARGUMENTS.get(key, key): value for key, value in merged.items() if key != "args"}
    known = ("image", "data") if name == "pack" else tuple(SITE)
    site = {key: values.get(key, SITE[key]) for key in known}
    if name == "finetune":
        arguments["run"] = arguments.get("run") or site["output"]
    elif name not in ("pack", "pretrain"):
        tuned = values.get("finetune", {}).get("output") if name == "classify" else None
        site["output"] = arguments.pop("run", None) or tuned or site["output"]
    return COMPONENTS[name](*own.get("args", []), **(site | arguments)), cfg
