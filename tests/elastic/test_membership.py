"""The laws of membership, on agents that live, fail, leave, freeze and come back as chance has it.

The world here is simulated. Its clock ticks five times a second. Agents treat a view as real ones do, the network loses
some of them, and the coordinator may forget everything.
"""

from dataclasses import dataclass, field, replace

from hypothesis import example, given, settings
from hypothesis import strategies as st

from hardviews.elastic.membership import STANDING, Deadlines, Membership
from hardviews.elastic.messages import AgentState, Bounds, Failure, JobView, Member, Pulse, Round, Verdict

TICK = 0.2
PATIENCE = Deadlines()


@dataclass
class Node:
    """An agent as the real one behaves, with processes that take no time."""

    name: str
    slot: str
    state: AgentState = AgentState.WAITING
    round: Round | None = None
    view: JobView | None = None
    reached: int = 0
    since: int = 0  # steps in this round
    failure: Failure | None = None
    dead: bool = False
    frozen_until: float = -1.0
    saving: int = 0  # ticks until its processes have left in good order
    leaving: bool = False
    finished: bool = False
    processes: int = 2
    limit: int | None = None  # processes that the training can use
    overdue: bool = False
    written: bool = False
    entered: list[int] = field(default_factory=list)
    heard_by: Membership | None = None  # the coordinator that has this one's memory

    def pulse(self, bounds: Bounds) -> Pulse:
        member = Member(self.name, self.slot, self.name, 1, self.processes)
        return Pulse(
            "j",
            "c",
            member,
            bounds,
            self.state,
            self.round,
            stepped=bool(self.since),
            reached=self.reached,
            failure=self.failure,
            finished=self.finished,
            limit=self.limit,
            overdue=self.overdue,
            written=self.written,
        )

    def fail(self) -> None:
        if self.state == AgentState.RUNNING:
            self.state, self.failure = AgentState.WAITING, Failure(0, "lost", peer=True)

    def act(self, view: JobView) -> None:
        """React to the coordinator's answer as the agent does."""
        self.view = view
        if self.saving:
            self.saving -= 1
            if not self.saving:
                self.state = AgentState.GONE if self.leaving else AgentState.WAITING
            return
        present = view.round
        new = present is not None and (self.round is None or present.number > self.round.number)
        if self.state == AgentState.WAITING and new and present is not None and present.place(self.name) is not None:
            self.round, self.failure, self.since = present, None, 0
            self.state = AgentState.WAITING if view.broken else AgentState.RUNNING
            self.entered.append(present.number)
        elif self.state == AgentState.RUNNING:
            if present != self.round or view.broken:
                self.state = AgentState.WAITING
            elif view.joining:
                self.saving = 3
            else:
                self.reached, self.since = self.reached + 1, self.since + 1


