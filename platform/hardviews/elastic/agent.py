"""The agent: one a node, started once; it leads its node's processes from round to round until the job is over.

`python -m hardviews.elastic.agent --job NAME --nodes 1:2 -- hardviews.cli pretrain ...` finds the coordinator and waits
for a round. Then it runs `python -m hardviews.cli pretrain ...` in the round's number of processes, with
torchrun's environment (RANK, WORLD_SIZE, MASTER_ADDR, ...). It imports no torch: it starts in a moment and is small.
torchrun's own agent gives up after a few deaths and takes far longer for each; `benchmarks/recovery.py` compares them.

Exit codes: 0 when the training is complete, 2 when it failed by a mistake of the user, 3 when it failed for good
otherwise, 128 + signal when it was asked to leave.
"""

import os
import signal
import sys
import time
import uuid
from collections.abc import Sequence
from types import FrameType

from hardviews import streams
from hardviews.elastic.address import interface
from hardviews.elastic.coordinator import FAILED, TERMINATION_LOG, leave_word
from hardviews.elastic.forkserver import ForkServer
from hardviews.elastic.local_workers import Worker, Workers
from hardviews.elastic.messages import AgentState, Failure, JobView, Round, Verdict
from hardviews.elastic.node import AgentConfig, configure, digest, prepared
from hardviews.elastic.processes import reap
from hardviews.elastic.rendezvous import Rendezvous, RendezvousConfig
from hardviews.elastic.signs import Sign, give
from hardviews.elastic.standing import Reporter
from hardviews.elastic.timeline import mark
from hardviews.elastic.worker import EVICTED, GRACE_VARIABLE, MISTAKE
from hardviews.errors import UserError

TICK = 0.05  # seconds between two looks at everything
BEAT = 0.5  # seconds between two messages to the processes

STRAGGLE = 2.0
"""Seconds for processes to end by themselves, if another process of the node failed or they reported a failure."""

PREPARATIONS = 3
"""Number of times in a row that the libraries may fail to load."""

AWAY = 120.0
"""Seconds of silence of this machine's coordinator after which the job is over for a node that does not train."""

LAST_WAIT = 60.0
"""Seconds that the agent of a failed job waits for the end of its pod: if it ended first, the kubelet would restart it.
"""


class _Over(Exception):
    """The agent's work is over, with this exit code."""

    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code


