"""Objects and rights that a cluster lacks for a job."""

import base64
import http.server
import threading

import pytest
from kubernetes import client

from hardviews.errors import UserError
from hardviews.launch.kubernetes.checks import ask, store_of
from hardviews.launch.kubernetes.cluster import JOBS, Cluster, reason
from hardviews.launch.visible_store import StoreOfJob
from jobs.knn import knn
from tests.launch.kubernetes.clusters import HOME, QUEUES, Few, refusal
from tests.launch.kubernetes.jobs import job, manifest

KEYS = {"AWS_ACCESS_KEY_ID": "x", "AWS_SECRET_ACCESS_KEY": "y"}


def asked(cluster, **changes):
    cfg = {name: changes.pop(name) for name in ("service_account", "image_pull_secrets") if name in changes}
    return ask(cluster, manifest(job(**changes), **cfg), "n", rehearse=True).mistakes


def test_a_cluster_that_has_everything_is_only_rehearsed_on():
    cluster = Few()
    cluster.objects[f"{HOME}/secrets/s3"] = {"data": KEYS}
    assert asked(cluster, secret=["s3"]) == []
    assert {query["dryRun"] for _, _, query in cluster.created} == {"All"}
    assert [path.rpartition("/")[2] for path, _, _ in cluster.created] == ["jobs", "pods", "pods"]


@pytest.mark.parametrize(
    ("path", "found", "words"),
    [
        (HOME, None, ["no namespace n", "kubectl create namespace n"]),
        (JOBS, None, ["no Volcano", "docs/cluster.md"]),
        (f"{QUEUES}/default", None, ["no queue default", "-cfg"]),
        (f"{QUEUES}/default", {"status": {"state": "Closed"}}, ["queue default takes no jobs", "Closed"]),
        (f"{HOME}/secrets/s3", None, ["no secret s3", "kubectl -n n create secret", "--secret"]),
        (f"{HOME}/secrets/s3", {"data": {"access-key": "x"}}, ["access-key", "AWS_ACCESS_KEY_ID"]),
        (f"{HOME}/secrets/s3", {"data": {"AWS_ACCESS_KEY_ID": "x"}}, ["no AWS_SECRET_ACCESS_KEY"]),
        (f"{HOME}/secrets/pull", None, ["no secret pull", "docker-registry"]),
        (f"{HOME}/serviceaccounts/sa", None, ["no service account sa"]),
        (f"{HOME}/persistentvolumeclaims/claim", None, ["no volume claim claim"]),
        ("/apis/scheduling.k8s.io/v1/priorityclasses/high", None, ["no priority class high"]),
        (HOME, refusal(500, "etcd is full"), ["refused a question", "etcd is full"]),
        (HOME, UserError("The cluster does not answer."), ["does not answer"]),
    ],
)
def test_what_is_not_there_is_named_with_its_remedy(path, found, words):
    cluster = Few()
    cluster.objects |= {
        f"{HOME}/secrets/s3": {"data": KEYS},
        f"{HOME}/secrets/pull": {"data": {}},
        f"{HOME}/serviceaccounts/sa": {},
        f"{HOME}/persistentvolumeclaims/claim": {},
        "/apis/scheduling.k8s.io/v1/priorityclasses/high": {},
    }
    changes = {
        "secret": ["s3"],
        "priority": "high",
        "mount": ["type=volume", "src=claim", "dst=/d"],
        "service_account": "sa",
        "image_pull_secrets": ["pull"],
    }
    assert asked(cluster, **changes) == []
    if found is None:
        del cluster.objects[path]
    else:
        cluster.objects[path] = found
    (text,) = asked(cluster, **changes)
    for word in words:
        assert word in text


MANY = "1:40x1"  # 40 trainers of 2 cores and 4,096 MB; a job begins with one and its coordinator