class World:
    """Agents, a coordinator, and events."""

    def __init__(self, bounds: Bounds) -> None:
        self.now = 0.0
        self.bounds = bounds
        self.nodes: list[Node] = []
        self.started = 0
        self.membership = Membership("c0", self.now)
        self.away_until = -1.0
        self.rounds: dict[int, Round] = {}
        self.limit: int | None = None  # the number that starting nodes know of the training
        self.processes = 2

    def start(self, slot: int) -> Node:
        self.started += 1
        node = Node(f"a{self.started}", f"n{slot}", limit=self.limit, processes=self.processes)
        self.nodes.append(node)
        return node

    def alive(self) -> list[Node]:
        return [node for node in self.nodes if not node.dead]

    def tick(self) -> None:
        self.now += TICK
        running: dict[Round, list[Node]] = {}
        for node in self.alive():
            if node.state == AgentState.RUNNING and node.round:
                running.setdefault(node.round, []).append(node)
        for round, nodes in running.items():
            # A process notices that a peer is lost when they next meet; it waits for one that has yet to come.
            lost = {
                node.name
                for node in self.nodes
                if node.dead or (node.state == AgentState.WAITING and node.round == round)
            }
            if any(member.agent in lost for member in round.members):
                for node in nodes:
                    if node.frozen_until <= self.now and not node.saving:
                        node.fail()
        if self.now < self.away_until:
            return
        self.membership.tick(self.now)
        for node in self.alive():
            if node.frozen_until > self.now:
                continue
            view = self.membership.hear(node.pulse(self.bounds), self.now)
            node.heard_by = self.membership
            self.check(view)
            if node.state == AgentState.GONE:
                node.dead = True
            else:
                node.act(view)

    def check(self, view: JobView) -> None:
        """The laws that hold at every moment."""
        if view.round is None:
            return
        known = self.rounds.setdefault(view.round.number, view.round)
        assert known == view.round, "two rounds of one number"
        assert view.round.number == max(self.rounds), "an older round came back"
        # A new coordinator knows of a round from the first pulse of one that was in it.
        told = [node for node in self.alive() if node.heard_by is self.membership]
        remembered = [node.round.number for node in told if node.round and node.frozen_until <= self.now]
        assert view.round.number >= max(remembered, default=0), "a round that somebody was in is forgotten"
        names = [member.agent for member in view.round.members]
        assert len(set(names)) == len(names)
        assert self.bounds.least <= len(names) <= self.bounds.most
        if self.limit is not None and len(names) > self.bounds.least:
            assert view.round.processes <= self.limit, "more processes than the training can use"
        ranks = []
        for place, member in enumerate(view.round.members):
            ranks += range(view.round.first_rank(place), view.round.first_rank(place) + member.processes)
        assert ranks == list(range(view.round.processes)), "ranks have gaps"

    def run(self, seconds: float) -> None:
        for _ in range(int(seconds / TICK)):
            self.tick()

    def kill(self, node: Node) -> None:
        node.dead = True

    def lose_coordinator(self, seconds: float) -> None:
        self.away_until = self.now + seconds
        self.membership = Membership(f"c{self.now}", self.away_until)
        self.rounds = {}  # only agents remember the rounds before

    def training(self) -> list[Node]:
        """Those that run; the processes of a frozen agent end by themselves, which is the guard's business."""
        nodes = [node for node in self.alive() if node.state == AgentState.RUNNING and node.frozen_until <= self.now]
        assert len({node.round for node in nodes}) <= 1, "two rounds train at once"
        return nodes


def world(
    nodes: int, least: int = 1, most: int = 3, gather: float = 1.0, limit: int | None = None, processes: int = 2
) -> World:
    made = World(Bounds(least, most, gather))
    made.limit, made.processes = limit, processes
    for slot in range(nodes):
        made.start(slot)
    return made


EVENTS = st.one_of(
    st.tuples(st.just("kill"), st.integers(0, 9)),
    st.tuples(st.just("start"), st.integers(0, 9)),
    st.tuples(st.just("fail"), st.integers(0, 9)),
    st.tuples(st.just("leave"), st.integers(0, 9)),
    st.tuples(st.just("freeze"), st.integers(0, 9)),
    st.tuples(st.just("coordinator"), st.integers(1, 60)),
)


def apply(made: World, event: tuple[str, int], slots: list[int]) -> None:
    what, which = event
    alive = made.alive()
    if what == "start":
        taken = {node.slot for node in alive}
        free = [slot for slot in slots if f"n{slot}" not in taken]
        if free:
            made.start(free[which % len(free)])
    elif what == "coordinator":
        made.lose_coordinator(which / 5)
    elif alive:
        node = alive[which % len(alive)]
        if what == "kill":
            made.kill(node)
        elif what == "fail":
            node.fail()
        elif what == "freeze":
            node.frozen_until = made.now + which * 2.0
        elif what == "leave" and not node.saving:
            node.leaving, node.saving, node.state = True, 3, AgentState.LEAVING


