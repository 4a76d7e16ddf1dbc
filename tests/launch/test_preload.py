"""What processes are forked from: everything imported, and nothing that a fork would break."""

import json
import os
import subprocess
import sys

from hardviews.launch.agent import configure, prepared

CODE = """
import json, os, sys, threading
import hardviews.launch.preload
import torch
links = []
for name in os.listdir("/proc/self/fd"):
    try:
        links.append(os.readlink(f"/proc/self/fd/{name}"))
    except OSError:
        pass
print(json.dumps({
    "python threads": [thread.name for thread in threading.enumerate()],
    "threads": len(os.listdir("/proc/self/task")),
    "sockets": [link for link in links if link.startswith("socket:")],
    "cuda": torch.cuda.is_initialized(),
    "modules": [name for name in ("timm", "s3fs", "mlflow", "hardviews.train.loop") if name in sys.modules],
}))
"""


def test_the_import_starts_no_thread_opens_no_connection_and_touches_no_gpu():
    config, _ = configure(["--job", "j", "--nodes", "1", "--cpus", "4", "--", "hardviews.cli"], {})
    environment = os.environ | prepared(config)
    assert environment["OMP_NUM_THREADS"] == "4"
    done = subprocess.run(
        [sys.executable, "-c", CODE], env=environment, capture_output=True, text=True, timeout=120, check=True
    )
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["python threads"] == ["MainThread"]
    assert found["threads"] == 1
    assert found["sockets"] == []
    assert found["cuda"] is False
    assert found["modules"] == ["timm", "s3fs", "mlflow", "hardviews.train.loop"]
