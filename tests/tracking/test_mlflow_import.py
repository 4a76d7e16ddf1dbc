import subprocess
import sys

FORKED = """
import os, sys, threading
files = set(os.listdir("/proc/self/fd"))
from hardviews.tracking.mlflow_import import preload
assert "mlflow" not in sys.modules
preload(local=True)
assert threading.active_count() == 1, threading.enumerate()
opened = [os.readlink(f"/proc/self/fd/{fd}") for fd in set(os.listdir("/proc/self/fd")) - files
          if os.path.exists(f"/proc/self/fd/{fd}")]
assert not opened, opened
from mlflow.telemetry import get_telemetry_client
assert get_telemetry_client() is None
before = set(sys.modules)
child = os.fork()
if child == 0:
    from hardviews.tracking.mlflow_run import Run
    run = Run.start("e", "x", folder=sys.argv[1])
    run.log_metrics({"loss": 1.0}, 1)
    left = run.close()
    late = [name for name in set(sys.modules) - before if name.startswith("mlflow") and ".db." not in name]
    print(left, *late, flush=True)
    os._exit(0)
os.waitpid(child, 0)
"""


def test_what_is_imported_before_a_fork_serves_after_it(project):
    done = subprocess.run([sys.executable, "-c", FORKED, str(project)], capture_output=True, text=True, timeout=90)
    assert done.stdout.split() == ["0"], done.stdout + done.stderr