class Agent:
    """Leads a node's processes from round to round."""

    def __init__(self, config: AgentConfig, command: Sequence[str]) -> None:
        """Prepare; `run` does the work."""
        self.config = config
        self.command = list(command)
        self.asked: int | None = None  # the signal that asked to leave
        self.hasty = False  # asked twice: no grace
        self.launcher = os.getppid()
        self.running = 0  # number of processes of this node
        self.reporter = Reporter(time.monotonic())
        self.reached: int | None = None
        self.server = ForkServer(config.prepare or command[0], config.limits, command[1:])
        self.me = uuid.uuid4().hex
        self.rendezvous = Rendezvous(
            RendezvousConfig(
                config.host,
                config.port,
                config.job,
                digest(command),
                self.me,
                config.node,
                config.processes,
                config.bounds,
            )
        )

    def run(self) -> int:
        """Work until the job is over or a signal asks to leave; return the exit code."""
        mark("agent_started")
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, self._ask)
        os.environ.update(prepared(self.config))
        self.server.warm_up()
        self.rendezvous.start()
        try:
            while True:
                self._await_server()
                if (round := self._await_round()) is not None:
                    self._train(round)
        except _Over as over:
            code = over.code
        finally:
            self.rendezvous.close()
        view = self.rendezvous.view
        if view and view.failed and TERMINATION_LOG.exists() and not self.config.local:
            self._await_pods_end()
        return code

    def _await_pods_end(self) -> None:
        """Wait for the end of the pod: Volcano deletes the pods of a failed job once the coordinator has ended."""
        deadline = time.monotonic() + LAST_WAIT
        while self.asked is None and time.monotonic() < deadline:
            time.sleep(TICK)
            reap()

    def _ask(self, number: int, frame: FrameType | None) -> None:
        self.hasty = self.asked is not None
        self.asked = number

    def _look(self) -> JobView | None:
        """Wait a moment; return the state of the job.

        Raises:
            _Over: this agent has nothing left to do.
        """
        time.sleep(TICK)
        reap()
        if self.rendezvous.refusal:
            print(f"the agent of {self.config.node} is refused: {self.rendezvous.refusal}", file=sys.stderr, flush=True)
            raise _Over(MISTAKE)
        if self.config.local and os.getppid() != self.launcher:
            raise _Over(1)
        self.server.end_if_stopped()
        line = self.reporter.node(self.running, self.rendezvous.away, time.monotonic())
        if line and not self.config.local:
            print(line, file=sys.stderr, flush=True)
        view = self.rendezvous.view
        if view is not None:
            give(Sign.JOINED)
        if view and view.failed:
            raise _Over(MISTAKE if view.failed.user else FAILED)
        if view and view.finished:
            raise _Over(0)
        if view and view.reached is not None:
            self.reached = max(view.reached, self.reached or 0)
        return view

    def _await_server(self) -> None:
        """Wait until processes can be forked at once; other nodes do not wait for this one before it asks."""
        if self.server.ready and self.server.lost:
            self._say("the prepared process has ended; loading anew")
            self._reload()
        while True:
            while not self.server.ready:
                self._look()
                if self.asked is not None:
                    raise _Over(128 + self.asked)
            if not self.server.failures:
                break
            reason = f"on {self.config.node} the libraries could not be loaded: {self.server.reason}"
            self._say(f"{reason} (attempt {self.server.failures} of {PREPARATIONS})")
            if self.server.failures >= PREPARATIONS:
                self._give_up(reason)
            self._reload()
        if self.server.capacity is not None:
            self.rendezvous.tell(limit=self.server.capacity.processes)

    def _reload(self) -> None:
        self.rendezvous.tell(AgentState.PREPARING)
        self.server.warm_up()

    def _give_up(self, reason: str) -> None:
        """End the job if this node is needed for it; else end this node alone, and the others go on."""
        view = self.rendezvous.view
        if view and view.round and not view.broken and view.round.place(self.me) is None:
            leave_word(reason)
            raise _Over(FAILED)
        self._fail(Verdict(reason, user=True))

    def _say(self, text: str) -> None:
        print(text, file=sys.stderr, flush=True)

    def _await_round(self) -> Round | None:
        """Wait until the coordinator has chosen this agent for a round that it has not yet been in.

        Return None if the prepared process ends meanwhile: another one must be made first.
        """
        mark("rendezvous_began")
        serial = self.rendezvous.tell(AgentState.WAITING, reached=self.reached)
        reminded, surplus = time.monotonic(), False
        while True:
            view = self._look()
            if self.asked is not None:
                raise _Over(128 + self.asked)
            if self.config.local and self.rendezvous.away > AWAY:
                self._say(f"the coordinator has not answered for {AWAY:.0f} s: the job is over for this node")
                raise _Over(FAILED)
            if self.server.lost:
                return None
            if view and view.round and self.rendezvous.acknowledged(serial) and self._is_new(view.round):
                if not view.broken:
                    mark("rendezvous_done", round=view.round.number, nodes=len(view.round.members))
                    return view.round
                # Another member is lost already: take the round up and end it at once.
                serial = self.rendezvous.tell(AgentState.WAITING, view.round)
            if view and view.full_without(self.me):
                if not surplus:
                    surplus = True
                    capacity = self.server.capacity
                    self._say(
                        f"{self.config.node} waits: {capacity.reason if capacity else 'enough nodes train'}; it takes "
                        "the place of a node that is lost"
                    )
            elif view and not self.rendezvous.away and time.monotonic() - reminded > 30:
                reminded = time.monotonic()
                self._say(
                    f"waiting for a place among the nodes: {view.waiting} wait, {view.bounds.least} to "
                    f"{view.room} train"
                )

    def _is_new(self, round: Round) -> bool:
        """Return whether this agent was chosen for a round and has not yet been in it."""
        last = self.rendezvous.round
        return round.place(self.me) is not None and (last is None or round.number > last.number)

    def _train(self, round: Round) -> None:
        """Run the processes of a round until they have ended."""
        place = round.place(self.me)
        assert place is not None  # the round was chosen for it
        variables = {GRACE_VARIABLE: str(self.config.grace)}
        if name := interface(round.members[place].address):
            # Otherwise gloo takes the interface of the address that the host's name resolves to.
            variables |= {key: name for key in ("GLOO_SOCKET_IFNAME", "NCCL_SOCKET_IFNAME") if not os.environ.get(key)}
        self.rendezvous.tell(AgentState.RUNNING, round)
        try:
            workers = Workers(self.server, round, place, self.reached, variables, self.command, self.config.limits)
        except OSError as error:
            self._say(str(error))
            self.rendezvous.tell(failure=Failure(round.first_rank(place), str(error)))
            return
        mark("workers_started", round=round.number)
        self.running = len(workers.all)
        try:
            self._watch(workers, round)
        except _Over as over:
            if over.code == 0:
                self._await_end(workers)
            # A job that has failed has nothing to save.
            workers.close(STRAGGLE if over.code else self.config.grace)
            raise
        except BaseException:
            workers.kill()
            raise
        finally:
            self.running = 0

    def _await_end(self, workers: Workers) -> None:
        """Let the processes of a complete training end by themselves, for as long as a save may take."""
        deadline = time.monotonic() + self.config.grace
        while workers.alive and time.monotonic() < deadline and not self.hasty:
            workers.beat()
            time.sleep(TICK)

    def _watch(self, workers: Workers, round: Round) -> None:
        """Watch the processes of a round until all have ended, or must end."""
        deadline: float | None = None  # until which the processes may end by themselves
        stopping = informed = False
        beaten = 0.0
        while workers.alive:
            view = self._look()
            now = time.monotonic()
            workers.listen()
            if now - beaten >= BEAT:
                workers.beat()
                beaten = now
            self._tell_steps(workers)
            self.rendezvous.tell(overdue=workers.overdue)
            stuck = view is not None and view.stuck and view.round == round
            if not stopping and (found := workers.standing(self.config.node, stuck)):
                return self._end_standing(workers, *found)
            if (self.asked is not None or (view and view.joining)) and not stopping:
                stopping = True
                workers.signal(signal.SIGTERM)
                deadline = now + self.config.grace
            if self.asked is not None:
                self.rendezvous.tell(AgentState.LEAVING, written=workers.written)
                if self.hasty:
                    deadline = now
            if not informed and view and view.ends(round):
                informed = True
                if workers.failure is None:
                    mark("peer_lost", round=round.number, lost=list(view.lost) if view else [])
                workers.tell_broken()
                deadline = deadline or now + self.config.grace
            deadline = self._after_an_end(workers, deadline, stopping, now)
            if deadline is not None and now >= deadline:
                workers.kill()
        workers.listen()
        self._tell_steps(workers)
        self._conclude(workers, round, stopping)

    def _end_standing(self, workers: Workers, worker: Worker, words: str) -> None:
        """End the processes of this node, one of which is stuck: the next round begins with new ones."""
        self._say(f"{words}: the processes of this node are ended, and the next round begins with new ones")
        mark("stands_still", failed=worker.rank)
        worker.failing = words
        self.rendezvous.tell(failure=workers.failure)
        workers.write_stacks()
        workers.kill()
        if left := workers.unkillable:
            reason = f"{words}; rank {left[0].rank} cannot be ended either: this node leaves the job"
            self._say(reason)
            leave_word(reason)
            raise _Over(1)

    def _tell_steps(self, workers: Workers) -> None:
        if workers.reached is not None:
            give(Sign.STEPPED)
            self.reporter.stepped(workers.reached, time.monotonic())
            self.reached = max(workers.reached, self.reached or 0)
            self.rendezvous.tell(stepped=True, reached=self.reached, batch=workers.batch)

    def _after_an_end(self, workers: Workers, deadline: float | None, stopping: bool, now: float) -> float | None:
        """Limit the time of this node's other processes once one has ended, or has reported a failure."""
        codes = {worker.code for worker in workers.all}
        if any(worker.rank == 0 and worker.code == 0 for worker in workers.all):
            self.rendezvous.tell(finished=True)
        failure = workers.failure
        if failure and not stopping:
            self.rendezvous.tell(failure=failure)
            limit = now + STRAGGLE
            return limit if deadline is None or (EVICTED not in codes and deadline > limit) else deadline
        if EVICTED in codes and deadline is None:
            return now + self.config.grace
        return deadline

    def _conclude(self, workers: Workers, round: Round, stopping: bool) -> None:
        """Report the end of the processes to the coordinator, or end the job."""
        codes = [worker.code for worker in workers.all]
        failure = workers.failure
        mistake = next((worker for worker in workers.all if worker.user or worker.code == MISTAKE), None)
        workers.kill()
        if codes and all(code == 0 for code in codes):
            return self._await_finish(round, finished=any(worker.rank == 0 for worker in workers.all))
        if mistake is not None:
            reason = mistake.failing or f"rank {mistake.rank} met a mistake that no restart mends: see its output"
            self._fail(Verdict(reason, user=True))
        if self.asked is not None:
            raise _Over(128 + self.asked)
        if failure and not stopping:
            mark("worker_failed", round=round.number, failed=failure.rank, peer=failure.peer)
            self.rendezvous.tell(failure=failure)
        return None

    def _await_finish(self, round: Round, finished: bool) -> None:
        """Wait for the other nodes after this one is done, unless the round breaks before rank 0 is done too."""
        self.rendezvous.tell(AgentState.DONE, finished=finished)
        while not ((view := self._look()) and view.ends(round)):
            if self.asked is not None and not finished:
                raise _Over(128 + self.asked)
            if self.config.local and self.rendezvous.away > AWAY:
                raise _Over(0 if finished else FAILED)

    def _fail(self, verdict: Verdict) -> None:
        """End the job on all nodes: report to the coordinator until it answers."""
        self.rendezvous.tell(failed=verdict)
        while True:
            self._look()
            if self.asked is not None:
                raise _Over(128 + self.asked)
            if self.config.local and self.rendezvous.away > AWAY:
                raise _Over(MISTAKE if verdict.user else FAILED)


def main() -> int:
    """Run the agent: `python -m hardviews.elastic.agent`; a mistake of the user is one sentence."""
    streams.prepare()
    try:
        return Agent(*configure(sys.argv[1:], os.environ)).run()
    except UserError as error:
        print(f"the agent cannot start: {error}", file=sys.stderr, flush=True)
        leave_word(str(error))
        return MISTAKE


if __name__ == "__main__":
    sys.exit(main())
