"""A real server that is killed, frozen, out of reach, late or deaf, and a job that is killed: every step once."""

import http.server
import os
import shutil
import signal
import threading
import time
from statistics import median

import numpy as np
import pytest
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import UNAUTHENTICATED
from mlflow.tracking import MlflowClient

from hardviews.errors import UserError
from hardviews.evaluation.report import show
from hardviews.evaluation.result import Result
from hardviews.tracking import sender as sender_module
from hardviews.tracking import spool as spool_module
from hardviews.tracking.failures import MissingRun
from hardviews.tracking.inputs import DatasetUse, ModelUse
from hardviews.tracking.mlflow_run import Run
from tests.stores import empty_store
from tests.tracking.gate import Gate
from tests.tracking.servers import free_port, kill_server, start_server


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """A real server's folder, port and process; a test that kills it starts it again."""
    folder = tmp_path_factory.mktemp("server") / "store"
    shutil.copytree(empty_store(), folder)
    port = free_port()
    state = {"folder": folder, "port": port, "process": start_server(folder, port)}
    yield state
    kill_server(state["process"])


@pytest.fixture
def gate(server):
    gate = Gate(server["port"])
    yield gate
    gate.close()


@pytest.fixture
def direct(server):
    return MlflowClient(f"http://127.0.0.1:{server['port']}")


@pytest.fixture(autouse=True)
def short_waits(monkeypatch):
    monkeypatch.setattr(spool_module, "_FIRST_PAUSE", 0.05)
    monkeypatch.setattr(spool_module, "_LAST_PAUSE", 0.2)
    monkeypatch.setattr(sender_module, "_SETTLE", 0.2)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "2")


def value(step):
    """The metrics of a run of the same recipe at a step, whichever life computes it."""
    return {"loss": 1 / step, "hardness": step % 7 / 7}


def row(step):
    return {"step": step, "samples": 32 * step, **value(step)}


def log(run, first, last):
    for step in range(first, last + 1):
        run.log_metrics(value(step) | {"system/memory": 5.0}, 32 * step)


def check(client, run_id, last):
    """Every report once, in order, with an undisturbed run's values."""
    for key in ("loss", "hardness"):
        history = client.get_metric_history(run_id, key)
        assert [(m.step, m.value) for m in history] == [(32 * s, value(s)[key]) for s in range(1, last + 1)]


def opened(gate, folder, run_id=None, **options):
    return Run.start("outage", "x", run_id, uri=gate.uri, folder=folder, **options)


def die_after(act):
    """Run `act` in a process that kills itself right after, and wait for its end."""
    child = os.fork()
    if child == 0:
        try:
            act()
        finally:
            os.kill(os.getpid(), signal.SIGKILL)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL


def wait_until_written(run):
    while run._lines._queue.unfinished_tasks or run._uploads._queue.unfinished_tasks:
        time.sleep(0.01)


def test_a_server_killed_and_restarted_in_the_middle_misses_nothing(server, direct, tmp_path):
    run = Run.start("outage", "x", uri=f"http://127.0.0.1:{server['port']}", folder=tmp_path)
    log(run, 1, 100)
    assert run.drain(20)
    kill_server(server["process"])
    # Nobody answers now; a step must not notice.
    took = []
    for step in range(101, 201):
        begun = time.perf_counter()
        log(run, step, step)
        took.append(time.perf_counter() - begun)
        time.sleep(0.002)
    run.log_text("written while away", "away.txt")
    # The machine may hold up one of them; a step that asks the server holds up all.
    assert median(took) < 0.01 and max(took) < 1.0
    assert not run.drain(0.5)
    server["process"] = start_server(server["folder"], server["port"])
    log(run, 201, 300)
    assert run.close(timeout=30) == 0
    check(direct, run.run_id, 300)
    assert [item.path for item in direct.list_artifacts(run.run_id)] == ["away.txt"]
    assert direct.get_run(run.run_id).info.status == "FINISHED"
    assert list((tmp_path / "spool").iterdir()) == []