@settings(max_examples=100, deadline=None)
@example(1, 1, [(1.0, ("freeze", 4)), (0.0, ("fail", 0)), (8.0, ("coordinator", 1))], None)
@given(
    least=st.integers(1, 3),
    extra=st.integers(0, 2),
    events=st.lists(st.tuples(st.floats(0, 12), EVENTS), max_size=12),
    room=st.integers(1, 5) | st.none(),
)
def test_whatever_happens_those_that_live_train_together_in_the_end(least, extra, events, room):
    most = least + extra
    made = world(most, least, most, limit=None if room is None else 2 * room + 1)
    trains = most if room is None else max(least, min(most, room))
    for pause, event in events:
        made.run(pause)
        apply(made, event, list(range(most)))
    # Now nothing happens any more: everybody that lives is in one round, as far as there is room.
    made.run(40)
    taken = {node.slot for node in made.alive()}
    for slot in range(most):
        if f"n{slot}" not in taken:
            made.start(slot)
    made.run(30)
    assert made.membership.failed is None
    assert len(made.training()) == trains
    before = min(node.reached for node in made.training())
    made.run(5)
    assert min(node.reached for node in made.training()) > before


@settings(max_examples=20, deadline=None)
@given(victims=st.sets(st.integers(0, 3), min_size=1, max_size=3), when=st.floats(0, 3))
def test_the_dead_do_not_hold_the_others_up(victims, when):
    made = world(4, 1, 4)
    made.run(5 + when)
    assert len(made.training()) == 4
    for victim in victims:
        made.kill(made.nodes[victim])
    made.run(PATIENCE.suspect + PATIENCE.settle + 5 * TICK)
    assert len(made.training()) == 4 - len(victims)


def test_a_node_that_only_hangs_is_waited_for_ten_seconds():
    made = world(2)
    made.run(5)
    made.nodes[0].frozen_until = made.now + 1000
    made.run(PATIENCE.dead - 1)
    assert made.nodes[1].state == AgentState.RUNNING
    made.run(3)
    assert [node.name for node in made.training() if node.round.number == 2] == ["a2"]


def test_one_that_was_taken_for_dead_comes_back():
    made = world(2)
    made.run(5)
    made.nodes[0].frozen_until = made.now + PATIENCE.dead + 5
    made.run(PATIENCE.dead + 3)
    assert made.nodes[1].round.number == 2
    made.run(20)
    assert len(made.training()) == 2
    assert made.nodes[0].entered == [1, 3]


def test_a_node_that_leaves_in_good_order_is_out_at_once():
    made = world(3)
    made.run(5)
    node = made.nodes[1]
    node.leaving, node.saving, node.state = True, 3, AgentState.LEAVING
    made.run(2)
    assert sorted(node.name for node in made.training()) == ["a1", "a3"]
    assert made.membership.view(made.now).lost == ()


def test_nodes_that_come_soon_after_each_other_interrupt_once():
    made = world(1, 1, 3)
    made.run(5)
    assert len(made.training()) == 1
    made.start(1)
    made.run(PATIENCE.join - 2 * TICK)
    made.start(2)
    made.run(PATIENCE.join + 3)
    assert len(made.training()) == 3
    assert max(made.rounds) == 2


def test_a_node_beyond_the_most_waits_without_interrupting_and_takes_a_dead_ones_place():
    made = world(2, 1, 2)
    made.run(3)
    spare = made.start(7)
    made.run(30)
    assert spare.state == AgentState.WAITING
    assert max(made.rounds) == 1
    made.kill(made.nodes[0])
    made.run(3)
    assert spare in made.training()


def test_nodes_beyond_what_the_training_can_use_wait_and_take_a_lost_ones_place():
    made = world(3, 1, 3, gather=20, limit=2, processes=1)
    made.run(3 * TICK)
    assert len(made.training()) == 2  # the first round does not wait for more
    spare = next(node for node in made.nodes if node.state == AgentState.WAITING)
    made.run(60)
    assert max(made.rounds) == 1  # and those who train are not interrupted
    assert spare.view.room == 2
    made.kill(made.training()[0])
    made.run(3)
    assert spare in made.training()
    assert len(made.training()) == 2


