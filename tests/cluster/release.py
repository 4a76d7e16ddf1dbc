"""Releases of the Helm chart in a namespace of the cluster, by the program `helm`."""

import os
import subprocess
from pathlib import Path

from tests.cluster.cluster import Cluster, wait_for

ROOT = Path(__file__).parents[2]
CHART = ROOT / "charts" / "hardviews"
STORE = {"AWS_ACCESS_KEY_ID": "hardviews", "AWS_SECRET_ACCESS_KEY": "for-trying-out-only"}
"""Credentials of the chart's own S3 server, which are public."""


class Release:
    """One release in a namespace."""

    def __init__(self, cluster: Cluster, name: str, chart: Path = CHART) -> None:
        self.cluster = cluster
        self.name = name
        self.chart = chart

    def helm(self, *words: str, timeout: float = 300, check: bool = True) -> str:
        """Run helm in the namespace; returns all that it printed."""
        done = subprocess.run(
            ["helm", *words, "--namespace", self.cluster.namespace],
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=timeout,
        )
        assert not check or done.returncode == 0, f"helm {' '.join(words)}: {done.stdout}{done.stderr}"
        return done.stdout + done.stderr

    def install(self, *words: str) -> None:
        self.helm("install", self.name, str(self.chart), *words)

    def upgrade(self, *words: str) -> None:
        self.helm("upgrade", self.name, str(self.chart), *words)

    def jobs(self) -> dict[str, tuple[str, str]]:
        """Name and uid of each job, by the command that it runs."""
        found = self.cluster.get("jobs.batch.volcano.sh", "--selector", self.selector) or []
        metadata = [made["metadata"] for made in found if "deletionTimestamp" not in made["metadata"]]
        return {each["labels"]["app.kubernetes.io/component"]: (each["name"], each["uid"]) for each in metadata}

    @property
    def selector(self) -> str:
        """Labels of its objects."""
        return f"app.kubernetes.io/instance={self.name}"

    def wait_for_servers(self) -> None:
        for part in ("store", "mlflow"):
            words = ("rollout", "status", f"deployment/{self.name}-hardviews-{part}", "--timeout=300s")
            self.cluster.kubectl(*words, timeout=310)

    def wait_for_job(self, part: str, seconds: float) -> None:
        """Wait until a job is complete; a failed job is reported with its logs."""
        name = self.jobs()[part][0]

        def over() -> bool:
            phase = self.cluster.phase(name)
            assert phase not in ("Failed", "Aborted", "Terminated"), self.cluster.logs(name)
            return phase == "Completed"

        wait_for(f"the end of {part}", over, seconds, every=2)


def laptop(*changes: str) -> list[str]:
    """The words that give the values for a laptop, with the images of this cluster and changes as `--set` has them."""
    images = [f"image={os.environ['HARDVIEWS_IMAGE']}", f"objectStore.image={os.environ['OBJECT_STORE_IMAGE']}"]
    strings = [word for change in images for word in ("--set-string", change)]
    return ["--values", str(CHART / "ci" / "kind.yaml"), *strings, *(w for c in changes for w in ("--set", c))]
