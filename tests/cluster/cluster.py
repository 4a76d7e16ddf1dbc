"""The cluster that KUBECONFIG names, by kubectl: a namespace of our own in it, its pods, and ways to lose them."""

import json
import os
import re
import shutil
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

Found = TypeVar("Found")


def wait_for(what: str, look: Callable[[], Found], seconds: float, every: float = 0.5) -> Found:
    """Look until something is found; returns it."""
    deadline = time.monotonic() + seconds
    while True:
        if found := look():
            return found
        assert time.monotonic() < deadline, f"{what}: not within {seconds:.0f} s"
        time.sleep(every)


def unusable() -> str | None:
    """Why there is no cluster to test on; None if there is one."""
    for variable, what in (("KUBECONFIG", "cluster"), ("HARDVIEWS_IMAGE", "image"), ("OBJECT_STORE_IMAGE", "image")):
        if not os.environ.get(variable):
            return f"{variable} names no {what}"
    if shutil.which("kubectl") is None:
        return "there is no kubectl"
    asked = subprocess.run(
        ["kubectl", "get", "crd", "jobs.batch.volcano.sh", "--request-timeout=10s"], capture_output=True, text=True
    )
    return f"the cluster does not answer, or has no Volcano: {asked.stderr.strip()}" if asked.returncode else None


class Cluster:
    """One namespace of the cluster."""

    def __init__(self, namespace: str) -> None:
        self.namespace = namespace

    def kubectl(self, *words: str, given: str | None = None, check: bool = True, timeout: float = 60) -> str:
        """Run kubectl in the namespace; return its output."""
        done = subprocess.run(
            ["kubectl", "--namespace", self.namespace, *words],
            input=given,
            capture_output=True,
            text=True,
            timeout=timeout,
        )
        assert not check or done.returncode == 0, f"kubectl {' '.join(words)}: {done.stderr}"
        return done.stdout

    def pull(self, image: str) -> None:
        """Get an image onto every node, however long that takes; later waits then measure the product alone."""
        labels = {"name": "puller"}
        nobody = {"runAsNonRoot": True, "runAsUser": 10001, "seccompProfile": {"type": "RuntimeDefault"}}
        container = {
            "name": "puller",
            "image": image,
            "command": ["sleep", "infinity"],
            "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
        }
        pod = {"containers": [container], "securityContext": nobody, "terminationGracePeriodSeconds": 0}
        self.apply(
            {
                "apiVersion": "apps/v1",
                "kind": "DaemonSet",
                "metadata": labels,
                "spec": {
                    "selector": {"matchLabels": labels},
                    "template": {"metadata": {"labels": labels}, "spec": pod},
                },
            }
        )
        try:
            self.kubectl("rollout", "status", "daemonset/puller", "--timeout=1800s", timeout=1810)
        finally:
            self.kubectl("delete", "daemonset", "puller", "--wait=false", check=False)

    def apply(self, *objects: dict[str, Any]) -> None:
        self.kubectl("apply", "-f", "-", given=json.dumps({"apiVersion": "v1", "kind": "List", "items": list(objects)}))

    def get(self, *words: str) -> Any:
        """An object, or a list's items; None if there is no such object."""
        text = self.kubectl("get", *words, "--ignore-not-found", "--output", "json")
        found = json.loads(text) if text.strip() else None
        return found["items"] if found and found["kind"].endswith("List") else found

    def pods(self, job: str, role: str | None = None) -> list[dict[str, Any]]:
        """The pods of a job that are not on their way out."""
        selector = f"volcano.sh/job-name={job}" + (f",torchx.pytorch.org/role-name={role}" if role else "")
        found = self.get("pods", "--selector", selector) or []
        return [pod for pod in found if "deletionTimestamp" not in pod["metadata"]]

    def running(self, job: str, role: str) -> list[str]:
        """The names of a role's pods that run."""
        return sorted(p["metadata"]["name"] for p in self.pods(job, role) if p["status"].get("phase") == "Running")

    def phase(self, job: str) -> str | None:
        found = self.get("jobs.batch.volcano.sh", job)
        return found.get("status", {}).get("state", {}).get("phase") if found else None

    def logs(self, job: str) -> str:
        """All that a job's containers say, and said before they were started again; for messages."""
        text = ""
        for pod in self.pods(job):
            name = pod["metadata"]["name"]
            for previous in ("--previous=true", "--previous=false"):
                text += f"== {name} {previous}\n"
                text += self.kubectl("logs", name, previous, "--tail=60", "--timestamps", check=False)
        return text

    def kill(self, pod: str) -> None:
        """Delete a pod at once, as if its machine had lost it: without notice to its processes."""
        self.kubectl("delete", "pod", pod, "--force", "--grace-period=0", "--wait=false")

    def evict(self, pod: str) -> None:
        """Ask for a pod's eviction as a drain does: it has its grace period to save."""
        body = {
            "apiVersion": "policy/v1",
            "kind": "Eviction",
            "metadata": {"name": pod, "namespace": self.namespace},
        }
        path = f"/api/v1/namespaces/{self.namespace}/pods/{pod}/eviction"
        self.kubectl("create", "--raw", path, "-f", "-", given=json.dumps(body))

    def restart_container(self, deployment: str, program: str) -> None:
        """End a deployment's only program: the kubelet starts it again in place, its files stay."""
        self.kubectl("exec", f"deployment/{deployment}", "--", *program.split(), check=False)

    @contextmanager
    def forwarded(self, service: str, port: int, folder: Path) -> Iterator[int]:
        """A port of this machine that leads to a service, also after its pod has been replaced."""
        forward = PortForward(self.namespace, service, port, folder)
        try:
            yield forward.port
        finally:
            forward.close()


class PortForward:
    """`kubectl port-forward` on a port of the loopback interface, begun again if its pod was replaced."""

    def __init__(self, namespace: str, service: str, port: int, folder: Path) -> None:
        self._words = ["kubectl", "--namespace", namespace, "port-forward", f"service/{service}"]
        self._target = port
        self._log = folder / f"forward-{service}.log"
        self._over = threading.Event()
        self._process = self._begin("")
        self.port = wait_for(f"a port that leads to {service}", self._announced, 20, every=0.1)
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def _begin(self, local: str) -> subprocess.Popen[bytes]:
        with open(self._log, "wb") as log:
            words = [*self._words, f"{local}:{self._target}"]
            return subprocess.Popen(words, stdout=log, stderr=log, stdin=subprocess.DEVNULL)

    def _announced(self) -> int | None:
        assert self._process.poll() is None, self._log.read_text()
        match = re.search(r"127\.0\.0\.1:(\d+)", self._log.read_text())
        return int(match[1]) if match else None

    def _watch(self) -> None:
        while not self._over.wait(0.3):
            # It lives on after its pod was lost, and says so; from then on it connects to nothing.
            if self._process.poll() is not None or "lost connection to pod" in self._log.read_text():
                self._process.kill()
                self._process.wait(10)
                self._process = self._begin(str(self.port))

    def close(self) -> None:
        self._over.set()
        self._thread.join(15)
        self._process.kill()
        self._process.wait(10)
