"""The probes of Kubernetes, against a small API server."""

import json
import socket
from pathlib import Path

import pytest
import yaml

from hardviews.doctor import reached
from hardviews.launch.kubernetes.rights import RIGHTS
from tests.doctor.api_server import JOBS, QUEUES, TOKEN, api_server, deployment, node
from tests.launch.kubernetes.test_rights import granted

PROBES = ("API", "Volcano", "queue", "namespace", "rights", "nodes", "storage class")


@pytest.fixture
def api():
    with api_server() as server:
        yield server


@pytest.fixture
def cluster(api, tmp_path, probe):
    """Look with a probe at the cluster of the test."""

    def run(name, **settings):
        reached.reach.cache_clear()
        found = probe(name, kubeconfig=api.kubeconfig(tmp_path), queue="vision", **settings)
        assert TOKEN not in str(found)
        return found

    return run


def test_the_rights_are_those_of_the_document():
    ours = {(right.group, right.resource, right.verb, not right.everywhere) for right in RIGHTS}
    assert ours == granted() and len(ours) == len(RIGHTS)


def test_a_cluster_that_has_everything(cluster, monkeypatch):
    monkeypatch.setenv("HARDVIEWS_SECRETS", "store")
    found = {}
    for name in PROBES:
        found |= cluster(name)
    assert {what: one for what, one in found.items() if one.state != "ok"} == {}
    assert found["client"].text.endswith("namespace team")
    assert found["API"].text == "Kubernetes v1.33.1"
    assert found["controller"].text == "volcano-controllers 1.14.1 is ready"
    assert "8 cpu (2 in use)" in found["queue"].text and "4 nvidia.com/gpu (0 in use)" in found["queue"].text
    assert "restricted" in found["namespace"].text and "registry" in found["image pull"].text
    assert found["GPUs of nodes"].text == "nvidia.com/gpu: 2 node(s) with 8, 1 node(s) with 0"
    assert found["storage class"].text == "fast by default"


def test_every_right_is_asked_for(cluster, api):
    cluster("rights")
    assert {right for right in api.asked if " " in right} == {f"{right.verb} {right.resource}" for right in RIGHTS}


def test_rights_that_are_missing(cluster, api):
    api.denied = {"create jobs", "get pods/log"}
    found = cluster("rights")
    assert found["rights"].state == "missing" and "create jobs.batch.volcano.sh" in found["rights"].text
    assert found["further rights"].state == "warning" and "torchx log" in found["further rights"].text
    assert "s|NAMESPACE|team|" in found["rights"].remedy


def test_no_volcano(cluster, api):
    del api.objects[JOBS]
    found = cluster("Volcano")
    assert found["Volcano"].state == "missing" and "helm install volcano" in found["Volcano"].remedy


@pytest.mark.parametrize(
    ("image", "ready", "state", "text"),
    [
        ("vc:v1.10.2", 1, "missing", "is 1.10.2; 1.11 or later"),
        ("vc:v1.14.1", 0, "missing", "no pod that is ready"),
        ("vc@sha256:0123", 1, "ok", "unknown version"),
        ("vc:latest", 1, "ok", "unknown version"),
    ],
)
def test_the_controller(cluster, api, image, ready, state, text):
    controller = deployment("volcano-controllers", image, ready)
    api.objects["/apis/apps/v1/namespaces/volcano-system/deployments"]["items"][0] = controller
    found = cluster("Volcano")
    assert found["controller"].state == state and text in found["controller"].text


def test_no_controller(cluster, api):
    api.objects["/apis/apps/v1/namespaces/volcano-system/deployments"] = {"items": []}
    assert cluster("Volcano")["scheduler"].state == "warning"


def test_queues(cluster, api):
    queue = api.objects[f"{QUEUES}/queues/vision"]
    queue["status"]["state"] = "Closed"
    assert "it is Closed" in cluster("queue")["queue"].text
    queue["status"]["state"] = "Open"
    queue["spec"]["capability"]["nvidia.com/gpu"] = "0"
    assert cluster("queue")["queue"].state == "warning"
    del queue["spec"]["capability"]
    assert cluster("queue")["queue"].text == "vision is open, without a limit of its own"
    del api.objects[f"{QUEUES}/queues/vision"]
    found = cluster("queue")["queue"]
    assert found.state == "missing" and "it has vision" in found.text and "docs/queue.yaml" in found.remedy


