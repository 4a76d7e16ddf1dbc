"""Lines of a log, whole and in order, through restarts."""

from contextlib import contextmanager

import pytest

from hardviews.launch.kubernetes import logs
from hardviews.launch.kubernetes.cluster import Silent, patiently
from tests.launch.kubernetes.clusters import HOME, Few

POD = f"{HOME}/pods/p"


def stamped(second: int, text: str, fraction: str = ".5") -> bytes:
    return f"2026-11-22T15:00:{second:02d}{fraction}Z {text}\n".encode()


class Pieces:
    def __init__(self, data: bytes) -> None:
        self.data = data

    def stream(self, amt: int):
        for i in range(0, len(self.data), 7):  # wherever the network cuts
            yield self.data[i : i + 7]


class Pod(Few):
    """A pod whose log is `logs`, one entry for each look."""

    def __init__(self, *looks) -> None:
        super().__init__()
        self.looks = list(looks)

    def find(self, path):
        assert path == POD
        if not self.looks:
            return None
        self.now = self.looks.pop(0)
        if self.now is None:
            return None
        return {
            "metadata": {"uid": self.now.get("uid", "u")},
            "status": {
                "containerStatuses": [{"containerID": "c", "restartCount": self.now.get("restarts", 0), "state": {}}]
            },
        }

    @contextmanager
    def stream(self, path, **query):
        assert path == f"{POD}/log"
        yield Pieces(self.now["previous"] if "previous" in query else self.now["log"])


@pytest.fixture(autouse=True)
def without_pauses(monkeypatch):
    monkeypatch.setattr(logs, "_PAUSE", 0)


def read(cluster, follow=True):
    return list(logs.lines(cluster, "n", "p", follow, over=lambda: not cluster.looks))


def test_lines_come_whole_whatever_the_network_cuts():
    data = stamped(1, "one") + stamped(2, "two words") + stamped(3, "") + b"2026-11-22T15:00:04Z end"
    assert read(Pod({"log": data}), follow=False) == ["one\n", "two words\n", "\n", "end\n"]


def test_no_line_comes_twice_and_times_with_fewer_decimals_are_ordered():
    first = stamped(1, "a", ".1") + stamped(1, "b", ".12")
    assert read(Pod({"log": first}, {"log": first + stamped(1, "c", ".123456789")})) == ["a\n", "b\n", "c\n"]


def test_the_last_lines_of_a_container_that_was_restarted_are_not_lost():
    before = stamped(1, "a")
    looks = [
        {"log": before},
        {"restarts": 1, "previous": before + stamped(2, "why it failed"), "log": stamped(3, "again")},
    ]
    assert read(Pod(*looks)) == ["a\n", "why it failed\n", "again\n"]


def test_a_pod_that_was_replaced_goes_on():
    looks = [None, {"log": stamped(1, "a")}, None, {"uid": "v", "log": stamped(5, "b")}, None]
    assert read(Pod(*looks)) == ["a\n", "b\n"]


def test_remarks_of_the_kubelet_are_no_lines():
    data = b"unable to retrieve container logs for containerd://0f3a\n" + stamped(1, "a")
    assert read(Pod({"log": data})) == ["a\n"]


def test_a_log_is_followed_through_a_cluster_that_does_not_answer(monkeypatch):
    class Flaky(Pod):
        silences = 3

        def find(self, path):
            if self.silences:
                self.silences -= 1
                raise Silent("no answer")
            return super().find(path)

    monkeypatch.setattr("time.sleep", lambda _: None)
    assert read(Flaky({"log": stamped(1, "a")})) == ["a\n"]


def test_patience_ends():
    def silent():
        raise Silent("no answer")

    with pytest.raises(Silent):
        patiently(silent, seconds=0)
