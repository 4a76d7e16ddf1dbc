"""The coordinator: a tiny process that forms the rounds of training nodes and notices the end of the job.

It does not train, and its agents have all of its state too. So a job survives the loss of any training process. The job
also trains on while the coordinator itself is away: a new coordinator takes the state from the agents.

It exits with 0 when the training is complete and with 3 when the job has failed for good. Any other end is a crash.
"""

import argparse
import json
import os
import signal
import socket
import sys
import threading
import time
import uuid
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from socketserver import TCPServer
from types import FrameType

from hardviews import streams
from hardviews.elastic import address
from hardviews.elastic.membership import Deadlines, Membership
from hardviews.elastic.messages import LONGEST, AgentState, Pulse
from hardviews.elastic.pace import Pace
from hardviews.elastic.signs import Sign, give
from hardviews.elastic.standing import EVERY, Reporter
from hardviews.errors import UserError

FAILED = 3
"""Exit code: the job has failed for good."""

TERMINATION_LOG = Path("/dev/termination-log")
"""File whose content Kubernetes shows after the end of a container."""


_SETTLE = 5.0  # seconds for the agents' processes to end
_PLACES = "there is /pulse, /status and /metrics"


@dataclass(frozen=True)
class CoordinatorConfig:
    """The address and the waiting times of the coordinator; times in seconds."""

    host: str = "127.0.0.1"
    port: int = 29500
    shared: bool = False  # the process that launched this one has reserved the port
    alone: float = 0.0  # the job has failed after this time without a living agent; 0: wait for ever
    linger: float = 30.0  # longest wait after the end until the agents have received it
    settle: float = (
        0.0  # further wait for their processes to end: with the job, Volcano ends pods and deletes their logs
    )
    search: float = 5.0  # a replacement runs at least so long after its start, since agents still look for it
    interval: float = 0.1
    report: float = 0.0  # between two lines on the state of the job; 0: none
    patience: Deadlines = field(default_factory=Deadlines)


class Coordinator(ThreadingHTTPServer):
    """Answers agents over HTTP from a `Membership`."""

    daemon_threads = True
    request_queue_size = 1024

    def __init__(self, config: CoordinatorConfig) -> None:
        """Listen.

        Raises:
            OSError: the address is not of this machine, or the port is taken.
        """
        self.config = config
        self.lock = threading.Lock()
        self.membership = Membership(uuid.uuid4().hex, time.monotonic(), config.patience)
        self.job: str | None = None
        self.command = ""
        self.began = self.moved = time.monotonic()  # `moved`: time of the last message of an agent
        self.reporter = Reporter(self.began, config.report)
        self.pace = Pace()
        self.allow_reuse_port = config.shared
        if ":" in config.host:
            self.address_family = socket.AF_INET6
        super().__init__((config.host, config.port), _Handler)

    def server_bind(self) -> None:
        """Bind without a look-up of the host's name: nobody needs it, and a cluster's name server may delay it."""
        TCPServer.server_bind(self)
        self.server_name, self.server_port = self.config.host, self.server_address[1]

    def hear(self, pulse: Pulse) -> tuple[int, bytes]:
        """Process a pulse; return the answer's status and body."""
        with self.lock:
            self.job = self.job or pulse.job
            self.command = self.command or pulse.command
            if pulse.job != self.job:
                return 409, _refusal(f"this is the coordinator of the job {self.job}, not of {pulse.job}")
            if pulse.command != self.command:
                return 409, _refusal(f"the nodes of the job {self.job} run another command")
            now = time.monotonic()
            if pulse.state != AgentState.GONE:
                self.moved = now
            return 200, self.membership.hear(pulse, now).to_json()

    def disconnected(self, agent: str) -> None:
        """Note that the connection of an agent was closed."""
        with self.lock:
            self.membership.disconnected(agent, time.monotonic())

    def status(self) -> bytes:
        """Return the state of the job, for a reader that is not an agent."""
        with self.lock:
            view = self.membership.view(time.monotonic())
            return json.dumps({"job": self.job, "command": self.command, **asdict(view)}).encode()

    def metrics(self, accept: str) -> tuple[bytes, str]:
        """Return the state of the job, for Prometheus.

        Args:
            accept: the header of the request.

        Returns:
            The text, and its content type.
        """
        from hardviews.elastic.metrics import (
            Figures,
            exposition,
        )  # imported late: a coordinator without such readers stays smaller

        with self.lock:
            now = time.monotonic()
            view = self.membership.view(now)
            self.pace.note(view.reached, now)
            figures = Figures(self.job, view, self.pace.per_second(now), self.pace.idle(now), self.membership.batch)
        return exposition(figures, accept)

    def serve_until_over(self) -> str | None:
        """Serve until the job is over and its agents know; return why it failed, or None."""
        launcher = os.getppid()
        threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.5}, daemon=True).start()
        try:
            while True:
                time.sleep(self.config.interval)
                with self.lock:
                    now = time.monotonic()
                    self.membership.tick(now)
                    over, alone = self.membership.over, now - self.moved
                    news, self.membership.news = self.membership.news, []
                    view = self.membership.view(now)
                    self.pace.note(view.reached, now)
                # On one machine the agents' own messages are in the same log.
                for sentence in () if self.config.shared else news:
                    print(sentence, file=sys.stderr, flush=True)
                if self.config.report and (line := self.reporter.job(view, now)):
                    print(line, file=sys.stderr, flush=True)
                if over:
                    return self._linger()
                if os.getppid() != launcher:
                    return "the process that launched the job is gone"
                if self.config.alone and alone > self.config.alone:
                    return f"no trainer has been alive for {self.config.alone:.0f} s"
        finally:
            self.shutdown()
            self.server_close()

    def _linger(self) -> str | None:
        """Wait until the agents have received the end; a replacement may not have heard of all agents yet."""
        deadline = time.monotonic() + self.config.linger
        found = self.began + self.config.search if self.membership.adopted else 0.0
        while time.monotonic() < deadline:
            time.sleep(self.config.interval)
            with self.lock:
                now = time.monotonic()
                if now >= found and not self.membership.heard(now, within=3.0):
                    break
        time.sleep(self.config.settle)
        verdict = self.membership.failed
        return verdict.reason if verdict else None


