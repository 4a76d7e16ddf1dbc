"""Every file of values in ci/: rendered, linted, and held to the schemas of Kubernetes and of Volcano."""

import json
import os
import re
import shutil
import subprocess
import time
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

import helm_python
import jsonschema
import kubernetes_validate
import pytest
import yaml
from referencing import Registry, Resource

from tests.charts.rendering import CHART, SITE, chart, ci, job, objects, of_kind, texts

FILES = sorted(file.stem for file in (CHART / "ci").glob("*.yaml"))
GOLDEN = Path(__file__).parents[1] / "golden" / "charts"
CRDS = Path(__file__).parent / "crds"
VERSIONS = [f"1.{minor}" for minor in range(29, 38)]
OWN_SCHEMA = ("volcano.sh/", "monitoring.coreos.com/")


@cache
def rendered(name: str) -> list[dict[str, Any]]:
    return objects(ci(name))


@cache
def crds() -> dict[tuple[str, str], jsonschema.Draft7Validator]:
    """Validators by apiVersion and kind; the API would drop a field that they do not know, so here it is refused."""
    found = {}
    for file in sorted(CRDS.glob("*.json")):
        crd = json.loads(file.read_text())
        found[crd["apiVersion"], crd["kind"]] = jsonschema.Draft7Validator(strict(crd["schema"]))
    return found


def strict(schema: dict[str, Any]) -> dict[str, Any]:
    made = {key: value for key, value in schema.items() if key not in ("format", "x-kubernetes-validations")}
    if "properties" in schema:
        made["properties"] = {key: strict(value) for key, value in schema["properties"].items()}
        if not schema.get("x-kubernetes-preserve-unknown-fields"):
            made["additionalProperties"] = False
    if "items" in schema:
        made["items"] = strict(schema["items"])
    return made


@pytest.mark.parametrize("name", FILES)
def test_objects_are_those_that_were_written_down(name):
    file = GOLDEN / f"{name}.yaml"
    found = "".join(f"---\n{yaml.dump(made, Dumper=yaml.CSafeDumper)}" for made in rendered(name))
    if os.environ.get("HARDVIEWS_WRITE_GOLDEN"):
        file.parent.mkdir(exist_ok=True)
        file.write_text(found)
    assert found == file.read_text()


@pytest.mark.parametrize("name", FILES)
def test_the_chart_has_no_faults_for_the_linter(name):
    report = helm_python.lint(CHART, ci(name), strict=True, namespace="team", kube_version="v1.34.0")
    assert report["errors"] == []
    assert [message for message in report["messages"] if message["severity"] > 1] == []


def validator(version: str, made: dict[str, Any]) -> jsonschema.Draft202012Validator:
    """As kubernetes_validate.validate makes it; that reads a file of definitions for every object."""
    full = max(each for each in kubernetes_validate.utils.all_versions() if each.startswith(f"{version}."))
    folder = f"kubernetes-json-schema/v{full}-local-strict"
    group = re.sub(r"^([^./]*)(?:\.[^/]*)?/", r"\1-", made["apiVersion"])
    schema = kubernetes_validate.utils.schema_contents(f"{folder}/{made['kind'].lower()}-{group}.json", version)
    return jsonschema.Draft202012Validator(schema, registry=definitions(folder, version))


@lru_cache(maxsize=1)
def definitions(folder: str, version: str) -> Registry:
    read = kubernetes_validate.utils.schema_contents(f"{folder}/_definitions.json", version)
    return Resource.from_contents(read) @ Registry()


def plain_objects() -> list[dict[str, Any]]:
    """The objects of all files that Kubernetes itself knows, and a pod of each task; equal ones once."""
    found = []
    for name in FILES:
        for made in rendered(name):
            if not any(group in made["apiVersion"] for group in OWN_SCHEMA):
                found.append(made)
            for task in made.get("spec", {}).get("tasks", []):
                metadata = {**task["template"]["metadata"], "name": "pod"}
                found.append({"apiVersion": "v1", "kind": "Pod", **task["template"], "metadata": metadata})
    return list({json.dumps(made, sort_keys=True): made for made in found}.values())


@pytest.mark.parametrize("version", VERSIONS)
def test_kubernetes_knows_every_object(version):
    for made in plain_objects():
        validator(version, made).validate(made)


def test_an_object_that_kubernetes_does_not_know_would_be_seen():
    (made,) = of_kind("Service", {})
    made["spec"]["port"] = 1
    with pytest.raises(jsonschema.ValidationError, match="port"):
        validator(VERSIONS[-1], made).validate(made)
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(made, VERSIONS[-1], strict=True)


def test_volcano_and_the_prometheus_operator_know_every_object():
    seen = set()
    for name in FILES:
        for made in rendered(name):
            if any(group in made["apiVersion"] for group in OWN_SCHEMA):
                seen.add(made["kind"])
                crds()[made["apiVersion"], made["kind"]].validate(made)
    assert seen == {"Job", "Queue", "PodMonitor"}