def test_a_frozen_server_holds_up_neither_start_nor_steps_nor_end(server, direct, gate, tmp_path):
    run = opened(gate, tmp_path)
    log(run, 1, 10)
    assert run.drain(20)
    group = os.getpgid(server["process"].pid)
    os.killpg(group, signal.SIGSTOP)
    try:
        begun = time.monotonic()
        log(run, 11, 20)
        assert time.monotonic() - begun < 1.0
        begun = time.monotonic()
        assert run.close(None, timeout=0.5) > 0
        assert time.monotonic() - begun < 3
        begun = time.monotonic()
        run = opened(gate, tmp_path, run.run_id)
        assert time.monotonic() - begun < 4
        run.replay(row(step) for step in range(1, 16))
        log(run, 16, 25)
    finally:
        os.killpg(group, signal.SIGCONT)
    assert run.close() == 0
    check(direct, run.run_id, 25)


def test_answers_that_get_lost_double_nothing(direct, gate, tmp_path):
    run = opened(gate, tmp_path)
    log(run, 1, 5)
    assert run.drain(20)
    gate.set("deaf")
    log(run, 6, 20)
    deadline = time.monotonic() + 10
    while gate.cut < 2 and time.monotonic() < deadline:
        time.sleep(0.05)
    assert gate.cut >= 2
    gate.set("open")
    log(run, 21, 30)
    assert run.close() == 0
    check(direct, run.run_id, 30)


@pytest.mark.parametrize("mode", ["shut", "black_hole"])
def test_a_run_resumes_while_the_server_is_away(direct, gate, tmp_path, mode):
    run = opened(gate, tmp_path)
    run.log_params({"rate": 0.5})
    log(run, 1, 5)
    assert run.close(None) == 0
    assert direct.get_run(run.run_id).info.status == "RUNNING"
    gate.set(mode)
    begun = time.monotonic()
    again = opened(gate, tmp_path / "elsewhere", run.run_id, tags={"life": "2"})
    assert time.monotonic() - begun < 3
    again.replay(row(step) for step in range(1, 6))
    again.log_params({"rate": 0.7})
    log(again, 6, 10)
    gate.set("open")
    assert again.close() == 0
    check(direct, run.run_id, 10)
    found = direct.get_run(run.run_id)
    assert found.info.status == "FINISHED"
    assert found.data.params == {"rate": "0.5"}
    assert found.data.tags["hardviews.resumed.rate"] == "0.7" and found.data.tags["life"] == "2"
    assert "hardviews.lost" not in found.data.tags