class _Handler(BaseHTTPRequestHandler):
    """One agent's connection, kept open from pulse to pulse."""

    server: Coordinator
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = 1 << 16
    timeout = 60
    _agent: str | None = None

    def do_POST(self) -> None:
        if self.path != "/pulse":
            return self._answer(404, _refusal(_PLACES))
        try:
            length = int(self.headers.get("Content-Length", ""))
        except ValueError:
            return self._answer(411, _refusal("say how long the body is"))
        if not 0 <= length <= LONGEST:
            return self._answer(413, _refusal(f"a pulse has at most {LONGEST} bytes"))
        try:
            pulse = Pulse.from_json(self.rfile.read(length))
        except ValueError as error:
            return self._answer(400, _refusal(str(error)))
        self._agent = None if pulse.state == AgentState.GONE else pulse.member.agent
        return self._answer(*self.server.hear(pulse))

    def do_GET(self) -> None:
        if self.path == "/status":
            return self._answer(200, self.server.status())
        if self.path.partition("?")[0] == "/metrics":
            return self._answer(200, *self.server.metrics(self.headers.get("Accept", "")))
        return self._answer(404, _refusal(_PLACES))

    def finish(self) -> None:
        if self._agent:
            self.server.disconnected(self._agent)
        super().finish()

    def handle(self) -> None:
        try:
            super().handle()
        except OSError:
            self.close_connection = True  # reset by the other side, which has ended or will connect again

    def _answer(self, status: int, body: bytes, content: str = "application/json") -> None:
        if status >= 400:
            self.close_connection = True  # the rest of the request is not read
        self.send_response(status)
        self.send_header("Content-Type", content)
        self.send_header("Content-Length", str(len(body)))
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Log no single requests."""


def _refusal(reason: str) -> bytes:
    return json.dumps({"refused": reason}).encode()


def _announce(reason: str) -> None:
    print(f"the job failed: {reason}", file=sys.stderr, flush=True)
    leave_word(reason)


def leave_word(reason: str) -> None:
    """Write the reason of an end to the file that `torchx status` reads."""
    try:
        if TERMINATION_LOG.exists():
            TERMINATION_LOG.write_text(reason)
    except OSError:
        return  # not in a container, or the container may not write it


def _stop(number: int, frame: FrameType | None) -> None:
    sys.exit(128 + number)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the coordinator: `python -m hardviews.elastic.coordinator`.

    If all processes run on one machine, HARDVIEWS_RENDEZVOUS is set and overrides the address.
    """
    default = CoordinatorConfig()
    parser = argparse.ArgumentParser(description="Host the rendezvous of one job until it is over.")
    parser.add_argument("--host", default=default.host, help="address to listen on (default: %(default)s)")
    parser.add_argument("--port", type=int, default=default.port, help="default: %(default)s")
    options = parser.parse_args(arguments)
    streams.prepare()
    try:
        place = address.address(os.environ)
    except UserError as error:
        print(f"the coordinator cannot begin: {error}", file=sys.stderr, flush=True)
        return FAILED
    config = (
        CoordinatorConfig(place[0], place[1], shared=True, alone=60)
        if place
        else CoordinatorConfig(options.host, options.port, report=EVERY, settle=_SETTLE)
    )
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, _stop)
    try:
        coordinator = Coordinator(config)
        give(Sign.JOINED)
        failure = coordinator.serve_until_over()
    except OSError as error:
        print(
            f"the coordinator cannot listen on {config.host}:{config.port} ({error.strerror}); give another --port",
            file=sys.stderr,
        )
        return 1
    if failure is not None:
        _announce(failure)
        return FAILED
    return 0


if __name__ == "__main__":
    sys.exit(main())
