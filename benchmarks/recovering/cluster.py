"""The same job on the cluster that KUBECONFIG names, its pods' timelines, and pods that are lost."""

import subprocess
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import urllib3
from kubernetes import client, config

from recovering.contestants import Contestant, program
from recovering.timeline import Event, Tail, by_time

_LOOK = 1.0  # seconds between two looks for pods that are new, and at the job's state
_ENDS = ("Completed", "Failed", "Aborted", "Terminated")


class Pods:
    """The pods of a job, and all that their containers have said, followed while they live."""

    def __init__(self, namespace: str, job: str, folder: Path) -> None:
        self.namespace, self.folder = namespace, folder
        self.selector = f"volcano.sh/job-name={job},torchx.pytorch.org/role-name=trainer"
        self.api: Any = client.CoreV1Api()
        self.current: set[str] = set()  # NAME:UID of pods that are not on their way out
        self._followed: set[str] = set()
        self._tails: dict[Path, Tail] = {}
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def events(self) -> list[Event]:
        """Return the notes of all processes; `who` is NAME:UID:PID."""
        for log in self.folder.glob("*.pod"):
            self._tails.setdefault(log, Tail(log, f"{log.stem}:"))
        return by_time(event for tail in self._tails.values() for event in tail.events())

    def delete(self, pod: str) -> None:
        """Delete a pod at once; its processes get SIGTERM, and the kubelet kills them some two seconds later."""
        self.api.delete_namespaced_pod(pod, self.namespace, grace_period_seconds=0)

    def close(self) -> None:
        """Stop following."""
        self._over.set()
        self._thread.join(10)

    def _watch(self) -> None:
        while not self._over.wait(_LOOK):
            with suppress(client.ApiException, urllib3.exceptions.HTTPError):
                pods = self.api.list_namespaced_pod(self.namespace, label_selector=self.selector).items
                living = [pod for pod in pods if pod.metadata.deletion_timestamp is None]
                self.current = {f"{pod.metadata.name}:{pod.metadata.uid}" for pod in living}
                for pod in living:
                    if pod.status.phase == "Running" and pod.metadata.uid not in self._followed:
                        self._followed.add(pod.metadata.uid)
                        place = (pod.metadata.name, pod.metadata.uid)
                        threading.Thread(target=self._follow, args=place, daemon=True).start()

    def _follow(self, name: str, uid: str) -> None:
        with suppress(client.ApiException, urllib3.exceptions.HTTPError):
            said = self.api.read_namespaced_pod_log(name, self.namespace, follow=True, _preload_content=False)
            with (self.folder / f"{name}:{uid}.pod").open("ab", buffering=0) as log:
                for chunk in said.stream(1024):
                    log.write(chunk)
        self._followed.discard(uid)  # a container that is started again in its pod is followed anew


class OnCluster(Contestant):
    """`torchx run -s kubernetes jobs/pretrain.py` at the site that the environment describes."""

    name = "on the cluster"

    def __init__(self, recipe: Sequence[str], root: Path, environment: dict[str, str], folder: Path) -> None:
        super().__init__(recipe, environment, folder)
        self.root = root
        config.load_kube_config()
        self.handle = ""
        self.pods: Pods | None = None
        self._jobs: Any = client.CustomObjectsApi()
        self._asked, self._ended = 0.0, False

    def start(self) -> None:
        """Submit the job."""
        output = f"{self.environment['HARDVIEWS_OUTPUT'].rstrip('/')}-recovery-{int(time.time())}"
        job = ["jobs/pretrain.py", "--recipe", self.words[0], "--output", output, "-j", "1:2", "--cpu", "1"]
        submit = [program("torchx"), "run", "-s", "kubernetes", *job, "--memMB", "2500"]
        submit += ["--env", "HARDVIEWS_TIMELINE=-", "--", *self.words[1:]]
        done = subprocess.run(submit, cwd=self.root, env=self.environment, capture_output=True, text=True, timeout=120)
        if done.returncode:
            raise SystemExit(f"{' '.join(submit)}\n{done.stdout}{done.stderr}")
        self.handle = done.stdout.strip().splitlines()[-1]
        self.namespace, self.job = self.handle.rpartition("/")[2].split(":")
        self._ended = False
        self.pods = Pods(self.namespace, self.job, self.folder)

    def over(self) -> bool:
        """Return whether the job has ended."""
        if not self.handle:
            return True
        if time.monotonic() - self._asked > _LOOK:
            self._asked = time.monotonic()
            place = ("batch.volcano.sh", "v1alpha1", self.namespace, "jobs", self.job)
            try:
                status = self._jobs.get_namespaced_custom_object(*place).get("status", {})
                self._ended = status.get("state", {}).get("phase") in _ENDS
            except client.ApiException as error:
                self._ended = error.status == 404
        return self._ended

    def events(self) -> list[Event]:
        """Return the notes of the processes so far."""
        return self.pods.events() if self.pods else []

    def living(self, who: str) -> bool:
        """Return whether a process is the one that trains now in a pod that is there."""
        place = who.rpartition(":")[0]
        joined = [event.who for event in self.events() if event.event == "joined" and event.who.startswith(place)]
        return self.pods is not None and place in self.pods.current and joined[-1:] == [who]

    def kill(self, who: str) -> set[str]:
        """Force-delete the pod of a process; return all processes of that pod."""
        assert self.pods is not None
        place = who.rpartition(":")[0]
        self.pods.delete(place.partition(":")[0])
        self.pods.current.discard(place)
        return {event.who for event in self.events() if event.who.startswith(place)}

    def end(self) -> None:
        """Remove the job."""
        if self.handle:
            remove = [program("torchx"), "delete", self.handle]
            subprocess.run(remove, cwd=self.root, env=self.environment, capture_output=True, timeout=120)
            self.handle = ""
        if self.pods:
            self.pods.close()
            self.pods = None
