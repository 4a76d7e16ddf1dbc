import time

from mlflow.tracking import MlflowClient

from hardviews.tracking.run import Run
from tests.tracking.servers import free_port, mlflow_server


def test_a_server_killed_and_restarted_in_the_middle_misses_nothing(project, tmp_path):
    port = free_port()
    with mlflow_server(project, port) as uri:
        run = Run.start("outage", "x", uri=uri, folder=tmp_path / "job")
        for step in range(1, 101):
            run.log_metrics({"loss": 1 / step}, step)
        assert run.drain(20)
    # Nobody answers now; a step must not notice.
    slowest = 0.0
    for step in range(101, 201):
        begun = time.perf_counter()
        run.log_metrics({"loss": 1 / step}, step)
        slowest = max(slowest, time.perf_counter() - begun)
        time.sleep(0.005)
    run.log_text("written while away", "away.txt")
    assert slowest < 0.1
    assert not run.drain(0.5)
    with mlflow_server(project, port) as uri:
        for step in range(201, 301):
            run.log_metrics({"loss": 1 / step}, step)
        assert run.close(timeout=30) == 0
        client = MlflowClient(uri)
        history = client.get_metric_history(run.run_id, "loss")
        assert [(m.step, m.value) for m in history] == [(step, 1 / step) for step in range(1, 301)]
        assert [item.path for item in client.list_artifacts(run.run_id)] == ["away.txt"]
        assert client.get_run(run.run_id).info.status == "FINISHED"


def test_closing_while_the_server_is_away_says_what_is_left(project, tmp_path, caplog):
    store, away = f"sqlite:///{project}/mlflow.db", f"http://127.0.0.1:{free_port()}"
    run = Run.start("outage", "x", uri=store, folder=tmp_path / "job")
    run.close(None)
    run = Run.start("outage", "x", run.run_id, uri=away, folder=tmp_path / "job")
    run.log_metrics({"loss": 1.0}, 1)
    begun = time.monotonic()
    assert run.close(timeout=0.5) == 2  # the metric and the end of the run
    assert time.monotonic() - begun < 10
    assert "2 records" in caplog.text and str(tmp_path) in caplog.text
    # The next life of the job starts while the server is still away.
    resumed = Run.start("outage", "x", run.run_id, uri=away, folder=tmp_path / "job")
    resumed.log_metrics({"loss": 1.0}, 1)
    resumed.log_metrics({"loss": 0.5}, 2)
    resumed.close(timeout=0.1)
    client = MlflowClient(store)
    assert client.get_metric_history(run.run_id, "loss") == []
    last = Run.start("outage", "x", run.run_id, uri=store, folder=tmp_path / "job")
    assert last.close() == 0
    assert [m.step for m in client.get_metric_history(run.run_id, "loss")] == [1, 2]