def test_no_namespace(cluster):
    found = cluster("namespace", namespace="other")["namespace"]
    assert found.state == "missing" and found.remedy == "kubectl create namespace other"


def test_secrets_of_jobs(cluster, monkeypatch):
    assert cluster("namespace")["job secrets"].state == "skipped"
    monkeypatch.setenv("HARDVIEWS_SECRETS", "store;nowhere")
    found = cluster("namespace")["job secrets"]
    assert found.state == "missing" and "kubectl -n team create secret generic nowhere" in found.remedy


def test_nodes(cluster, api):
    api.objects["/api/v1/nodes"] = {"items": [node("a"), node("b", "8", ready="False")]}
    found = cluster("nodes")
    assert found["nodes"].state == "warning" and found["GPUs of nodes"].state == "warning"
    api.objects["/api/v1/nodes"] = {"items": [node("b", "8", ready="Unknown")]}
    assert cluster("nodes")["nodes"].state == "missing"


def test_no_default_storage_class(cluster, api):
    del api.objects["/apis/storage.k8s.io/v1/storageclasses"]["items"][0]["metadata"]["annotations"]
    assert "kubectl annotate storageclass fast" in cluster("storage class")["storage class"].remedy


@pytest.mark.parametrize(
    ("name", "path", "what"),
    [
        ("Volcano", JOBS, "Volcano"),
        ("Volcano", "/apis/apps/v1/namespaces/volcano-system/deployments", "controller"),
        ("queue", f"{QUEUES}/queues/vision", "queue"),
        ("namespace", "/api/v1/namespaces/team", "namespace"),
        ("nodes", "/api/v1/nodes", "nodes"),
        ("storage class", "/apis/storage.k8s.io/v1/storageclasses", "storage class"),
    ],
)
def test_what_we_may_not_look_at_is_skipped(cluster, api, name, path, what):
    api.forbidden = {path}
    found = cluster(name)[what]
    assert found.state == "skipped" and "docs/rbac.yaml" in found.remedy


def test_credentials_that_the_cluster_does_not_know(api, tmp_path, probe):
    file = tmp_path / "kubeconfig"
    content = yaml.safe_load(Path(api.kubeconfig(tmp_path)).read_text())
    content["users"][0]["user"]["token"] = "another"
    file.write_text(json.dumps(content))
    found = probe("API", kubeconfig=str(file))["API"]
    assert found.state == "missing" and "kubectl auth whoami" in found.remedy


def test_the_context_is_the_one_that_is_named(api, tmp_path, probe):
    file = api.kubeconfig(tmp_path)
    content = yaml.safe_load(Path(file).read_text())
    content["contexts"].append({"name": "theirs", "context": {"cluster": "c", "user": "u", "namespace": "other"}})
    (tmp_path / "kubeconfig").write_text(json.dumps(content))
    assert "namespace other" in probe("API", kubeconfig=file, context="theirs")["client"].text
    found = probe("API", kubeconfig=file, context="nobody's")["client"]
    assert found.state == "missing" and "get-contexts" in found.remedy


@pytest.mark.parametrize(
    ("content", "text"),
    [(None, "is not a file"), ("{", "cannot be read"), ("{}", "cannot be used"), ("apiVersion: v1", "cannot be used")],
)
def test_a_kubeconfig_that_is_none(tmp_path, probe, content, text):
    file = tmp_path / "broken"
    if content is not None:
        file.write_text(content)
    found = probe("API", kubeconfig=str(file))["client"]
    assert found.state == "missing" and text in found.text
    assert probe("queue", kubeconfig=str(file))["queue"].state == "skipped"


def test_no_kubeconfig(probe, monkeypatch, tmp_path):
    monkeypatch.setattr("kubernetes.config.kube_config.KUBE_CONFIG_DEFAULT_LOCATION", str(tmp_path / "none"))
    assert probe("API")["client"].state == "skipped"
    assert probe("queue") == {}
    found = probe("API", namespace="team")["client"]
    assert found.state == "missing" and "KUBECONFIG" in found.remedy


def test_a_dead_server(api, tmp_path, probe):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        api.port = free.getsockname()[1]
    found = probe("API", kubeconfig=api.kubeconfig(tmp_path))["API"]
    assert found.state == "missing" and "refused" in found.text


def test_a_server_of_another_kind(api, tmp_path, probe):
    api.objects["/version"] = b"<html>Sign in</html>"
    assert "does not seem to be a Kubernetes API" in probe("API", kubeconfig=api.kubeconfig(tmp_path))["API"].text
