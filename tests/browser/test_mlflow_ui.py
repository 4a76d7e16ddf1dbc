import re
import shutil
import subprocess
import time

import numpy as np
import pytest

from hardviews.tracking.figures import learning_curves
from hardviews.tracking.mlflow_run import Run
from tests.tracking.servers import free_port, mlflow_server

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here (apt-get install chromium)"),
]


def page_text(url, profile, wanted, timeout=45):
    """Open a page until all of `wanted` stands on it, and return its text."""
    command = [CHROMIUM, "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"]
    command += [f"--user-data-dir={profile}", "--disable-background-networking", "--disable-component-update"]
    command += ["--window-size=1600,1200", "--virtual-time-budget=10000", "--timeout=20000", "--dump-dom", url]
    deadline = time.monotonic() + timeout
    while True:
        done = subprocess.run(command, capture_output=True, text=True, timeout=60)
        text = re.sub(r"<(script|style).*?</\1>|<[^>]+>", " ", done.stdout, flags=re.DOTALL)
        if all(word in text for word in wanted) or time.monotonic() > deadline:
            return text


def test_the_runs_page_shows_what_was_logged(project, tmp_path):
    with Run.start("photographs", "pretrain-demo", folder=project) as run:
        run.log_params({"method": "SimSiam", "rate": 0.05})
        for step in range(0, 640, 32):
            run.log_metrics({"loss": -0.9 + 1 / (step + 1), "hardness": 0.1, "world_size": 2, "restarts": 1}, step)
        run.log_figure(learning_curves({"loss": (range(9), np.arange(9.0))}), "figures/curves.png")
    with Run.start("photographs", "knn", parent=run.run_id, folder=project) as child:
        child.log_metrics({"knn/top1_k20": 91.5}, 640)
    with mlflow_server(project, free_port()) as uri:
        experiment = run._server.client.get_run(run.run_id).info.experiment_id
        wanted = [
            "pretrain-demo",
            "loss",
            "hardness",
            "world_size",
            "restarts",
            "method",
            "SimSiam",
            "knn",
            "Model training",
        ]
        text = page_text(f"{uri}/#/experiments/{experiment}/runs/{run.run_id}", tmp_path / "profile", wanted)
        missing = [word for word in wanted if word not in text]
        assert not missing, f"{missing} not in: {re.sub(r'[ ]+', ' ', text)[:3000]}"
