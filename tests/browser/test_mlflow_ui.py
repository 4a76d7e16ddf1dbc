"""Pages as people see them in a browser: the page of a training, with an evaluation below it."""

import sys
from dataclasses import replace

import numpy as np
import pytest

from hardviews.evaluation.probes.classify import Classify, evaluate_classify
from hardviews.recipes.finetuning import read_finetune
from hardviews.tracking.experiment import VIEW
from hardviews.tracking.inputs import DatasetUse, ModelUse
from hardviews.tracking.mlflow_run import Run
from hardviews.train.monitor_config import MonitorConfig
from tests.browser.chromium import CHROMIUM, chromium
from tests.browser.tour import Tour
from tests.tracking.servers import free_port, mlflow_server
from tests.train.runs import everything, packed, simclr, train

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here (apt-get install chromium)"),
]


def trained(tmp_path, client, monkeypatch):
    """Train for some steps, with pictures at every checkpoint; return the run."""
    monkeypatch.setattr("hardviews.train.beside._BETWEEN", 0.0)
    monkeypatch.setenv("HARDVIEWS_USER", "ada")
    monkeypatch.setenv("HARDVIEWS_COMMIT", "0123456789abcdef")
    data, output = packed(tmp_path / "noise" / "train"), tmp_path / "run"
    words = ["--data", data, "--output", str(output), "--training.epochs", "4"]
    monkeypatch.setattr(sys, "argv", ["hardviews.cli", "pretrain", "everything", *words])
    train(replace(everything(4), monitor=MonitorConfig(steps=8)), data, output)
    (run,) = client.search_runs([client.get_experiment_by_name("hardviews").experiment_id])
    return run


def evaluate(project, parent):
    """Log an evaluation as the jobs do it; return its id."""
    with Run.start("hardviews", "knn noise", parent=parent, folder=project) as child:
        test = DatasetUse("noise/test", "ab" * 32, "s3://bucket/noise/test", 90, 3, "test")
        model = ModelUse("cd" * 32, 320, "s3://bucket/run", parent)
        child.log_inputs([test], [model])
        child.log_metrics({"knn/top1": 71.25}, 320, model, test)
        child.set_note("| features | top-1 |\n|---|---|\n| raw pixels | 33.3 |")
        rows = [{"image": np.full((40, 40, 3), 90 * number, np.uint8), "true": f"class {number}"} for number in (1, 2)]
        child.log_table(rows, "tables/mistakes.json")
        above = child.other(parent)
        above.log_metrics({"eval/knn_top1": 71.25}, 320)
        above.set_section("Scores", "k-NN: 71.25 %", first=True)
    return child.run_id


def tuned(tmp_path, project, client, monkeypatch):
    """Fine-tune a trained run on some labels, with rates that are chosen, and score it; return the run."""
    labelled, first, output = packed(tmp_path / "shards" / "train"), tmp_path / "first", tmp_path / "tuned"
    train(replace(simclr(1), monitor=MonitorConfig(steps=0)), labelled, first)
    words = [str(first), "--recipe", "digits_finetune", "--data", labelled, "--output", str(output)]
    words += ["--labels", "30-per-class", "--rates", "0.01", "0.1", "--training.epochs", "2", "--training.batch", "16"]
    words += ["--loader.workers", "0", "--project", str(project)]
    monkeypatch.setattr(sys, "argv", ["hardviews.cli", "finetune", *words])
    read_finetune(words).run()
    evaluate_classify(Classify(str(output), test=labelled, project=str(project), device="cpu", overlap="off"))
    found = client.search_runs([client.get_experiment_by_name("hardviews").experiment_id])
    (run,) = (one for one in found if "hardviews.labels" in one.data.tags)
    return run


@pytest.mark.walkthrough
def test_the_page_of_a_fine_tuning_begins_with_encoder_labels_and_rates(project, client, tmp_path, monkeypatch):
    run = tuned(tmp_path, project, client, monkeypatch)
    assert run.data.tags["hardviews.labels"] == "30-per-class"
    parent = run.data.tags["mlflow.parentRunId"]
    with mlflow_server(project, free_port()) as uri, chromium(tmp_path / "profile") as browser:
        tour = Tour(browser, uri, run.info.experiment_id, run.info.run_id)
        text = tour.overview("Fine-tuned from simclr", "classify on", "Fine-tuning", "Go on from here", "Parent run")
        for wanted in (
            *("on 30 labels per class (60 images, 30 of each class, seed 0)", "chosen on 12 held-out labels"),
            *("Top-1 while training:", "with a 95 % interval of", "held-out top-1", "hardviews classify"),
        ):
            assert wanted in text, (wanted, text)
        assert text.index("Fine-tuned from") < text.index("Finished") < text.index("classify on")
        assert browser.value(f"!!document.querySelector('a[href*=\"runs/{parent}\"]')")


def test_the_pages_of_a_training_show_what_one_looks_for(project, client, tmp_path, monkeypatch):
    run = trained(tmp_path, client, monkeypatch)
    child = evaluate(project, run.info.run_id)
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    with mlflow_server(project, free_port()) as uri, chromium(tmp_path / "profile") as browser:
        tour = Tour(browser, uri, run.info.experiment_id, run.info.run_id, pictures)
        text = tour.overview("Finished: 320 samples seen", "Scores", "Go on from here", "Child runs")
        for wanted in (
            *("everything seed 0", "k-NN: 71.25 %", "training.epochs", "hardviews knn", "pretrain everything"),
            *("Created by\nada", "hardviews pretrain everything", "0123456", "noise/train", "Training", "knn noise"),
        ):
            assert wanted in text, (wanted, text)
        assert "Judges" not in text and "Playground" not in text  # of the menus for language models
        titles = tour.charts()
        assert titles[0] == "loss", titles
        steps = tour.slider("views/gallery")
        assert steps[0] == 0 and len(set(steps)) == 3, steps
        steps = tour.slider("features/neighbours", "features/spectrum", moves=1, name="tour_features")
        assert steps == [0, 128], steps
        assert "process_memory_megabytes" in tour.nodes("process_memory_megabytes")
        text = tour.runs(VIEW, "everything seed 0", "71.25")
        assert "1_loss/loss" in text and "noise/train" in text
        text = tour.evaluation(child, "noise/test", "knn/top1")
        for wanted in ("raw pixels", "71.25", "Test", "checkpoint", "everything seed 0"):
            assert wanted in text, (wanted, text)
        text = tour.table(child, "tables/mistakes.json", "class 1")
        assert "class 2" in text and "View as table" in text
    assert {path.name for path in pictures.iterdir()} == {
        f"tour_{name}.png"
        for name in ("overview", "charts", "pictures", "features", "nodes", "runs", "evaluation", "mistakes")
    }