def test_a_field_that_nobody_knows_would_be_seen():
    made = job("knn", {})
    made["spec"]["tasks"][0]["dependOn"] = {"name": ["x"]}
    with pytest.raises(jsonschema.ValidationError, match="dependOn"):
        crds()[made["apiVersion"], made["kind"]].validate(made)


@pytest.mark.parametrize("name", FILES)
def test_names_are_the_objects_own_and_short(name):
    keys = [(made["kind"], made["metadata"]["name"]) for made in rendered(name)]
    assert len(keys) == len(set(keys))
    for kind, made in keys:
        assert len(made) <= (52 if kind == "CronJob" else 63)


def pods(made: dict[str, Any]) -> list[dict[str, Any]]:
    """The specs of all pods that an object makes."""
    spec = made.get("spec", {})
    if made["kind"] == "Pod":
        return [spec]
    if made["kind"] == "CronJob":
        return [spec["jobTemplate"]["spec"]["template"]["spec"]]
    if made["kind"] == "Deployment":
        return [spec["template"]["spec"]]
    return [task["template"]["spec"] for task in spec.get("tasks", [])]


@pytest.mark.parametrize("name", FILES)
def test_pods_satisfy_the_restricted_standard(name):
    for made in rendered(name):
        for pod in pods(made):
            test = made["kind"] == "Pod" and ci(name).get("rbac", {}).get("create", False)
            assert pod["automountServiceAccountToken"] is test
            assert pod["securityContext"]["runAsNonRoot"] is True
            assert pod["securityContext"]["runAsUser"] > 0
            assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
            assert not any(pod.get(key) for key in ("hostNetwork", "hostPID", "hostIPC"))
            for container in pod["containers"]:
                security = container["securityContext"]
                assert security["allowPrivilegeEscalation"] is False
                assert security["capabilities"] == {"drop": ["ALL"]}
                assert security["readOnlyRootFilesystem"] is True
                assert container["resources"]["requests"].keys() >= {"cpu", "memory"}  # a quota may want them
                assert container["resources"]["limits"].keys() >= {"cpu", "memory"}


@pytest.mark.parametrize("name", FILES)
def test_labels_are_those_of_the_convention(name):
    values = ci(name)
    for made in rendered(name):
        labels = made["metadata"]["labels"]
        assert labels["app.kubernetes.io/instance"] == "demo"
        assert labels["app.kubernetes.io/managed-by"] == "Helm"
        assert labels["app.kubernetes.io/part-of"] == "hardviews"
        assert {"app.kubernetes.io/name", "app.kubernetes.io/component", "app.kubernetes.io/version"} <= labels.keys()
        assert labels["helm.sh/chart"] == f"hardviews-{chart().version}".replace("+", "_")
        assert labels.items() >= values.get("commonLabels", {}).items()
        assert made["metadata"].get("annotations", {}).items() >= values.get("commonAnnotations", {}).items()


def test_pods_have_the_labels_by_which_they_are_found():
    made = rendered("options")
    (service,) = [each for each in made if each["metadata"]["name"] == "hv-jobs"]
    for each in made:
        if each["apiVersion"].startswith("batch.volcano"):
            for task in each["spec"]["tasks"]:
                assert task["template"]["metadata"]["labels"].items() >= service["spec"]["selector"].items()
                assert task["template"]["spec"].get("subdomain", "hv-jobs") == "hv-jobs"


def test_a_job_of_512_nodes_is_no_larger_than_one_of_two():
    values = {**SITE, "pretrain": {"enabled": True, "j": "64:512x8", "gpu": 8}}
    small = {**SITE, "pretrain": {"enabled": True, "j": "1:2x8", "gpu": 8}}
    large = sum(len(text) for text in texts(values).values())
    assert large < 30_000
    assert abs(large - sum(len(text) for text in texts(small).values())) < 100


@pytest.mark.parametrize("name", FILES)
def test_the_same_values_make_the_same_text(name):
    assert texts(ci(name)) == texts(ci(name))


@pytest.mark.skipif(shutil.which("helm") is None, reason="the program helm is not on the PATH")
def test_the_program_renders_each_file_within_two_seconds():
    for name in FILES:
        began = time.perf_counter()
        command = ["helm", "template", "demo", str(CHART), "-n", "team", "-f", str(CHART / "ci" / f"{name}.yaml")]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60)
        took = time.perf_counter() - began
        assert done.returncode == 0, done.stderr
        found = [made for made in yaml.load_all(done.stdout, yaml.CSafeLoader) if made]
        key = ("kind", "apiVersion")
        assert sorted(str([made[k] for k in key]) for made in found) == sorted(
            str([made[k] for k in key]) for made in rendered(name)
        )
        assert took < 2


def test_without_values_there_is_no_job():
    assert of_kind("Job", {}) == []
    assert of_kind("Deployment", {}) == []
    assert of_kind("NetworkPolicy", {}) == []
    assert of_kind("Queue", {}) == []