def test_whole_nodes_alone_count_where_a_node_has_several_processes():
    made = world(3, 1, 3, limit=5, processes=2)
    made.run(5)
    assert len(made.training()) == 2
    assert made.training()[0].round.processes == 4


def test_the_least_number_of_nodes_begins_even_if_it_is_too_many_so_that_the_training_says_so():
    made = world(3, 2, 3, limit=1, processes=1)
    made.run(5)
    assert len(made.training()) == 2


def test_a_new_coordinator_learns_what_the_training_can_use():
    made = world(2, 1, 3, limit=2, processes=1)
    made.run(5)
    made.lose_coordinator(3)
    made.start(2)
    made.run(30)
    assert len(made.training()) == 2
    assert max(made.rounds) == 1


def test_a_round_is_stuck_once_nobody_in_it_makes_progress():
    made = world(2)
    made.run(5)
    first, second = made.nodes
    first.overdue = True
    made.run(1)
    assert not made.membership.view(made.now).stuck  # the other one may wait for its data
    second.overdue = True
    made.run(2 * TICK)
    assert made.membership.view(made.now).stuck
    second.fail()
    made.run(2 * TICK)
    assert not made.membership.view(made.now).stuck


def test_one_that_is_done_makes_no_progress_and_one_that_leaves_has_a_limit_of_its_own():
    made = world(2)
    made.run(5)
    first, second = made.nodes
    first.overdue, second.state = True, AgentState.DONE
    made.run(2 * TICK)
    assert made.membership.view(made.now).stuck
    second.state, second.saving, second.leaving = AgentState.LEAVING, 100, True
    made.run(2 * TICK)
    assert not made.membership.view(made.now).stuck


def test_one_that_leaves_is_not_waited_for_once_it_has_written_all():
    made = world(2)
    made.run(5)
    leader = made.nodes[0]
    leader.leaving, leader.saving, leader.state = True, 1000, AgentState.LEAVING  # its process does not end
    made.nodes[1].state = AgentState.WAITING  # that of the other has saved, too
    made.run(PATIENCE.leave - 2)
    assert max(made.rounds) == 1
    leader.written = True
    made.run(2 * TICK)
    assert [node.name for node in made.training()] == ["a2"]
    assert max(made.rounds) == 2


def test_the_first_round_waits_for_all_but_not_for_ever():
    made = world(1, 1, 3, gather=5)
    made.run(4)
    assert made.training() == []
    made.start(1)
    made.start(2)
    made.run(3 * TICK)
    assert len(made.training()) == 3
    made = world(1, 1, 3, gather=5)
    made.run(6)
    assert len(made.training()) == 1


def test_below_the_least_nobody_trains_until_another_comes():
    made = world(2, 2, 2)
    made.run(3)
    made.kill(made.nodes[1])
    made.run(30)
    assert made.training() == []
    made.start(1)
    made.run(2)
    assert len(made.training()) == 2


def test_training_goes_on_while_the_coordinator_is_away_and_the_new_one_takes_over():
    made = world(3)
    made.run(5)
    before = made.nodes[0].round
    made.lose_coordinator(60)
    made.run(59)
    assert all(node.round == before for node in made.training())
    made.kill(made.nodes[2])  # while nobody can decide
    made.run(4)
    made.run(PATIENCE.takeover + 2)
    assert sorted(node.name for node in made.training()) == ["a1", "a2"]
    assert made.nodes[0].round.number == before.number + 1


def test_a_new_coordinator_does_not_interrupt_a_round_that_is_whole():
    made = world(3)
    made.run(5)
    made.lose_coordinator(3)
    made.run(60)
    assert len(made.training()) == 3
    assert max(made.rounds) == 1