@pytest.mark.parametrize(
    ("path", "found", "mistakes", "remarks"),
    [
        ("resourcequotas", {"requests.cpu": "2"}, [["allows 2 of requests.cpu", "needs 2.1 to begin", "--cpu"]], []),
        ("resourcequotas", {"requests.cpu": "3"}, [], [["80.1", "some of them will not come"]]),
        ("resourcequotas", {"memory": "4Gi"}, [], [["4294.967296 MB of memory", "163968 MB"]]),
        ("resourcequotas", {"limits.memory": "4G"}, [["4000 MB of limits.memory", "4608 MB", "--memMB"]], []),
        ("resourcequotas", {"pods": "1"}, [["allows 1 of pods", "needs 2", "(-j)"]], []),
        ("resourcequotas", {"pods": "100", "count/secrets": "0", "requests.nvidia.com/gpu": "0"}, [], []),
        ("queues", {"cpu": "1"}, [["queue default allows 1 of cpu", "never fits"]], []),
        ("queues", {"cpu": "100"}, [], []),
    ],
)
def test_the_sum_of_the_pods_is_compared_with_quota_and_queue(path, found, mistakes, remarks):
    cluster = Few()
    if path == "queues":
        cluster.objects[f"{QUEUES}/default"] = {"spec": {"capability": found}}
    else:
        cluster.objects[f"{HOME}/{path}"] = {"items": [{"metadata": {"name": "q"}, "spec": {"hard": found}}]}
    made = ask(cluster, manifest(job(j=MANY, env={"AWS_PROFILE": "p"})), "n", rehearse=True)
    for texts, expected in ((made.mistakes, mistakes), (made.remarks, remarks)):
        assert len(texts) == len(expected), texts
        for text, words in zip(texts, expected, strict=True):
            assert all(word in text for word in words), text


def test_what_others_use_now_is_waited_for_and_a_quota_of_some_pods_is_not_compared():
    cluster = Few()
    quota = {"metadata": {"name": "q"}, "status": {"hard": {"cpu": "10"}, "used": {"cpu": "9"}}}
    scoped = {"metadata": {"name": "r"}, "spec": {"hard": {"cpu": "1"}, "scopes": ["BestEffort"]}}
    cluster.objects[f"{HOME}/resourcequotas"] = {"items": [quota, scoped]}
    made = ask(cluster, manifest(job(env={"AWS_PROFILE": "p"})), "n", rehearse=True)
    assert made.mistakes == []
    assert ["it waits until there is room" in text for text in made.remarks] == [True]
    assert made.unchecked == ["the quota r of the namespace n (it counts only some kinds of pods)"]


@pytest.mark.parametrize(
    ("limits", "words"),
    [
        ({"max": {"cpu": "1"}}, [["at most 1 of cpu", "role trainer may take 2", "--cpu"]]),
        ({"max": {"memory": "8Gi"}, "min": {"cpu": "50m"}}, []),
        ({"min": {"memory": "200M"}}, [["at least 200 MB", "role coordinator asks for 128 MB", "size of that pod"]]),
        ({"maxLimitRequestRatio": {"cpu": "4"}}, [["4 times the request", "role coordinator has 20 times"]]),
    ],
)
@pytest.mark.parametrize("kind", ["Container", "Pod", "PersistentVolumeClaim"])
def test_every_pod_is_compared_with_the_limit_range(limits, words, kind):
    cluster = Few()
    item = {"metadata": {"name": "r"}, "spec": {"limits": [{"type": kind} | limits]}}
    cluster.objects[f"{HOME}/limitranges"] = {"items": [item]}
    texts = asked(cluster)
    expected = [] if kind == "PersistentVolumeClaim" else words
    assert len(texts) == len(expected)
    for text, parts in zip(texts, expected, strict=True):
        assert all(part in text for part in parts), text


@pytest.mark.parametrize(
    ("spec", "state", "mistake", "remark"),
    [
        ({"storageClassName": "fast"}, "Pending", "waits for the storage class fast", ""),
        ({"storageClassName": "slow"}, "Pending", "", ""),  # the class is there
        ({}, "Pending", "", "names no storage class"),
        ({}, "Lost", "is lost", ""),
        ({"accessModes": ["ReadWriteOnce"]}, "Bound", "", "serves one node only"),
        ({"accessModes": ["ReadWriteOncePod"]}, "Bound", "serves one pod only", ""),
        ({"accessModes": ["ReadWriteOnce", "ReadWriteMany"]}, "Bound", "", ""),
    ],
)
def test_a_claim_needs_a_volume_that_serves_all_pods(spec, state, mistake, remark):
    cluster = Few()
    cluster.objects[f"{HOME}/persistentvolumeclaims/claim"] = {"spec": spec, "status": {"phase": state}}
    cluster.objects["/apis/storage.k8s.io/v1/storageclasses/slow"] = {}
    app = job(mount=["type=volume", "src=claim", "dst=/d"], env={"AWS_PROFILE": "p"})
    found = ask(cluster, manifest(app), "n", rehearse=True)
    for texts, expected in ((found.mistakes, mistake), (found.remarks, remark)):
        assert len(texts) == bool(expected), texts
        assert expected in "".join(texts)


