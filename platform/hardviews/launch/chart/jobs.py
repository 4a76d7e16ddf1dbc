"""The jobs in values of the Helm chart, as TorchX applications: the same applications as with `torchx run`."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from torchx.specs import AppDef, CfgVal, Resource

from hardviews.launch import component, site
from hardviews.launch.component import Mistaken
from hardviews.launch.kubernetes.submitter import Submitter
from hardviews.launch.pod_options import PodOptions

JOBS = ("pack", "pretrain", "finetune", "knn", "linear", "fewshot", "transfer", "classify")
"""Keys of the chart's jobs."""

NAME = "hardviews"
"""Name of the chart; also of a release without a name."""

NO_SOURCE = "<source: images to pack>"
"""Placeholder of a source that is not given, like the placeholders of the site's values."""

NO_RUN = "<run: encoder that is trained further>"
"""Placeholder of an encoder to fine-tune."""

NO_TUNED = "<output: URL under which the tuned encoder is kept>"
"""Placeholder of the output of a fine-tuning, which differs from the pretraining's output."""

_DIGITS = 10  # digits of a digest that the chart adds to the name of a job
_GRACE_OF_COMPONENT = "grace"  # argument of the component, which puts it into the pod's options itself


@dataclass(frozen=True)
class ChartJob:
    """One enabled job.

    Attributes:
        key: key of the job in the values.
        app: the job.
        cfg: options of the scheduler.
        mistakes: mistakes found while the job was made.
    """

    key: str
    app: AppDef
    cfg: Mapping[str, CfgVal]
    mistakes: list[str] = field(default_factory=list)


def jobs_of(values: Mapping[str, Any], release: str = NAME) -> list[ChartJob]:
    """Make the enabled jobs of complete values, in which every value has the kind that the schema requires."""
    return [_job(key, values, release) for key in JOBS if values.get(key, {}).get("enabled")]


def fullname(values: Mapping[str, Any], release: str) -> str:
    """Return the beginning of the names of all objects of a release."""
    chart = values.get("nameOverride") or NAME
    return str(values.get("fullnameOverride") or (release if chart in release else f"{release}-{chart}"))


def submitter_of(values: Mapping[str, Any], release: str) -> Submitter:
    """Return Helm as the submitter of the jobs of some values."""
    found = set()
    name = fullname(values, release)
    if values.get("serviceAccount", {}).get("create"):
        found.add(f"serviceaccounts/{name}")
    store = values.get("objectStore", {})
    if store.get("enabled") and not store.get("secret"):
        found.add(f"secrets/{name}-store")
    if values.get("priorityClassSpec", {}).get("create"):
        found.add(f"priorityclasses/{values.get('pod', {}).get('priorityClass')}")
    return Submitter(_DIGITS, frozenset(found), release)


def _job(key: str, values: Mapping[str, Any], release: str) -> ChartJob:
    mine, shared = values[key], values.get("pod", {})
    name = fullname(values, release)
    cfg = _site_options(values, name)
    env = {**_servers(values, name), **(shared.get("env") or {}), **(mine.get("env") or {})}
    mounts = _words([*(shared.get("mounts") or []), *(mine.get("mounts") or [])])
    tracking = values.get("tracking") or (f"http://{name}-mlflow:5000" if values["mlflow"].get("enabled") else "")
    # A missing value stays a placeholder: the environment is not read for a chart.
    given: dict[str, Any] = {
        "name": f"{name}-{key}",
        "image": values.get("image") or site.IMAGE.placeholder,
        "data": mine.get("data") or values.get("data") or site.DATA.placeholder,
        "overrides": list(mine.get("args") or []),
        "resource": Resource(cpu=mine.get("cpu"), gpu=mine.get("gpu") or 0, memMB=mine.get("memMB")),
        "env": env,
        "pod": _pod(mine),
        "mounts": mounts,
    }
    if key != "pack":
        given |= {
            "output": _run(key, values) or site.OUTPUT.placeholder,
            "tracking": tracking or site.TRACKING.placeholder,
            "nodes": mine.get("j") or None,
            "wait": mine.get("wait") or 0,
        }
    try:
        if key == "pack":
            return ChartJob(key, component.packing(source=mine.get("source") or NO_SOURCE, **given), cfg)
        if key == "pretrain":
            given |= {"nodes": mine.get("j") or "", "recipe": mine.get("recipe"), "grace": mine.get("grace")}
            return ChartJob(key, component.pretraining(**given), cfg)
        if key == "finetune":
            given |= {"nodes": mine.get("j") or "", "recipe": mine.get("recipe"), "grace": mine.get("grace")}
            given |= {"output": mine.get("output") or NO_TUNED, "finetune": _run(key, values) or NO_RUN}
            return ChartJob(key, component.pretraining(**given), cfg)
        return ChartJob(key, component.evaluation(command=key, **given), cfg)
    except Mistaken as error:
        return ChartJob(key, error.app, cfg, list(error.mistakes))


def _run(key: str, values: Mapping[str, Any]) -> str:
    """Return the run that a job trains, fine-tunes or evaluates; empty if there is none."""
    tuned = values["finetune"].get("output") if key == "classify" else None
    return values[key].get("run") or tuned or values.get("output") or ""


def _site_options(values: Mapping[str, Any], name: str) -> dict[str, CfgVal]:
    """Return the settings of all jobs as options of the scheduler."""
    options = _pod(values.get("pod", {})).metadata().get("kubernetes", {})
    secrets, store = list(values.get("secrets") or []), values.get("objectStore", {})
    if store.get("enabled"):
        secrets.append(store.get("secret") or f"{name}-store")
    options |= {"secrets": secrets, "image_pull_secrets": list(values.get("imagePullSecrets") or [])}
    if values.get("serviceAccount", {}).get("create") and not options.get("service_account"):
        options["service_account"] = name
    if values.get("metrics", {}).get("open"):
        options["open_metrics"] = "true"
    return {"queue": values.get("queue")} | {key: value for key, value in options.items() if value not in ([], {}, "")}


def _pod(given: Mapping[str, Any]) -> PodOptions:
    """Read the settings of pods, whose keys in the chart are the fields of `PodOptions` in camel case."""
    found: dict[str, Any] = {}
    for entry in fields(PodOptions):
        value = given.get(_camel(entry.name))
        if value in (None, "") or entry.name == _GRACE_OF_COMPONENT:
            continue
        found[entry.name] = tuple(value) if isinstance(value, list) else value
    return PodOptions(**found)


def _camel(name: str) -> str:
    return re.sub(r"_(\w)", lambda match: match[1].upper(), name)


def _servers(values: Mapping[str, Any], name: str) -> dict[str, str]:
    """Return the variables with which jobs reach the chart's own S3 server, if there is one."""
    if not values.get("objectStore", {}).get("enabled"):
        return {}
    return {"AWS_ENDPOINT_URL": f"http://{name}-store:8333", "AWS_REGION": "us-east-1"}


def _words(mounts: list[Mapping[str, Any]]) -> list[str]:
    """Return volumes in the form of the argument `--mount`."""
    found: list[str] = []
    for mount in mounts:
        found += [f"{part}={mount.get(part, '')}" for part in ("type", "src", "dst")]
        found += ["readonly"] if mount.get("readonly") else []
    return found
