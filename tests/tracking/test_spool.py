import fcntl
import json
import multiprocessing
import os
import signal
import threading
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hardviews.errors import UserError
from hardviews.tracking import journal as journal_module
from hardviews.tracking import spool as spool_module
from hardviews.tracking.spool import Rejected, Spool


class Receiver:
    """A server that can be away, slow, or refuse records."""

    def __init__(self):
        self.got = []
        self.away = False
        self.refused = set()

    def __call__(self, records):
        if self.away:
            raise ConnectionError("nobody there")
        if any(record["n"] in self.refused for record in records):
            raise Rejected("no")
        self.got += [record["n"] for record in records]


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch):
    monkeypatch.setattr(spool_module, "_FIRST_PAUSE", 0.01)
    monkeypatch.setattr(spool_module, "_LAST_PAUSE", 0.05)


def opened(path, receiver, **options):
    spool = Spool(path, receiver, **options)
    spool.start()
    return spool


def test_everything_arrives_in_order_and_nothing_is_left(tmp_path):
    receiver = Receiver()
    spool = opened(tmp_path / "run.jsonl", receiver)
    for n in range(1000):
        spool.put({"n": n})
    assert spool.close(10) == 0
    assert receiver.got == list(range(1000))
    assert list(tmp_path.iterdir()) == []


def test_put_never_waits_while_the_server_hangs(tmp_path):
    release = threading.Event()
    spool = opened(tmp_path / "run.jsonl", lambda records: release.wait(20))
    begun = time.monotonic()
    for n in range(2000):
        spool.put({"n": n})
    assert time.monotonic() - begun < 1.0
    assert spool.close(0.2) == 2000
    release.set()


def test_a_slow_server_gets_its_time_and_an_absent_one_does_not(tmp_path):
    receiver = Receiver()
    spool = opened(tmp_path / "slow.jsonl", lambda records: (time.sleep(0.8), receiver(records)))
    spool.put({"n": 0})
    assert spool.close(0.1, sending=20, quiet=20) == 0
    receiver.away = True
    spool = opened(tmp_path / "away.jsonl", receiver)
    spool.put({"n": 1})
    begun = time.monotonic()
    assert spool.close(0.3, sending=20) == 1
    assert time.monotonic() - begun < 5


def test_passwords_are_not_told_in_warnings(tmp_path, caplog):
    def send(records):
        raise ConnectionError("API request to http://me:hunter2@host/api failed")

    spool = opened(tmp_path / "run.jsonl", send)
    spool.put({"n": 0})
    spool.close(0.3)
    assert "host/api" in caplog.text and "hunter2" not in caplog.text


def test_the_next_process_does_not_write_into_a_removed_file(tmp_path, monkeypatch):
    path, receiver, flock = tmp_path / "run.jsonl", Receiver(), fcntl.flock
    removed = []

    def flock_after_the_other_process_has_ended(descriptor, operation):
        if not removed:
            path.unlink()
            removed.append(descriptor)
        flock(descriptor, operation)

    monkeypatch.setattr(fcntl, "flock", flock_after_the_other_process_has_ended)
    receiver.away = True
    spool = opened(path, receiver)
    assert removed
    spool.put({"n": 0})
    assert spool.close(0.2) == 1
    receiver.away = False
    assert opened(path, receiver).close(10) == 0
    assert receiver.got == [0]


def test_server_away_and_back(tmp_path):
    receiver = Receiver()
    receiver.away = True
    spool = opened(tmp_path / "run.jsonl", receiver)
    for n in range(500):
        spool.put({"n": n})
    assert not spool.drain(0.3)
    assert spool.away_since is not None
    assert len((tmp_path / "run.jsonl").read_text().splitlines()) == 500
    receiver.away = False
    spool.put({"n": 500})
    assert spool.close(10) == 0
    assert receiver.got == list(range(501))


def test_what_was_not_sent_is_counted_and_sent_by_the_next_process(tmp_path):
    receiver = Receiver()
    receiver.away = True
    spool = opened(tmp_path / "run.jsonl", receiver)
    for n in range(300):
        spool.put({"n": n})
    assert spool.close(0.2) == 300
    receiver.away = False
    spool = opened(tmp_path / "run.jsonl", receiver)
    spool.put({"n": 300})
    assert spool.close(10) == 0
    assert receiver.got == list(range(301))


def test_a_server_that_hangs_does_not_hold_up_the_end(tmp_path):
    release = threading.Event()
    spool = opened(tmp_path / "run.jsonl", lambda records: release.wait(20))
    spool.put({"n": 0})
    begun = time.monotonic()
    assert spool.close(0.3, sending=20) == 1
    assert time.monotonic() - begun < 5
    release.set()


def test_a_server_that_takes_records_gets_more_time_than_one_that_is_away(tmp_path, monkeypatch):
    monkeypatch.setattr(spool_module, "_BATCH", 1)
    receiver = Receiver()
    spool = opened(tmp_path / "run.jsonl", lambda records: (time.sleep(0.2 * len(records)), receiver(records)))
    for n in range(12):
        spool.put({"n": n})
    assert spool.close(2.0, sending=60) == 0
    spool = opened(tmp_path / "run.jsonl", lambda records: (time.sleep(0.2 * len(records)), receiver(records)))
    for n in range(12, 32):
        spool.put({"n": n})
    assert spool.close(0.2, sending=0.4) > 0  # but not for ever