def test_a_new_node_that_comes_first_to_a_new_coordinator_starts_no_second_job():
    made = world(2, 1, 3, gather=5)
    made.run(10)
    made.lose_coordinator(2)
    for node in made.nodes:
        node.frozen_until = made.now + 4
    made.start(2)
    made.run(3)
    assert not any(node.round and node.round.number == 1 for node in made.nodes[2:])
    made.run(20)
    assert len(made.training()) == 3


class Lives:
    """A job of one node whose process fails again and again."""

    def __init__(self, tolerance: int) -> None:
        self.membership = Membership("c", 0.0)
        self.bounds = Bounds(1, 1, gather=0, tolerance=tolerance)
        self.now = 0.0

    def life(self, failure: Failure, stepped: bool = False, reached: int | None = None) -> JobView:
        member = Member("a", "n", "x", 1, 1)
        view = JobView()
        last = None if self.membership.view(self.now).round is None else self.membership.view(self.now).round
        for _ in range(20):
            self.now += TICK
            view = self.membership.hear(Pulse("j", "c", member, self.bounds, AgentState.WAITING, last), self.now)
            if view.failed or (view.round and view.round != last):
                break
        if view.failed:
            return view
        running = Pulse("j", "c", member, self.bounds, AgentState.RUNNING, view.round, stepped, reached)
        self.membership.hear(running, self.now)
        return self.membership.hear(
            Pulse("j", "c", member, self.bounds, AgentState.WAITING, view.round, failure=failure), self.now
        )


def test_the_same_failure_without_a_step_ends_the_job():
    job = Lives(tolerance=3)
    mistake = Failure(0, "ValueError: no")
    assert job.life(mistake).failed is None
    assert job.life(mistake).failed is None
    failed = job.life(mistake).failed
    assert failed is not None
    assert "rank 0 failed 3 times in a row without a step between: ValueError: no" in failed.reason


def test_a_step_between_two_failures_counts_them_again():
    job = Lives(tolerance=3)
    for life in range(12):
        assert job.life(Failure(0, "ValueError: no"), stepped=life % 3 == 2).failed is None


def test_steps_that_lead_no_further_end_the_job_in_the_end():
    job = Lives(tolerance=3)
    mistake = Failure(0, "ValueError: no")
    for life in range(30):  # each comes further
        assert job.life(mistake, stepped=True, reached=life).failed is None
    for _ in range(STANDING - 2):
        assert job.life(mistake, stepped=True, reached=29).failed is None
    failed = job.life(mistake, stepped=True, reached=29).failed
    assert failed is not None
    assert f"{STANDING} rounds in a row failed, and none came further than step 29" in failed.reason


def test_failures_are_reported_once_with_their_node():
    job = Lives(tolerance=3)
    job.life(Failure(0, "ValueError: no"))
    assert job.membership.news == ["round 1 ends: on n, rank 0 failed: ValueError: no"]


def test_a_process_that_is_killed_is_given_more_time():
    job = Lives(tolerance=3)
    for _ in range(9):
        assert job.life(Failure(0, "killed by SIGKILL", killed=True)).failed is None
    assert job.life(Failure(0, "killed by SIGKILL", killed=True)).failed is not None


def test_when_the_job_is_finished_nobody_is_asked_to_stop():
    made = world(2)
    made.run(5)
    made.nodes[0].finished, made.nodes[0].state = True, AgentState.DONE
    made.run(0.3)
    view = made.membership.view(made.now)
    assert view.finished
    assert not view.broken


def test_a_failure_for_good_ends_the_job_for_all():
    made = world(2)
    made.run(5)
    pulse = made.nodes[0].pulse(made.bounds)
    made.membership.hear(replace(pulse, failed=Verdict("no data", user=True)), made.now)
    assert made.membership.hear(made.nodes[1].pulse(made.bounds), made.now).failed == Verdict("no data", user=True)
