"""Jobs and their manifests, made without a cluster."""

from pathlib import Path
from typing import Any

import torchx.specs as specs

from hardviews.launch.kubernetes.scheduler import create_scheduler
from jobs.pretrain import pretrain

CFG = {"queue": "default"}
AFFINITY = Path(__file__).parent / "affinity.yaml"


def job(*arguments: str, **changes: Any) -> specs.AppDef:
    """The pretraining job with every value of the site said."""
    values = {"image": "registry/hardviews:1", "data": "s3://b/d", "output": "s3://b/o", "tracking": "http://m:5000"}
    return pretrain(*arguments, **(values | changes))


def manifest(app: specs.AppDef, **cfg: Any) -> dict[str, Any]:
    scheduler = create_scheduler("test")
    return scheduler.submit_dryrun(app, CFG | cfg).request.resource


def pods(made: dict[str, Any]) -> list[dict[str, Any]]:
    return [task["template"]["spec"] for task in made["spec"]["tasks"]]
