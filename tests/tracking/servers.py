"""Servers on loopback, for tests: a real one of MLflow, and small ones that answer as others do."""

import http.server
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from contextlib import contextmanager, suppress


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


@contextmanager
def answering(status, body=b"", headers=None, tls=None):
    """Serve one answer to all requests, whatever they ask; yield the address.

    headers: `Location` is followed once: the page behind it is a login. tls: an ssl.SSLContext of a server.
    """

    class Handler(http.server.BaseHTTPRequestHandler):
        def answer(self):
            self.rfile.read(int(self.headers.get("Content-Length") or 0))
            behind = self.path == "/login"
            page = b"<html>Sign in</html>" if behind else body
            self.send_response(200 if behind else status)
            for name, value in ({} if behind else headers or {}).items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(page)))
            self.end_headers()
            self.wfile.write(page)

        do_GET = do_POST = do_PUT = do_PATCH = answer

        def log_message(self, *_):
            """Write nothing."""

    class Quiet(http.server.ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, *_):
            """A client that leaves is no error."""

    with Quiet(("127.0.0.1", 0), Handler) as server:
        if tls is not None:
            server.socket = tls.wrap_socket(server.socket, server_side=True)
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        try:
            yield f"{'https' if tls else 'http'}://localhost:{server.server_port}"
        finally:
            server.shutdown()


@contextmanager
def replying(data):
    """Accept connections, send the same bytes on each whatever is asked, and close it; yield the address."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve():
            while True:
                try:
                    connection = listener.accept()[0]
                except OSError:
                    return
                with connection, suppress(OSError):
                    connection.recv(4096)
                    connection.sendall(data)

        threading.Thread(target=serve, daemon=True).start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        with suppress(OSError):
            listener.shutdown(socket.SHUT_RDWR)
