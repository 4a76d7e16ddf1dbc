"""The chart, rendered without a cluster and without the program `helm`."""

import re
from functools import cache
from pathlib import Path
from typing import Any

import helm_python
import yaml

ROOT = Path(__file__).parents[2]
CHART = ROOT / "charts" / "hardviews"
JOBS = ("pack", "pretrain", "finetune", "knn", "linear", "fewshot", "transfer", "classify")
REQUIRED = {"pack": {"source": "digits"}, "finetune": {"output": "s3://b/tuned"}}
"""Values without which a job is refused."""
SITE = {"image": "registry/hardviews:1", "data": "s3://b/d", "output": "s3://b/o", "tracking": "http://m:5000"}


def last_packaged() -> Path:
    """The package of the version before."""

    def version(file: Path) -> list[int]:
        return [int(part) for part in re.findall(r"\d+", file.stem)]

    return max((Path(__file__).parent / "packaged").glob("hardviews-*.tgz"), key=version)


@cache
def chart() -> helm_python.Chart:
    return helm_python.Chart.load(str(CHART))


def ci(name: str) -> dict[str, Any]:
    """The values of a file in ci/."""
    found: dict[str, Any] = yaml.safe_load((CHART / "ci" / f"{name}.yaml").read_text())
    return found


def texts(values: dict[str, Any], release: str = "demo") -> dict[str, str]:
    """Rendered text by template, after the check of the schema that `helm` makes."""
    merged = chart().merge_values(values)
    chart().validate_schema(merged)
    made = chart().render(values, name=release, namespace="team", is_install=True)
    return {path.removeprefix("hardviews/templates/"): text for path, text in made.items()}


def objects(values: dict[str, Any], release: str = "demo") -> list[dict[str, Any]]:
    """All objects, in the order of the templates."""
    made = texts(values, release)
    read = [yaml.load_all(text, yaml.CSafeLoader) for path, text in sorted(made.items()) if path.endswith(".yaml")]
    return [document for documents in read for document in documents if document]


def of_kind(kind: str, values: dict[str, Any], release: str = "demo") -> list[dict[str, Any]]:
    return [found for found in objects(values, release) if found["kind"] == kind]


def job(name: str, values: dict[str, Any], release: str = "demo") -> dict[str, Any]:
    """The Volcano job of this name, switched on, with a site's values."""
    merged = {**SITE, **values, name: {"enabled": True, **values.get(name, {})}}
    found = [
        made
        for made in of_kind("Job", merged, release)
        if made["metadata"]["labels"]["app.kubernetes.io/component"] == name
    ]
    assert len(found) == 1
    return found[0]