def test_what_an_earlier_process_left_is_adopted_in_order_but_for_what_is_not_wanted(tmp_path):
    away = Receiver()
    away.away = True
    for first, name in ((0, "a"), (10, "b")):
        spool = opened(tmp_path / f"{name}.jsonl", away)
        for n in range(first, first + 10):
            spool.put({"n": n})
        spool.close(0.1)
    receiver = Receiver()
    spool = Spool(tmp_path / "c.jsonl", receiver)
    assert spool.adopt(tmp_path / "a.jsonl", lambda record: record["n"] != 3)
    assert spool.adopt(tmp_path / "b.jsonl", lambda record: True)
    spool.start()
    spool.put({"n": 20})
    assert spool.close(10) == 0
    assert receiver.got == [0, 1, 2, *range(4, 21)]
    assert list(tmp_path.iterdir()) == []


def test_a_live_process_keeps_its_records(tmp_path):
    receiver = Receiver()
    receiver.away = True
    live = opened(tmp_path / "live.jsonl", receiver)
    live.put({"n": 0})
    spool = Spool(tmp_path / "other.jsonl", receiver)
    assert not spool.adopt(tmp_path / "live.jsonl", lambda record: True)
    spool.start()
    spool.close(0.1)
    receiver.away = False
    assert live.close(10) == 0
    assert receiver.got == [0]


def test_a_refused_record_stops_no_other(tmp_path):
    receiver = Receiver()
    receiver.refused = {3, 77}
    spool = opened(tmp_path / "run.jsonl", receiver)
    for n in range(100):
        spool.put({"n": n})
    assert spool.close(10) == 0
    assert receiver.got == [n for n in range(100) if n not in (3, 77)]
    assert spool.rejected == 2


def _put_and_die(path):
    spool = opened(path, lambda records: (_ for _ in ()).throw(ConnectionError()))
    for n in range(50):
        spool.put({"n": n})
    while spool._queue.unfinished_tasks:
        time.sleep(0.01)
    # What a kill in the middle of a write leaves.
    with open(path, "ab") as file:
        file.write(b'{"n": 5')

    os.kill(os.getpid(), signal.SIGKILL)


def test_a_killed_process_loses_nothing_that_was_written(tmp_path):
    path = tmp_path / "run.jsonl"
    process = multiprocessing.get_context("fork").Process(target=_put_and_die, args=(path,))
    process.start()
    process.join(20)
    assert process.exitcode == -9
    receiver = Receiver()
    spool = opened(path, receiver)
    spool.put({"n": 50})
    assert spool.close(10) == 0
    assert receiver.got == list(range(51))


def test_sent_records_are_not_sent_again_after_a_kill(tmp_path):
    path = tmp_path / "run.jsonl"
    path.write_text("".join(json.dumps({"n": n}) + "\n" for n in range(10)))
    path.with_suffix(".sent").write_text(str(len('{"n": 0}\n') * 4))
    receiver = Receiver()
    assert opened(path, receiver).close(10) == 0
    assert receiver.got == list(range(4, 10))


def test_two_processes_do_not_share_a_spool(tmp_path):
    spool = opened(tmp_path / "run.jsonl", Receiver())
    with pytest.raises(UserError, match="Another process"):
        Spool(tmp_path / "run.jsonl", Receiver(), lock_timeout=0.2)
    spool.close()


def test_a_full_queue_drops_and_counts(tmp_path):
    spool = Spool(tmp_path / "run.jsonl", Receiver(), capacity=10)
    for n in range(15):
        spool.put({"n": n})
    spool.start()
    assert spool.close(10) == 5


def test_a_long_run_does_not_grow_the_file(tmp_path, monkeypatch):
    monkeypatch.setattr(journal_module, "_COMPACT", 1000)
    receiver = Receiver()
    spool = opened(tmp_path / "run.jsonl", receiver)
    for n in range(500):
        spool.put({"n": n, "text": "x" * 50})
        if n % 50 == 49:
            assert spool.drain(10)
    assert (tmp_path / "run.jsonl").stat().st_size < 10_000
    spool.close(10)
    assert receiver.got == list(range(500))


@settings(max_examples=15, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 40), st.booleans(), st.booleans()), max_size=5),
    st.lists(st.integers(0, 20_000), max_size=2),
)
def test_any_history_of_outages_and_restarts_keeps_the_order(tmp_path_factory, lives, lengths):
    path = tmp_path_factory.mktemp("spool") / "run.jsonl"
    receiver = Receiver()
    n = 0
    for count, away_before, away_after in [*lives, (0, False, False)]:
        receiver.away = away_before
        spool = opened(path, receiver)
        for length in [1] * count + lengths:
            spool.put({"n": n, "text": "x" * length})
            n += 1
        receiver.away = away_after
        spool.close(0.05 if away_after else 10)
    assert receiver.got == list(range(n))