def test_a_lost_spool_is_made_good_from_the_checkpoint_and_told(direct, gate, tmp_path):
    run = opened(gate, tmp_path / "first")
    log(run, 1, 5)
    assert run.drain(20)
    gate.set("shut")
    log(run, 6, 10)
    run.close(None, timeout=0.1)
    # The node is gone. The checkpoint was of step 8; another node goes on from there, and its spool is lost too.
    second = opened(gate, tmp_path / "second", run.run_id)
    second.replay(row(step) for step in range(1, 9))
    log(second, 9, 12)
    second.close(None, timeout=0.1)
    gate.set("open")
    third = opened(gate, tmp_path / "third", run.run_id)
    third.replay(row(step) for step in range(1, 12))
    log(third, 12, 15)
    assert third.close() == 0
    check(direct, run.run_id, 15)
    told = direct.get_run(run.run_id).data.tags["hardviews.lost"]
    assert "samples 192 to 352" in told and "6 reports" in told
    memory = [m.step // 32 for m in direct.get_metric_history(run.run_id, "system/memory")]
    assert memory == [*range(1, 6), *range(12, 16)]
    # The first node comes back: its lines are known by now, and nothing of them is sent twice.
    late = opened(gate, tmp_path / "first", run.run_id)
    assert late.close() == 0
    check(direct, run.run_id, 15)


def test_two_kills_in_a_row_lose_nothing_and_double_nothing(direct, gate, tmp_path):
    run = opened(gate, tmp_path)
    run.close(None)

    def first():
        life = opened(gate, tmp_path, run.run_id)
        log(life, 1, 6)
        life.drain(20)
        gate.set("shut")
        log(life, 7, 10)
        life.log_text("the first life's", "first.txt")
        wait_until_written(life)

    def second():
        life = opened(gate, tmp_path, run.run_id)
        log(life, 5, 8)  # killed before it came as far as the first
        wait_until_written(life)

    die_after(first)
    gate.set("shut")
    die_after(second)
    gate.set("open")
    last = opened(gate, tmp_path, run.run_id)
    log(last, 4, 20)
    assert last.close() == 0
    check(direct, run.run_id, 20)
    assert [item.path for item in direct.list_artifacts(run.run_id)] == ["first.txt"]
    assert list((tmp_path / "spool").iterdir()) == []


def test_of_two_processes_that_hold_the_run_the_later_one_writes(direct, gate, tmp_path, monkeypatch):
    monkeypatch.setattr(sender_module, "_STALE", 0.0)
    old = opened(gate, tmp_path / "a", life=1)
    log(old, 1, 5)
    assert old.drain(20)
    new = opened(gate, tmp_path / "b", old.run_id, life=2)
    log(new, 4, 8)
    assert new.drain(20)
    # It was frozen, say, and wakes up.
    log(old, 6, 12)
    assert old.close("FAILED") == 0
    log(new, 9, 10)
    assert direct.get_run(old.run_id).info.status == "RUNNING"
    assert new.close() == 0
    check(direct, new.run_id, 10)
    assert direct.get_run(new.run_id).data.tags["hardviews.restarts"] == "1"


def test_a_new_run_waits_for_a_server_that_is_late(direct, gate, tmp_path):
    gate.set("shut")
    threading.Timer(1.0, gate.set, ["open"]).start()
    run = opened(gate, tmp_path)
    log(run, 1, 3)
    assert run.close() == 0
    check(direct, run.run_id, 3)


@pytest.mark.parametrize(("mode", "reason"), [("shut", "connection refused"), ("black_hole", "no answer in time")])
def test_a_new_run_without_a_server_is_a_mistake_soon(gate, tmp_path, monkeypatch, mode, reason):
    monkeypatch.setattr("hardviews.tracking.server._PATIENCE", 0.7)
    gate.set(mode)
    begun = time.monotonic()
    with pytest.raises(UserError, match=reason):
        opened(gate, tmp_path)
    assert time.monotonic() - begun < 3


def test_a_run_is_made_once_though_its_maker_died_before_it_could_note_the_id(direct, gate, tmp_path):
    die_after(lambda: opened(gate, tmp_path, key="job-1 at s3://bucket/run"))
    run = opened(gate, tmp_path, key="job-1 at s3://bucket/run")
    log(run, 1, 3)
    assert run.close() == 0
    experiment = direct.get_run(run.run_id).info.experiment_id
    same = direct.search_runs([experiment], "tags.`hardviews.key` = 'job-1 at s3://bucket/run'")
    assert [found.info.run_id for found in same] == [run.run_id]
    check(direct, run.run_id, 3)


def test_a_server_that_lost_an_answer_makes_one_run(direct, gate, tmp_path, monkeypatch):
    gate.set("deaf")

    def listen_again():
        while gate.cut < 3:  # experiment, run, and one more try
            time.sleep(0.01)
        gate.set("open")

    experiment = direct.create_experiment("deaf")
    threading.Thread(target=listen_again).start()
    run = Run.start("deaf", "x", uri=gate.uri, folder=tmp_path)
    assert run.close() == 0
    assert [found.info.run_id for found in direct.search_runs([experiment])] == [run.run_id]


def test_a_run_that_the_server_does_not_know_is_reported_early_or_late(gate, tmp_path, caplog):
    with pytest.raises(MissingRun, match="not in the tracking store"):
        opened(gate, tmp_path, "0" * 32)
    assert list((tmp_path / "spool").iterdir()) == []
    gate.set("shut")
    run = opened(gate, tmp_path, "0" * 32)
    log(run, 1, 3)
    gate.set("open")
    time.sleep(1)
    run.close(timeout=0.2)
    assert "not in the tracking store" in caplog.text


def test_a_server_that_does_not_know_its_name_is_reported_in_words(server, direct, gate, tmp_path, caplog):
    other = Gate(server["port"], host="127.0.0.2")
    try:
        name = f"127.0.0.2:{other.port}"
        with pytest.raises(UserError, match=f"--allowed-hosts {name}"):
            opened(other, tmp_path)
        run = opened(gate, tmp_path)
        run.close(None)
        again = opened(other, tmp_path, run.run_id)
        log(again, 1, 3)
        assert again.close(timeout=0.2) > 0
        assert f"--allowed-hosts {name}" in caplog.text
    finally:
        other.close()


@pytest.mark.parametrize("status", [401, 403])
def test_refused_credentials_are_reported_in_words_and_not_shown(tmp_path, monkeypatch, status):
    class Denies(http.server.BaseHTTPRequestHandler):
        asked = 0

        def do_GET(self):
            Denies.asked += 1
            self.send_response(status)
            self.end_headers()
            self.wfile.write(b"no")

        def log_message(self, *_):
            pass

    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "me")
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "hunter2")
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Denies) as httpd:
        threading.Thread(target=httpd.serve_forever, daemon=True).start()
        begun = time.monotonic()
        with pytest.raises(UserError, match="refuses our credentials") as caught:
            Run.start("e", "x", uri=f"http://127.0.0.1:{httpd.server_port}", folder=tmp_path)
        httpd.shutdown()
    assert time.monotonic() - begun < 5 and Denies.asked == 1
    assert "hunter2" not in str(caught.value)