@pytest.mark.parametrize("level", ["restricted", "baseline", "privileged", None])
def test_a_folder_of_a_node_is_refused_by_a_namespace_of_a_strict_level(level):
    cluster = Few()
    cluster.objects[HOME] = {"metadata": {"labels": {"pod-security.kubernetes.io/enforce": level} if level else {}}}
    texts = asked(cluster, mount=["type=bind", "src=/folder", "dst=/d"])
    assert len(texts) == (level in ("restricted", "baseline"))
    assert all("admits only pods of the level" in text and "/folder" in text for text in texts)


@pytest.mark.parametrize(
    ("account", "env", "remarks"),
    [
        (None, {}, 1),
        ({"metadata": {"annotations": {"eks.amazonaws.com/role-arn": "arn"}}}, {}, 0),
        (refusal(403, "forbidden"), {}, 0),
        (None, {"AWS_WEB_IDENTITY_TOKEN_FILE": "/token"}, 0),
        (None, {"AWS_SHARED_CREDENTIALS_FILE": "/file"}, 0),
    ],
)
def test_pods_without_keys_and_without_a_web_identity_are_reported(account, env, remarks):
    cluster = Few()
    if account is not None:
        cluster.objects[f"{HOME}/serviceaccounts/default"] = account
    found = ask(cluster, manifest(job(env=env)), "n", rehearse=True)
    assert (found.mistakes, len(found.remarks)) == ([], remarks)
    assert all("AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY" in text for text in found.remarks)


def test_all_that_is_missing_is_named_at_once():
    assert len(asked(Few(), secret=["a", "b"], priority="high")) == 3


@pytest.mark.parametrize(
    ("other", "state", "refused"),
    [
        ({}, "Running", True),
        ({}, "Pending", True),
        ({"output": "s3://b/o/"}, "", True),
        ({}, "Completed", False),
        ({}, "Aborting", False),  # it saves and leaves
        ({}, "Failed", False),
        ({"output": "s3://b/other"}, "Running", False),
    ],
)
def test_a_second_job_into_one_output_is_refused_though_the_first_has_not_begun(other, state, refused):
    cluster = Few()
    there = manifest(job(**other)) | {"status": {"state": {"phase": state}}}
    evaluation = manifest(knn(image="i", data="s3://b/d", output="s3://b/o", tracking="http://m:1"))
    cluster.objects[f"{JOBS}/namespaces/n/jobs"] = {"items": [there, evaluation]}
    texts = asked(cluster)
    assert len(texts) == refused
    for text in texts:
        for word in (there["metadata"]["name"], "trains into s3://b/o already", "torchx cancel", "another --output"):
            assert word in text


def test_what_we_may_not_ask_is_not_checked():
    cluster = Few()
    for path in (HOME, JOBS, f"{QUEUES}/default", f"{HOME}/secrets/s3"):
        cluster.objects[path] = refusal(403, "forbidden")
    for kind in ("resourcequotas", "limitranges"):
        cluster.objects[f"{HOME}/{kind}"] = refusal(403, "forbidden")
    cluster.refuses["pods"] = refusal(403, "cannot create resource pods")
    found = ask(cluster, manifest(job(secret=["s3"])), "n", rehearse=True)
    assert (found.mistakes, found.remarks) == ([], [])
    assert found.unchecked == [
        "namespaces n (the right to get namespaces is missing)",
        "/apis/batch.volcano.sh/v1alpha1 (the right to read it is missing)",
        "queues default (the right to get queues is missing)",
        "secrets s3 (the right to get secrets in the namespace n is missing)",
        "resourcequotas (the right to list resourcequotas in the namespace n is missing)",
        "limitranges (the right to list limitranges in the namespace n is missing)",
        "whether the API admits pods (the right to create pods in the namespace n is missing)",
    ]


@pytest.mark.parametrize(
    ("kind", "error"),
    [("jobs", refusal(400, "no such policy")), ("pods", refusal(403, "violates PodSecurity restricted"))],
)
def test_what_the_cluster_would_refuse_is_refused(kind, error):
    cluster = Few()
    cluster.refuses[kind] = error
    texts = asked(cluster)
    assert texts
    assert all(error.message in text for text in texts)


