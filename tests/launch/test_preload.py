"""The process that others are forked from: everything imported, and nothing that a fork would break."""

import json
import os
import subprocess
import sys

from hardviews.elastic.node import configure, prepared

CODE = """
import json, os, sys, threading
import hardviews.launch.preload
import torch
import hardviews.errors
links = []
for name in os.listdir("/proc/self/fd"):
    try:
        links.append(os.readlink(f"/proc/self/fd/{name}"))
    except OSError:
        pass
found = {
    "python threads": [thread.name for thread in threading.enumerate()],
    "threads": len(os.listdir("/proc/self/task")),
    "sockets": [link for link in links if link.startswith("socket:")],
    "cuda": torch.cuda.is_initialized(),
    "modules": [name for name in ("timm", "s3fs", "mlflow", "hardviews.train.loop") if name in sys.modules],
}
capacity = hardviews.launch.preload.capacity
small = "pretrain digits --data d --output o --training.batch 64 --training.group 32"
commands = [small, f"{small} --training.accumulate 2", "knn --run r"]
found["capacity"] = [capacity(tuple(words.split())) for words in commands]
try:
    capacity(("pretrain", "digit"))
except hardviews.errors.UserError as error:
    found["capacity"].append(str(error))
print(json.dumps(found))
"""


def test_the_import_starts_no_thread_opens_no_connection_and_touches_no_gpu():
    config, _ = configure(["--job", "j", "--nodes", "1", "--cpus", "4", "--", "hardviews.cli"], {})
    environment = os.environ | prepared(config)
    assert environment["OMP_NUM_THREADS"] == "4"
    done = subprocess.run(
        [sys.executable, "-c", CODE], env=environment, capture_output=True, text=True, timeout=120, check=True
    )
    found = json.loads(done.stdout.splitlines()[-1])
    # How many processes a command can use is asked of the same process, before any is forked from it.
    two, one, none, mistake = found["capacity"]
    assert two == [2, "the batch of 64 has 2 groups of 32, enough for 2 processes"]
    assert one == [1, "the batch of 64 has 1 group of 32 in each of its 2 micro-batches, enough for 1 process"]
    assert none is None
    assert mistake.startswith("There is no recipe 'digit'")
    assert found["python threads"] == ["MainThread"]
    assert found["threads"] == 1
    assert found["sockets"] == []
    assert found["cuda"] is False
    assert found["modules"] == ["timm", "s3fs", "mlflow", "hardviews.train.loop"]
