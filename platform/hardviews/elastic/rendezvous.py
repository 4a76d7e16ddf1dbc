"""An agent's side of the rendezvous: a thread that sends the agent's state and receives the state of the job.

The agent itself never waits for the network. While the coordinator is away, the last view stays, and the thread looks
up its name again and again until it is back.
"""

import http.client
import json
import socket
import sys
import threading
import time
from dataclasses import dataclass, replace

from hardviews.elastic.address import reserve
from hardviews.elastic.messages import AgentState, Bounds, Failure, JobView, Member, Pulse, Round, Verdict


@dataclass(frozen=True)
class RendezvousConfig:
    """The address of the coordinator and the name of the agent; times in seconds."""

    host: str
    port: int
    job: str
    command: str
    agent: str  # a unique name, never used again
    node: str
    processes: int
    bounds: Bounds
    interval: float = 0.3  # between two pulses
    urgent: float = 0.1  # the same during the wait for a round
    timeout: float = 3.0  # limit of one request
    remind: float = 30.0  # between two remarks that the coordinator is away


class Rendezvous(threading.Thread):
    """Sends pulses until it is closed; `tell` changes their content, `view` is the last answer."""

    def __init__(self, config: RendezvousConfig) -> None:
        """Prepare; `start` begins."""
        super().__init__(daemon=True, name="pulse")
        self.view: JobView | None = None
        self.refusal: str | None = None
        self.address: str | None = None  # address of this node on the way to the coordinator
        self._config = config
        self._connection: http.client.HTTPConnection | None = None
        self._port: socket.socket | None = None
        self._changed = threading.Condition()
        self._serial, self._acknowledged = 0, -1
        self._closed = False
        member = Member(config.agent, config.node, "", 0, config.processes)
        self._pulse = Pulse(config.job, config.command, member, config.bounds, AgentState.PREPARING)
        self._away_since: float | None = time.monotonic()
        self._reminded, self._reminding = time.monotonic(), False

    def tell(
        self,
        state: AgentState | None = None,
        round: Round | None = None,
        stepped: bool = False,
        reached: int | None = None,
        failure: Failure | None = None,
        finished: bool = False,
        failed: Verdict | None = None,
        limit: int | None = None,
        overdue: bool | None = None,
        written: bool = False,
        batch: int | None = None,
    ) -> int:
        """Change the content of the pulses, and send one at once; omitted values stay.

        Returns:
            A number for `acknowledged`.
        """
        with self._changed:
            pulse = self._pulse
            if round is not None and round != pulse.round:
                pulse = replace(pulse, round=round, stepped=False, failure=None, overdue=False, written=False)
            next_pulse = replace(
                pulse,
                state=state or pulse.state,
                stepped=stepped or pulse.stepped,
                failure=failure or pulse.failure,
                finished=finished or pulse.finished,
                failed=failed or pulse.failed,
                limit=pulse.limit if limit is None else limit,
                overdue=pulse.overdue if overdue is None else overdue,
                written=written or pulse.written,
                batch=pulse.batch if batch is None else batch,
            )
            unchanged = next_pulse == self._pulse
            if reached is not None:
                next_pulse = replace(next_pulse, reached=max(reached, pulse.reached or 0))
            self._pulse = next_pulse
            if unchanged:  # except for the step, which can wait
                return self._serial
            if state == AgentState.WAITING and pulse.state != AgentState.WAITING:
                self._new_port()
            self._serial += 1
            self._changed.notify()
            return self._serial

    def acknowledged(self, serial: int) -> bool:
        """Return whether the coordinator has received this call of `tell`."""
        return self._acknowledged >= serial

    @property
    def round(self) -> Round | None:
        """Return the last round that the agent has taken up."""
        return self._pulse.round

    @property
    def away(self) -> float:
        """Return the seconds since the last answer of the coordinator, 0 while it answers."""
        since = self._away_since
        return 0.0 if since is None else time.monotonic() - since

    def run(self) -> None:
        """Pulse until closed."""
        while True:
            began = time.monotonic()
            connected = self._connect()
            with self._changed:
                pulse, serial, closed = self._pulse, self._serial, self._closed
            if closed:
                break
            heard = connected and self._exchange(pulse, serial)
            with self._changed:
                # Changes are sent at once, unless the coordinator does not answer.
                if self._closed or (heard and self._serial != serial):
                    continue
                interval = self._config.urgent if pulse.state == AgentState.WAITING and heard else self._config.interval
                self._changed.wait(max(0.02, interval - (time.monotonic() - began)))
        self._disconnect()

    def close(self, patience: float = 1.0) -> None:
        """Report the end, if the coordinator can be reached in time, and end the thread."""
        if self.is_alive():
            serial = self.tell(AgentState.GONE)
            deadline = time.monotonic() + patience
            while not self.acknowledged(serial) and time.monotonic() < deadline and self.is_alive():
                time.sleep(0.02)
            with self._changed:
                self._closed = True
                self._changed.notify()
            self.join(self._config.timeout)
        if self._port:
            self._port.close()

    def _new_port(self) -> None:
        """Reserve a port for the store of the next round; late processes may still use the last round's port."""
        if self._port:
            self._port.close()
            self._port = None
        if self.address:
            self._port = reserve(self.address)
            member = replace(self._pulse.member, address=self.address, port=self._port.getsockname()[1])
            self._pulse = replace(self._pulse, member=member)

    def _connect(self) -> bool:
        """Connect again, with a new look-up of the name, if there is no connection; return whether there is one now."""
        if self._connection:
            return True
        config = self._config
        connection = http.client.HTTPConnection(config.host, config.port, timeout=config.timeout)
        try:
            connection.connect()
        except OSError as error:
            self._remark(error)
            return False
        connection.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._connection = connection
        with self._changed:
            self.address = str(connection.sock.getsockname()[0])
            if self._pulse.member.address != self.address:
                self._new_port()
        return True

    def _exchange(self, pulse: Pulse, serial: int) -> bool:
        """Send one pulse and read the answer; return whether the coordinator answered."""
        connection = self._connection
        if connection is None:
            return False
        try:
            connection.request("POST", "/pulse", pulse.to_json(), {"Content-Type": "application/json"})
            response = connection.getresponse()
            body = response.read()
            if response.status == 200:
                self.view = JobView.from_json(body)
            elif response.status == 409:
                self.refusal = str(json.loads(body)["refused"])
            else:
                raise http.client.HTTPException(f"{response.status} {body[:200]!r}")
        except (OSError, http.client.HTTPException, ValueError, KeyError) as error:
            self._disconnect()
            self._remark(error)
            return False
        if self._reminding:
            print("the coordinator is back", file=sys.stderr, flush=True)
        self._away_since, self._reminding = None, False
        self._acknowledged = serial
        return True

    def _disconnect(self) -> None:
        if self._connection:
            self._connection.close()
            self._connection = None

    def _remark(self, error: Exception) -> None:
        now = time.monotonic()
        if self._away_since is None:
            self._away_since = self._reminded = now
        if now - self._reminded >= self._config.remind:
            self._reminded, self._reminding = now, True
            print(
                f"the coordinator at {self._config.host}:{self._config.port} has not answered for {self.away:.0f} s "
                f"({error or type(error).__name__}); still trying",
                file=sys.stderr,
                flush=True,
            )
