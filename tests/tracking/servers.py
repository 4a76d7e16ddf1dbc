"""A real MLflow server on loopback, for tests."""

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from contextlib import contextmanager


def free_port():
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return sock.getsockname()[1]


@contextmanager
def mlflow_server(folder, port, *options):
    """Serve the SQLite store in `folder` at a port of the loopback interface; killed hard at the end."""
    process = start_server(folder, port, *options)
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        kill_server(process)


def start_server(folder, port, *options):
    """Start a server as in `mlflow_server`, and wait until it answers; return its process."""
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    command += ["--backend-store-uri", f"sqlite:///{folder}/mlflow.db", "--artifacts-destination", f"{folder}/served"]
    env = {**os.environ, "MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    with open(folder / "server.log", "ab") as log:
        process = subprocess.Popen([*command, *options], stdout=log, stderr=log, start_new_session=True, env=env)
    deadline = time.monotonic() + 60
    while True:
        try:
            urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=1).read()
            return process
        except OSError:
            if process.poll() is not None or time.monotonic() > deadline:
                kill_server(process)
                raise RuntimeError((folder / "server.log").read_text()[-3000:]) from None
            time.sleep(0.1)


def kill_server(process):
    """Kill a server and its workers hard."""
    os.killpg(process.pid, signal.SIGKILL)
    process.wait(10)
