import errno
import fcntl
import json
import multiprocessing
import os
import signal
import threading
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hardviews.errors import UserError
from hardviews.tracking import journal as journal_module
from hardviews.tracking import spool as spool_module
from hardviews.tracking.spool import Blocked, Rejected, Spool


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
    # The remains of a kill in the middle of a write.
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


class Disk:
    """Stands in for `os`, with a disk that can be full."""

    def __init__(self):
        self.full = True
        self.refused = 0

    def __getattr__(self, name):
        return getattr(os, name)

    def write(self, descriptor, data):
        if self.full:
            self.refused += 1
            # As a disk does it: some bytes fit in the end.
            os.write(descriptor, bytes(data[: len(data) // 2]))
            raise OSError(errno.ENOSPC, "No space left on device")
        return os.write(descriptor, data)

    def replace(self, source, target):
        if self.full:
            raise OSError(errno.ENOSPC, "No space left on device")
        os.replace(source, target)


@pytest.fixture
def disk(monkeypatch):
    disk = Disk()
    monkeypatch.setattr(journal_module, "os", disk)
    return disk


def wait_for(condition):
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_on_a_full_disk_everything_arrives_from_memory_and_it_is_reported_once(tmp_path, disk, caplog):
    receiver = Receiver()
    spool = opened(tmp_path / "run.jsonl", receiver)
    for n in range(1000):
        spool.put({"n": n})
        if n % 100 == 0:
            wait_for(lambda: disk.refused)
    assert spool.close(60) == 0
    assert receiver.got == list(range(1000)) and spool.lost() == 0
    assert caplog.text.count("the disk is full") == 1
    assert not spool._sender.is_alive()  # it ended at the close, not by an error


def test_a_disk_that_is_full_for_a_while_keeps_the_order(tmp_path, disk):
    receiver = Receiver()
    receiver.away = True
    disk.full = False
    spool = opened(tmp_path / "run.jsonl", receiver)
    for n in range(300):
        disk.full = n // 100 == 1
        spool.put({"n": n})
        wait_for(lambda: not spool._queue.unfinished_tasks)
    lines = (tmp_path / "run.jsonl").read_text().splitlines()
    assert [json.loads(line)["n"] for line in lines] == list(range(300))
    receiver.away = False
    assert spool.close(60) == 0
    assert receiver.got == list(range(300))


def test_memory_for_a_full_disk_is_bounded_and_losses_are_counted(tmp_path, disk, monkeypatch):
    monkeypatch.setattr(spool_module, "_MOST_HELD", 500)
    receiver = Receiver()
    receiver.away = True
    spool = opened(tmp_path / "run.jsonl", receiver)
    for n in range(100):
        spool.put({"n": n})
    spool.put({"n": 100, "kind": "end"})
    wait_for(lambda: not spool._queue.unfinished_tasks)
    receiver.away = False
    spool.close(60)
    assert receiver.got[-1] == 100 and receiver.got[:-1] == list(range(len(receiver.got) - 1))
    assert 10 < len(receiver.got) < 60 and spool.dropped == spool.lost() == 101 - len(receiver.got)


def test_a_note_that_the_disk_does_not_take_stops_nobody(tmp_path, monkeypatch):
    receiver = Receiver()
    spool = opened(tmp_path / "run.jsonl", receiver)
    spool.put({"n": 0})
    assert spool.drain(60)
    plain = Path.write_text

    def full(path, *rest, **options):
        if path.name.endswith(".part"):
            raise OSError(errno.EDQUOT, "Disk quota exceeded")
        return plain(path, *rest, **options)

    monkeypatch.setattr(Path, "write_text", full)
    for n in range(1, 50):
        spool.put({"n": n})
    assert spool.drain(60)
    receiver.away = True
    spool.put({"n": 50})
    wait_for(lambda: not spool._queue.unfinished_tasks)
    # A process that is killed here leaves no note that is wrong: the next one sends all of it again.
    left = (tmp_path / "run.jsonl").read_bytes()
    assert not (tmp_path / "run.sent").exists() and left.count(b"\n") == 51
    receiver.away = False
    assert spool.close(60) == 0
    assert receiver.got == list(range(51))


def test_without_a_folder_records_wait_in_memory(tmp_path, caplog):
    (tmp_path / "file").write_text("in the way")
    receiver = Receiver()
    receiver.away = True
    spool = opened(tmp_path / "file" / "run.jsonl", receiver)
    for n in range(300):
        spool.put({"n": n})
    wait_for(lambda: not spool._queue.unfinished_tasks)
    assert spool.only_in_memory() == spool.unsent() == 300
    receiver.away = False
    assert spool.close(60) == 0
    assert receiver.got == list(range(300)) and "memory" in caplog.text


def test_lines_that_a_disk_has_damaged_are_counted_and_left_out(tmp_path):
    path = tmp_path / "run.jsonl"
    path.write_bytes(b'{"n": 0}\n\x00\x00\xff\n[1]\n{"n": 1}\n')
    receiver = Receiver()
    spool = opened(path, receiver)
    assert spool.close(60) == 0
    assert receiver.got == [0, 1] and spool.lost() == 2


def test_a_failure_that_somebody_has_to_end_is_reported_once_and_not_waited_for(tmp_path, caplog):
    receiver = Receiver()
    reasons = ["renew the token"]

    def send(records):
        if reasons:
            raise Blocked(reasons[0])
        receiver(records)

    spool = opened(tmp_path / "run.jsonl", send)
    for n in range(10):
        spool.put({"n": n})
    wait_for(lambda: spool.blocked and spool._attempts > 3)
    assert caplog.text.count("renew the token") == 1 and "server is away" not in caplog.text
    reasons[0] = "give more space"
    wait_for(lambda: spool.trouble == "give more space")
    assert caplog.text.count("give more space") == 1
    begun = time.monotonic()
    assert not spool.drain(600)
    assert time.monotonic() - begun < 30
    reasons.clear()
    assert spool.close(60) == 0
    assert receiver.got == list(range(10)) and spool.trouble is None


def test_at_the_end_a_server_that_was_refused_to_us_is_asked_once_more(tmp_path, monkeypatch):
    monkeypatch.setattr(spool_module, "_FIRST_PAUSE", 1000.0)
    receiver = Receiver()
    tries = []

    def send(records):
        tries.append(len(records))
        if len(tries) == 1:
            raise Blocked("renew the token")
        receiver(records)

    spool = opened(tmp_path / "run.jsonl", send)
    spool.put({"n": 0})
    wait_for(lambda: spool.blocked)
    assert spool.close(60) == 0
    assert receiver.got == [0]


@settings(max_examples=15, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 30), st.booleans(), st.booleans()), max_size=6))
def test_any_history_of_full_disks_and_outages_keeps_the_order(tmp_path_factory, times):
    disk, receiver, n = Disk(), Receiver(), 0
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(journal_module, "os", disk)
        disk.full = False
        spool = opened(tmp_path_factory.mktemp("spool") / "run.jsonl", receiver)
        for count, disk.full, receiver.away in times:
            for _ in range(count):
                spool.put({"n": n})
                n += 1
            wait_for(lambda: not spool._queue.unfinished_tasks)
        receiver.away = False
        assert spool.close(60) == 0
    assert receiver.got == list(range(n))
