"""A real S3 server on loopback for tests: SeaweedFS, with credentials that it checks.

Every test may ask for the fixture `s3`: `data = s3.bucket() + "/data"`.
"""

import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator
from multiprocessing import forkserver
from pathlib import Path

import fsspec
import pytest

from tests.elastic.processes import descendants

ACCESS_KEY = "test-access-key"
SECRET_KEY = "test-secret-key"
REGION = "us-east-1"

_WEED = Path(sys.prefix) / "bin" / "weed"
_PORTS = ("master", "volume", "filer", "s3")  # each has one for HTTP and one for gRPC


class SeaweedFS:
    """The server: its `endpoint`, the environment of its clients, and the tools for an outage.

    `stop` and `start` keep the files and the port, `pause` freezes it as a lost machine is, `resume` thaws it.
    """

    def __init__(self) -> None:
        self._folder = tempfile.mkdtemp(prefix="hardviews-s3-")
        self._process: subprocess.Popen[bytes] | None = None
        identities = [
            {
                "name": "test",
                "credentials": [{"accessKey": ACCESS_KEY, "secretKey": SECRET_KEY}],
                "actions": ["Admin", "Read", "Write", "List", "Tagging"],
            },
            {
                "name": "reader",
                "credentials": [{"accessKey": "read-only-key", "secretKey": "read-only-secret"}],
                "actions": ["Read", "List"],
            },
        ]
        (Path(self._folder) / "s3.json").write_text(json.dumps({"identities": identities}))
        for attempt in range(3):
            self._ports = _free_ports(2 * len(_PORTS))
            try:
                self.start()
                return
            except RuntimeError:  # a port was taken in between
                if attempt == 2:
                    self.close()
                    raise

    @property
    def port(self) -> int:
        return self._ports[2 * _PORTS.index("s3")]

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def environment(self) -> dict[str, str]:
        """The variables of a client."""
        return {
            "AWS_ENDPOINT_URL": self.endpoint,
            "AWS_ACCESS_KEY_ID": ACCESS_KEY,
            "AWS_SECRET_ACCESS_KEY": SECRET_KEY,
            "AWS_REGION": REGION,
            "AWS_EC2_METADATA_DISABLED": "true",
        }

    @property
    def read_only(self) -> dict[str, str]:
        """Credentials that may read and list, but not write."""
        return {"AWS_ACCESS_KEY_ID": "read-only-key", "AWS_SECRET_ACCESS_KEY": "read-only-secret"}

    def client(self):  # type: ignore[no-untyped-def]
        """An fsspec file system with the credentials given outright, whatever the environment says."""
        return fsspec.filesystem(
            "s3",
            key=ACCESS_KEY,
            secret=SECRET_KEY,
            endpoint_url=self.endpoint,
            client_kwargs={"region_name": REGION},
            use_listings_cache=False,
            skip_instance_cache=True,
        )

    def bucket(self) -> str:
        """Make an empty bucket and return its URL."""
        name = f"test-{uuid.uuid4().hex[:12]}"
        self.client().mkdir(name)
        return f"s3://{name}"

    def start(self) -> None:
        """Serve the old files again; return when it answers."""
        ports = [
            f"-{name}.port{kind}={self._ports[2 * number + grpc]}"
            for number, name in enumerate(_PORTS)
            for grpc, kind in enumerate(("", ".grpc"))
        ]
        command = [
            "sh",
            "-c",
            # Killed when this process ends, however that happens: then the pipe closes. (The kernel's own signal to
            # children goes by the thread that started them, and a test may start the server from one.)
            '"$@" </dev/null & read gone; kill -9 $!',
            "sh",
            str(_WEED),
            "-logtostderr=true",
            "server",
            f"-dir={self._folder}",
            "-ip=127.0.0.1",
            "-ip.bind=127.0.0.1",
            "-filer",
            f"-filer.localSocket={self._folder}/filer.sock",
            "-s3",
            f"-s3.config={self._folder}/s3.json",
            f"-s3.localSocket={self._folder}/s3.sock",
            "-s3.port.iceberg=0",
            "-s3.port.lance=0",
            "-s3.iam=false",
            "-s3.autoCreateBucket=false",
            # One bucket a test, several volumes a bucket: the default allows as many as the disk has room for.
            "-volume.max=100000",
            "-volume.minFreeSpace=100MiB",
            "-master.volumeSizeLimitMB=64",
            "-master.telemetry=false",
            "-master.electionTimeout=1s",  # it has no peers to elect it; a restart waits this long all the same
            *ports,
        ]
        with open(self.log, "ab") as log:
            self._process = subprocess.Popen(
                command,
                cwd=self._folder,
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self._wait()

    @property
    def log(self) -> Path:
        return Path(self._folder) / "server.log"

    def stop(self) -> None:
        """Kill it, as a lost machine would be; connections are refused from then on."""
        if self._process is not None:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait(10)
            self._process = None

    def pause(self) -> None:
        """Freeze it: connections are accepted by the kernel and nobody answers."""
        assert self._process is not None
        os.killpg(self._process.pid, signal.SIGSTOP)

    def resume(self) -> None:
        assert self._process is not None
        os.killpg(self._process.pid, signal.SIGCONT)

    def cpu_seconds(self) -> float:
        """Return the processor time that it has taken since it was started."""
        assert self._process is not None
        ticks = 0
        for pid in descendants(self._process.pid):
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            ticks += int(fields[11]) + int(fields[12])
        return ticks / os.sysconf("SC_CLK_TCK")

    def close(self) -> None:
        self.stop()
        shutil.rmtree(self._folder, ignore_errors=True)

    def _wait(self) -> None:
        """Until a file can be written: the parts of the server find each other some time after it listens."""
        deadline = time.monotonic() + 60
        while True:
            try:
                files = self.client()
                files.retries = 1
                if not files.exists("ready"):
                    files.mkdir("ready")
                files.pipe_file("ready/file", b"ready")
                return
            except Exception as error:
                assert self._process is not None
                if self._process.poll() is not None or time.monotonic() > deadline:
                    self.stop()
                    raise RuntimeError(f"{error}\n{self.log.read_text()[-3000:]}") from error
                time.sleep(0.1)


def _free_ports(count: int) -> list[int]:
    """Ports that nothing listens on, below those that the kernel gives to connections and to "any free port"."""
    found: list[int] = []
    while len(found) < count:
        port = random.SystemRandom().randrange(10000, 30000)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        if port not in found:
            found.append(port)
    return found


@pytest.fixture(scope="session")
def s3_server() -> Iterator[SeaweedFS]:
    """One server a test process (three seconds to start); prefer `s3`."""
    server = SeaweedFS()
    try:
        yield server
    finally:
        server.close()


@pytest.fixture
def s3(s3_server: SeaweedFS, monkeypatch: pytest.MonkeyPatch) -> Iterator[SeaweedFS]:
    """The running server, with its address and credentials in the environment, also of data loader workers."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    for name, value in s3_server.environment.items():
        monkeypatch.setenv(name, value)
    # Workers get the environment that their fork server was started in.
    forkserver._forkserver._stop()  # type: ignore[attr-defined]
    yield s3_server
    forkserver._forkserver._stop()  # type: ignore[attr-defined]
    if s3_server._process is None:
        s3_server.start()
    s3_server.resume()