def test_a_cluster_that_does_not_answer_is_one_sentence(tmp_path, monkeypatch):
    with pytest.raises(UserError, match="No Kubernetes cluster is known here"):
        Cluster().get("/api")
    file = tmp_path / "kubeconfig"
    file.write_text(
        "apiVersion: v1\nkind: Config\ncurrent-context: c\n"
        "clusters: [{name: c, cluster: {server: 'http://127.0.0.1:1'}}]\n"
        "users: [{name: u, user: {token: t}}]\ncontexts: [{name: c, context: {cluster: c, user: u}}]\n"
    )
    monkeypatch.setenv("KUBECONFIG", str(file))
    monkeypatch.setattr("kubernetes.config.kube_config.KUBE_CONFIG_DEFAULT_LOCATION", str(file))
    cluster = Cluster()
    with pytest.raises(UserError, match=r"cluster at http://127\.0\.0\.1:1 does not answer .*refused.*KUBECONFIG"):
        cluster.get("/api")
    assert cluster.namespace() is None


class Server(http.server.BaseHTTPRequestHandler):
    """Answers every request alike."""

    status, kind, body = 404, "text/html", b"<html><h1>Nothing here</h1></html>"

    def do_GET(self):
        self.send_response(self.status, None)
        self.send_header("Content-Type", self.kind)
        self.send_header("Content-Length", str(len(self.body)))
        self.end_headers()
        self.wfile.write(self.body)

    do_POST = do_GET

    def log_message(self, *_):
        return


NOT_FOUND = b'{"kind":"Status","apiVersion":"v1","status":"Failure","message":"namespaces n not found","code":404}'


@pytest.mark.parametrize(
    ("status", "kind", "body", "words"),
    [
        (404, "text/html", b"<html><h1>Nothing here</h1></html>", ["not seem to be a Kubernetes API", "Nothing here"]),
        (404, "application/json", b'{"detail":"Not Found"}', ["not seem to be a Kubernetes API"]),
        (404, "application/json", NOT_FOUND, ["no namespace n"]),
        (200, "text/html", b"<html><h1>Welcome</h1></html>", ["not seem to be a Kubernetes API", "Welcome"]),
        (200, "application/json", b"[1]", ["not seem to be a Kubernetes API"]),
        (302, "text/html", b"<p>Log in</p>", ["not seem to be a Kubernetes API", "302"]),
        (403, "text/html", b"<p>proxy</p>", ["not seem to be a Kubernetes API", "403"]),
        (400, "text/plain", b"Client sent an HTTP request to an HTTPS server.", ["HTTPS server"]),
        (502, "text/html", b"<p>gateway</p>", ["refused a question", "502"]),
    ],
)
def test_a_server_that_is_another_one_is_recognised(status, kind, body, words, tmp_path, monkeypatch):
    handler = type("Answers", (Server,), {"status": status, "kind": kind, "body": body})
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        address = f"http://127.0.0.1:{server.server_address[1]}"
        settings = client.Configuration(host=address)
        settings.retries = False
        (text,) = ask(Cluster(client.ApiClient(settings)), manifest(job()), "n", rehearse=True).mistakes
        server.shutdown()
    for word in words:
        assert word in text
    assert "<" not in text
    assert (address in text) == ("Kubernetes API" in text)


def test_the_store_of_a_job_is_read_from_its_variables_and_secrets():
    def encoded(**values):
        return {"data": {key: base64.b64encode(value.encode()).decode() for key, value in values.items()}}

    cluster = Few()
    made = manifest(job(secret=["s3", "more"], env={"AWS_ENDPOINT_URL": "https://mine"}))
    cluster.objects[f"{HOME}/secrets/s3"] = encoded(AWS_ACCESS_KEY_ID="key", AWS_SECRET_ACCESS_KEY="secret")
    cluster.objects[f"{HOME}/secrets/more"] = encoded(AWS_ENDPOINT_URL="http://store:8333", OTHER="x")
    known = store_of(cluster, made, "n")
    assert known == StoreOfJob({"AWS_ACCESS_KEY_ID": "key", "AWS_ENDPOINT_URL": "https://mine"})
    cluster.objects[f"{HOME}/secrets/s3"] = refusal(403, "forbidden")
    assert store_of(cluster, made, "n") == StoreOfJob({"AWS_ENDPOINT_URL": "https://mine"}, complete=False)


def test_the_innermost_cause_is_what_is_said():
    outer = OSError("outer")
    outer.reason = OSError("<x object at 0x7f>: no route")  # type: ignore[attr-defined]
    assert reason(outer) == "no route"