def test_an_evaluation_that_is_not_logged_says_so(gate, tmp_path, monkeypatch):
    monkeypatch.setattr("hardviews.tracking.mlflow_run._AT_THE_END", 0.3)
    parent = opened(gate, tmp_path)
    assert parent.close() == 0
    with opened(gate, tmp_path, parent=parent.run_id) as child:
        child.log_metrics({"knn/top1_k20": 50.0}, 1)
        assert child.drain(10)
        gate.set("shut")
        child.log_metrics({"knn/top1_k10": 50.0}, 1)
    assert child.unsent == 2
    metrics, headings = {"pretrained": {"knn/top1_k20": 50.0}}, {"knn/top1_k20": "k-NN"}
    result = Result("knn", metrics, headings, "d", child.run_id, logged=child.unsent == 0)
    with pytest.raises(UserError, match=f"{child.run_id} lacks some"):
        show([result])


def test_files_that_cannot_be_stored_do_not_hold_up_lines(server, direct, gate, tmp_path):
    served = server["folder"] / "served"
    served.mkdir(exist_ok=True)
    run = opened(gate, tmp_path)
    (served / direct.get_run(run.run_id).info.experiment_id).mkdir(exist_ok=True)
    # A file has the place of the run's folder.
    (served / direct.get_run(run.run_id).info.experiment_id / run.run_id).write_text("in the way")
    run.log_text("x", "x.txt")
    log(run, 1, 10)
    assert run._lines.drain(10)
    check(direct, run.run_id, 10)
    (served / direct.get_run(run.run_id).info.experiment_id / run.run_id).unlink()
    assert run.close() == 0
    assert [item.path for item in direct.list_artifacts(run.run_id)] == ["x.txt"]


