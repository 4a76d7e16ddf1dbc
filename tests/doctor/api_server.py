"""A small Kubernetes API over HTTP: the objects that a test gives it, by path, and the rights that it names."""

import http.server
import json
import threading
from contextlib import contextmanager
from pathlib import Path

JOBS = "/apis/batch.volcano.sh/v1alpha1"
QUEUES = "/apis/scheduling.volcano.sh/v1beta1"
TOKEN = "planted-token-of-the-cluster"


def deployment(name, image, ready=1):
    return {
        "metadata": {"name": name},
        "spec": {"template": {"spec": {"containers": [{"image": image}]}}},
        "status": {"readyReplicas": ready},
    }


def node(name, gpus="0", ready="True"):
    return {
        "metadata": {"name": name},
        "spec": {},
        "status": {"allocatable": {"nvidia.com/gpu": gpus}, "conditions": [{"type": "Ready", "status": ready}]},
    }


def objects():
    """A cluster on which jobs can be run."""
    return {
        "/version": {"gitVersion": "v1.33.1"},
        JOBS: {"kind": "APIResourceList"},
        QUEUES: {"kind": "APIResourceList"},
        f"{QUEUES}/queues": {"items": [{"metadata": {"name": "root"}}, {"metadata": {"name": "vision"}}]},
        f"{QUEUES}/queues/vision": {
            "spec": {"capability": {"cpu": "8", "nvidia.com/gpu": "4"}},
            "status": {"state": "Open", "allocated": {"cpu": "2"}},
        },
        "/apis/apps/v1/namespaces/volcano-system/deployments": {
            "items": [
                deployment("volcano-controllers", "docker.io/volcanosh/vc-controller-manager:v1.14.1"),
                deployment("volcano-scheduler", "docker.io/volcanosh/vc-scheduler:v1.14.1"),
            ]
        },
        "/api/v1/namespaces/team": {
            "metadata": {"name": "team", "labels": {"pod-security.kubernetes.io/enforce": "restricted"}}
        },
        "/api/v1/namespaces/team/serviceaccounts/default": {"imagePullSecrets": [{"name": "registry"}]},
        "/api/v1/namespaces/team/secrets/store": {"data": {"AWS_SECRET_ACCESS_KEY": "cGxhbnRlZA=="}},
        "/api/v1/nodes": {"items": [node("a", "8"), node("b", "8"), node("c")]},
        "/apis/storage.k8s.io/v1/storageclasses": {
            "items": [
                {
                    "metadata": {
                        "name": "fast",
                        "annotations": {"storageclass.kubernetes.io/is-default-class": "true"},
                    }
                }
            ]
        },
    }


class Api:
    """What the server answers; `forbidden` are paths, `denied` rights as VERB/RESOURCE."""

    def __init__(self):
        self.objects = objects()
        self.forbidden = set()
        self.denied = set()
        self.asked = []
        self.port = 0

    def kubeconfig(self, folder: Path) -> str:
        """Write a kubeconfig, and return its path."""
        file = folder / "kubeconfig"
        content = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "c", "cluster": {"server": f"http://127.0.0.1:{self.port}"}}],
            "contexts": [{"name": "ours", "context": {"cluster": "c", "user": "u", "namespace": "team"}}],
            "current-context": "ours",
            "users": [{"name": "u", "user": {"token": TOKEN}}],
        }
        file.write_text(json.dumps(content))
        return str(file)


def _status(code, message):
    return {"kind": "Status", "status": "Failure", "code": code, "message": message}


@contextmanager
def api_server():
    """Serve an `Api` on loopback."""
    api = Api()

    class Handler(http.server.BaseHTTPRequestHandler):
        def log_message(self, *_):
            pass

        def reply(self, code, body):
            data = body if isinstance(body, bytes) else json.dumps(body).encode()
            self.send_response(code)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def do_GET(self):
            path = self.path.partition("?")[0]
            api.asked.append(path)
            if self.headers.get("Authorization") != f"Bearer {TOKEN}":
                self.reply(401, _status(401, "Unauthorized"))
            elif path in api.forbidden:
                self.reply(403, _status(403, f"cannot read {path}"))
            elif path in api.objects:
                self.reply(200, api.objects[path])
            else:
                self.reply(404, _status(404, f"{path} not found"))

        def do_POST(self):
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            attributes = body["spec"]["resourceAttributes"]
            kind = "/".join(attributes[part] for part in ("resource", "subresource") if attributes.get(part))
            right = f"{attributes['verb']} {kind}"
            api.asked.append(right)
            self.reply(201, {**body, "status": {"allowed": right not in api.denied}})

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        api.port = server.server_port
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        try:
            yield api
        finally:
            server.shutdown()
