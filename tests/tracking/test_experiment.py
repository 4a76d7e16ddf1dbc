"""Names in MLflow: groups of metrics, the experiment's tags, runs of one name."""

import json

import pytest

from hardviews.tracking.experiment import VIEW, complete, experiment_tags
from hardviews.tracking.metric_groups import grouped, in_groups
from hardviews.tracking.mlflow_run import Run

LOGGED = (
    *("loss", "loss/clean", "loss/adversarial", "spread", "hardness/chosen", "hardness/mean", "attack/raised"),
    *("flipped/adversarial", "margin/clean", "overlap/chosen", "centre_distance/chosen", "colour_distance/chosen"),
    *("learning_rate", "images_per_second", "data_wait", "checkpoint_stall", "eval/knn_top1", "health/rankme"),
    *("online/knn_top1_k20", "epoch", "restarts", "world_size", "checkpoint_seconds", "data/corrupt", "data/requests"),
)


def charts(names):
    """Return the charts of MLflow's page in its order: groups by name, then metrics without a group."""
    groups = sorted({name.rpartition("/")[0] for name in names} - {""}) + [""]
    return [name for group in groups for name in sorted(names) if name.rpartition("/")[0] == group]


def test_charts_begin_with_the_loss_and_end_with_counters():
    shown = charts([grouped(name) for name in LOGGED])
    assert shown[0] == "1_loss/loss"
    order = list(dict.fromkeys(name.partition("/")[0] for name in shown))
    assert order == ["1_loss", "2_hardness", "3_pairs", "4_rates", "eval", "health", "online", "run", "shards"]
    assert len(set(shown)) == len(LOGGED)  # no two metrics get one name


def test_other_names_stay_as_they_are():
    assert in_groups({"step": 1, "samples": 2, "knn_top1_k20": 3}) == {"step": 1, "samples": 2, "knn_top1_k20": 3}


def test_the_experiment_opens_as_training_with_a_list_to_judge_by(project, client):
    Run.start("new", "x", folder=project).close()
    tags = client.get_experiment_by_name("new").tags
    assert tags["mlflow.experimentKind"] == "custom_model_development"
    assert tags["mlflow.experiment.primaryMetric.name"] == "1_loss/loss"
    view = json.loads(tags[f"mlflow.sharedViewState.{VIEW}"])
    assert "metrics.`1_loss/loss`" in json.loads(view["state"])["selectedColumns"]


def test_an_experiment_that_was_there_is_completed_once(project, client):
    experiment = client.create_experiment("theirs", tags={"mlflow.experimentKind": "finetuning"})
    Run.start("theirs", "x", folder=project).close()
    tags = client.get_experiment(experiment).tags
    assert tags["mlflow.experimentKind"] == "finetuning" and f"mlflow.sharedViewState.{VIEW}" in tags
    client.delete_experiment_tag(experiment, f"mlflow.sharedViewState.{VIEW}")
    Run.start("theirs", "x", folder=project).close()
    assert f"mlflow.sharedViewState.{VIEW}" not in client.get_experiment(experiment).tags


def test_a_server_that_refuses_tags_of_the_experiment_is_left_alone():
    class Refusing:
        def set_experiment_tag(self, *_):
            raise PermissionError("no")

    complete(Refusing(), "1", {})
    complete(None, "1", experiment_tags())


@pytest.mark.parametrize("name", ["photos seed 0", "odd ' and % name"])
def test_runs_of_one_name_are_distinguished(project, client, name):
    runs = [Run.start("exp", name, folder=project, aside="runs/7") for _ in range(4)]
    for run in runs:
        run.close()
    names = [client.get_run(run.run_id).info.run_name for run in runs]
    assert names == [name, f"{name}, runs/7", f"{name}, runs/7 (2)", f"{name}, runs/7 (3)"]


def test_a_run_that_was_made_before_keeps_its_name(project, client):
    for _ in range(2):
        run = Run.start("exp", "x", folder=project, aside="a", key="job 1", tags={"mlflow.user": "ada"})
        run.close()
    got = client.get_run(run.run_id)
    assert got.info.run_name == "x" and got.data.tags["mlflow.user"] == "ada" and run.unsent == 0
