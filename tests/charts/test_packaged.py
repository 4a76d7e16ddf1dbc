"""An upgrade from the version before: packaged/ keeps the chart as it was, and an upgrade breaks nothing of it."""

import hashlib
import tarfile
from functools import cache
from typing import Any

import helm_python
import pytest
import yaml

from tests.charts.rendering import CHART, ci, last_packaged, objects

VALUES = ("cpu", "evaluations", "gpu", "kind", "production", "site")
"""Files of values that the version before knows."""
# Fields that Kubernetes and Volcano refuse to change in an object that exists.
FIXED: dict[str, tuple[str, ...]] = {
    "Job": ("spec",),
    "Deployment": ("spec.selector",),
    "Service": ("spec.clusterIP", "spec.selector"),
    "PodDisruptionBudget": ("spec.selector",),
    "RoleBinding": ("roleRef",),
    "ClusterRoleBinding": ("roleRef",),
    "PriorityClass": ("value", "preemptionPolicy"),
}


def digests() -> tuple[dict[str, str], dict[str, str]]:
    """Digests of the files of the packaged chart and of this one; Chart.yaml has the version."""
    with tarfile.open(last_packaged()) as tar:
        before = {
            member.name.partition("/")[2]: hashlib.sha256(tar.extractfile(member).read()).hexdigest()  # type: ignore[union-attr]
            for member in tar.getmembers()
            if member.isfile() and not member.name.endswith("Chart.yaml")
        }
    files = [file for file in CHART.rglob("*") if file.is_file() and file.relative_to(CHART).as_posix() != "Chart.yaml"]
    after = {file.relative_to(CHART).as_posix(): hashlib.sha256(file.read_bytes()).hexdigest() for file in files}
    return before, {name: after[name] for name in after if not name.startswith(("ci/", "README", ".helmignore"))}


@cache
def before() -> helm_python.Chart:
    return helm_python.Chart.load(str(last_packaged()))


def _rendered(chart: helm_python.Chart, values: dict[str, Any]) -> list[dict[str, Any]]:
    made = chart.render(values, name="demo", namespace="team", is_install=True)
    read = [yaml.load_all(text, yaml.CSafeLoader) for path, text in sorted(made.items()) if path.endswith(".yaml")]
    return [document for documents in read for document in documents if document]


def named(made: list[dict[str, Any]]) -> dict[tuple[str, str], dict[str, Any]]:
    return {(each["kind"], each["metadata"]["name"]): each for each in made}


def field(made: dict[str, Any], path: str) -> Any:
    found: Any = made
    for key in path.split("."):
        found = (found or {}).get(key)
    return found


def test_a_chart_that_differs_has_another_version():
    old, new = digests()
    changed = old != new
    ours = yaml.safe_load((CHART / "Chart.yaml").read_text())["version"]
    theirs = last_packaged().stem.removeprefix("hardviews-")
    assert (ours != theirs) is changed


@pytest.mark.parametrize("name", VALUES)
def test_an_upgrade_changes_nothing_that_cannot_be_changed(name):
    old, new = named(_rendered(before(), ci(name))), named(objects(ci(name)))
    for key in old.keys() & new.keys():
        for path in FIXED.get(key[0], ()):
            assert field(old[key], path) == field(new[key], path), (key, path)


@pytest.mark.parametrize("name", VALUES)
def test_servers_services_and_rights_keep_their_names(name):
    """A renamed server would come up empty, and a renamed Service would take the names of running pods away."""
    old, new = named(_rendered(before(), ci(name))), named(objects(ci(name)))
    lasting = {key for key in old if key[0] not in ("Job", "PodDisruptionBudget")}
    assert lasting <= new.keys()


@pytest.mark.parametrize("name", VALUES)
def test_jobs_of_the_version_before_go_on(name):
    """Their specs are the same, so their names are: an upgrade of the chart alone starts nothing anew.

    A version that has to change a spec says so in CHANGELOG.md, and names the jobs here.
    """
    old, new = _rendered(before(), ci(name)), objects(ci(name))
    names = [{each["metadata"]["name"] for each in made if each["kind"] == "Job"} for made in (old, new)]
    assert names[0] == names[1]