@pytest.mark.parametrize("mode", ["shut", "black_hole"])
def test_a_process_that_others_wait_for_ends_soon_though_the_server_is_away(direct, gate, tmp_path, mode):
    run = opened(gate, tmp_path)
    log(run, 1, 5)
    assert run.drain(20)
    gate.set(mode)
    log(run, 6, 10)
    run.log_text("x", "x.txt")
    wait_until_written(run)
    begun = time.monotonic()
    assert run.close("KILLED", timeout=1.0) > 0
    assert time.monotonic() - begun < 5
    gate.set("open")
    # The process ends, and with it a request that hangs.
    for spool in (run._lines, run._uploads):
        spool._sender.join(30)
        spool._journal.close()
    again = opened(gate, tmp_path, run.run_id)
    assert again.close() == 0
    check(direct, run.run_id, 10)


def test_a_token_that_is_refused_for_a_while_is_reported_and_costs_nothing(direct, gate, tmp_path, monkeypatch, caplog):
    run = opened(gate, tmp_path)
    log(run, 1, 5)
    assert run.drain(20)
    client = type(run._server.client)
    with monkeypatch.context() as patch:
        patch.setattr(client, "log_batch", lambda *_, **__: (_ for _ in ()).throw(denied()))
        log(run, 6, 10)
        deadline = time.monotonic() + 60
        while "refuses our credentials" not in caplog.text:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        assert "server is away" not in caplog.text
    # Somebody has renewed it.
    assert run.close() == 0
    check(direct, run.run_id, 10)


def denied():
    return MlflowException("API request failed with error code 401 != 200", UNAUTHENTICATED)


def test_pictures_scores_and_descriptions_wait_for_the_server(direct, gate, tmp_path):
    """Of an evaluation that was killed while the server was away: all is there once, on its own run and its parent."""
    parent = opened(gate, tmp_path / "parent")
    parent.set_section("", "**verdict**")
    assert parent.close() == 0
    data = DatasetUse("digits/test", "ab" * 32, "s3://bucket/digits/test", 360, 10, "test")
    model = ModelUse("feed", 640, "s3://bucket/run/checkpoints/20", parent.run_id)

    def say(run):
        other = run.other(parent.run_id)
        run.log_image(np.zeros((20, 30, 3), np.uint8), "features/neighbours", 640)
        run.log_table([{"true": "a", "predicted": "b"}], "tables/confusions.json")
        run.log_inputs([data], [model])
        run.log_metrics({"knn/top1": 70.0}, 640, model, data)
        other.log_metrics({"eval/knn_top1": 70.0}, 640)
        other.set_section("Scores", "70.0")
        wait_until_written(run)

    def first_life():
        run = opened(gate, tmp_path, parent=parent.run_id, key="knn of feed")
        assert run.drain(20)
        gate.set("shut")
        say(run)

    die_after(first_life)
    gate.set("shut")  # the child shut the socket of both
    gate.set("open")
    again = opened(gate, tmp_path, parent=parent.run_id, key="knn of feed")
    took = time.perf_counter()
    say(again)
    assert time.perf_counter() - took < 5  # writes files; waits for no answer
    assert again.close(timeout=20) == 0 and again.unsent == 0
    own, above = direct.get_run(again.run_id), direct.get_run(parent.run_id)
    assert len(direct.list_artifacts(again.run_id, "images")) == 2
    assert [item.path for item in direct.list_artifacts(again.run_id, "tables")] == ["tables/confusions.json"]
    assert own.data.tags["mlflow.loggedArtifacts"].count("confusions") == 1
    assert len(own.inputs.dataset_inputs) == len(own.inputs.model_inputs) == 1
    assert len(direct.search_logged_models([own.info.experiment_id], "tags.digest = 'feed'")) == 1
    assert [m.value for m in direct.get_metric_history(again.run_id, "knn/top1")] == [70.0]
    assert [m.value for m in direct.get_metric_history(parent.run_id, "eval/knn_top1")] == [70.0]
    assert above.data.tags["mlflow.note.content"] == "**verdict**\n\n### Scores\n\n70.0"
