"""Pictures with steps, tables, inputs, metrics of a model on a data set, descriptions, and additions to another run."""

import json
from pathlib import Path

import mlflow
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.figure import Figure
from mlflow.tracking.client import MlflowClient
from PIL import Image

from hardviews.errors import UserError
from hardviews.tracking import notes
from hardviews.tracking.image_files import parsed, write_picture, write_table
from hardviews.tracking.image_store import MOST_KEYS, MOST_STEPS, surplus
from hardviews.tracking.inputs import DatasetUse, ModelUse
from hardviews.tracking.mlflow_run import NullRun, Run
from tests.tracking.servers import free_port, mlflow_server

DIGEST = "ab" * 32
TEST = DatasetUse("digits/test", DIGEST, "s3://u:secret@bucket/digits/test", 360, 10, "test")


def pixels(width=40, height=20, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def pictures(client, run_id):
    """Return the names of previews and of whole pictures, by key and step."""
    found = {}
    for item in client.list_artifacts(run_id, "images"):
        found.setdefault(parsed(item.path), []).append(Path(item.path).suffix)
    return {place: sorted(kinds) for place, kinds in found.items()}


def test_a_picture_has_the_name_that_mlflow_itself_gives(project, client, tmp_path):
    """The pages read key and step from it: compare with the files of MLflow's own call."""
    run_id = Run.start("exp", "x", folder=project).run_id
    client.log_image(run_id, pixels(), key="views/gallery", step=7, timestamp=123)
    theirs = sorted(Path(item.path).name for item in client.list_artifacts(run_id, "images"))
    write_picture(pixels(), tmp_path, "views/gallery", 7, 123)
    ours = sorted(path.name for path in (tmp_path / "images").iterdir())
    assert [parsed(name) for name in theirs] == [("views/gallery", 7)] * 2
    for own, other in zip(ours, theirs, strict=True):  # equal but for the random part
        assert own.split("+")[:5] == other.split("+")[:5] and own.split("+")[6:] == other.split("+")[6:]
        assert Path(own).suffix == Path(other).suffix


def test_pictures_of_every_kind(tmp_path):
    figure = Figure(figsize=(30, 2), dpi=100)
    figure.add_subplot().plot([1, 2])
    for number, (picture, width) in enumerate(
        [(pixels(), 40), (Image.new("RGBA", (3000, 90)), 1600), (np.zeros((5, 9), np.uint8), 9), (figure, 1600)]
    ):
        write_picture(picture, tmp_path / str(number), "a", 1, 1)
        (whole,) = (tmp_path / str(number) / "images").glob("*.png")
        (small,) = (tmp_path / str(number) / "images").glob("*+compressed.webp")
        assert Image.open(whole).width == width and max(Image.open(small).size) == min(width, 256)
    with pytest.raises(UserError, match="key"):
        write_picture(pixels(), tmp_path, "a#b", 1, 1)


@given(st.lists(st.integers(0, 10**9), unique=True, min_size=13, max_size=60))
def test_thinning_keeps_the_ends_and_spreads_the_rest(steps):
    kept = []
    for step in sorted(steps):
        kept.append(step)
        if (going := surplus(kept)) is not None:
            kept.remove(going)
    assert len(kept) == MOST_STEPS and kept[0] == min(steps) and kept[-1] == max(steps)


def test_even_steps_stay_evenly_spread():
    kept = []
    for step in range(1000):
        kept.append(step)
        if (going := surplus(kept)) is not None:
            kept.remove(going)
    gaps = np.diff(kept)
    assert gaps.max() <= 1000 / 3 and kept[0] == 0 and kept[-1] == 999


def test_a_run_keeps_few_pictures(project, client, caplog):
    with Run.start("exp", "x", folder=project) as run:
        for step in range(0, 1500, 100):
            run.log_image(pixels(), "views/gallery", step)
        for number in range(MOST_KEYS + 2):
            run.log_image(pixels(), f"other {number}", 5)
    assert run.unsent == 0
    found = pictures(client, run.run_id)
    steps = sorted(step for key, step in found if key == "views/gallery")
    assert len(steps) == MOST_STEPS and steps[0] == 0 and steps[-1] == 1400
    assert len({key for key, _ in found}) == MOST_KEYS and set(map(tuple, found.values())) == {(".png", ".webp")}
    assert "keeps pictures of 8 keys" in caplog.text
    assert client.get_run(run.run_id).data.tags["mlflow.loggedImages"] == "True"


def test_a_store_that_keeps_all_gets_no_more_pictures(project, client, caplog, monkeypatch):
    def denied(*_):
        raise PermissionError("not for you")

    monkeypatch.setattr("mlflow.store.artifact.local_artifact_repo.LocalArtifactRepository.delete_artifacts", denied)
    with Run.start("exp", "x", folder=project) as run:
        for step in range(15):
            run.log_image(pixels(), "a", step)
    assert run.unsent == 0 and len(pictures(client, run.run_id)) == MOST_STEPS
    assert caplog.text.count("does not let us remove") == 1


def test_a_restart_repeats_no_picture(project, client):
    run = Run.start("exp", "x", folder=project)
    for step in (1, 2):
        run.log_image(pixels(), "a", step)
    run.close(None)
    with Run.start("exp", "x", run.run_id, folder=project) as again:
        for step in (2, 3):
            again.log_image(pixels(seed=step), "a", step)
    assert pictures(client, run.run_id) == {("a", step): [".png", ".webp"] for step in (1, 2, 3)}


def test_pictures_of_a_server_are_thinned_too(project):
    with mlflow_server(project, free_port()) as uri:
        with Run.start("exp", "x", folder=project / "desk", uri=uri) as run:
            for step in range(14):
                run.log_image(pixels(), "a", step)
        assert run.unsent == 0 and len(pictures(MlflowClient(uri), run.run_id)) == MOST_STEPS


def test_a_table_is_read_as_mlflows_own(project, client, tmp_path):
    rows = [
        {"image": pixels(600, 300), "true": "cat", "score": 0.5},
        {"image": pixels(), "true": "dog", "score": float("nan")},
    ]
    with Run.start("exp", "x", folder=project) as run:
        run.log_table(rows, "tables/mistakes.json")
        run.log_table([{"a": 1}, {"b": 2}], "scores.json")
    got = client.get_run(run.run_id)
    mlflow.set_tracking_uri(f"sqlite:///{project}/mlflow.db")
    try:
        table = client.load_table(got.info.experiment_id, "tables/mistakes.json", [run.run_id])
    finally:
        mlflow.set_tracking_uri(None)
    assert list(table.columns) == ["image", "true", "score"] and list(table["true"]) == ["cat", "dog"]
    assert table["score"][0] == 0.5 and np.isnan(table["score"][1])
    cell = table["image"][0]
    where = Path(client.download_artifacts(run.run_id, "", str(tmp_path)))
    assert cell["type"] == "image"
    assert [Image.open(where / cell[name]).size for name in ("filepath", "compressed_filepath")] == [(256, 128)] * 2
    assert json.loads((where / "scores.json").read_text()) == {"columns": ["a", "b"], "data": [[1, None], [None, 2]]}
    listed = json.loads(got.data.tags["mlflow.loggedArtifacts"])
    assert [entry["path"] for entry in listed] == ["tables/mistakes.json", "scores.json"]


def test_a_table_has_whole_columns_of_pictures(tmp_path):
    with pytest.raises(UserError, match="pictures and other values"):
        write_table([{"a": pixels()}, {"a": 1}], tmp_path, "a.json")
    with pytest.raises(UserError, match="ends in"):
        write_table([], tmp_path, "a.csv")


def test_inputs_are_there_once_and_are_found_by_digest(project, client):
    train = DatasetUse("digits/train", "cd" * 32, str(project / "train"), 1437, 10, "training")
    run = Run.start("exp", "x", folder=project)
    run.log_inputs([train, TEST])
    run.close(None)
    with Run.start("exp", "x", run.run_id, folder=project) as again:
        again.log_inputs([train, TEST])
    got = client.get_run(run.run_id)
    shown = {entry.dataset.name: (entry.dataset, entry.tags[0].value) for entry in got.inputs.dataset_inputs}
    assert len(got.inputs.dataset_inputs) == 2 and shown["digits/train"][1] == "training"
    dataset, context = shown["digits/test"]
    assert context == "test" and dataset.digest == DIGEST[:32] and "secret" not in dataset.source
    assert json.loads(dataset.profile) == {"num_rows": 360, "n": 360, "classes": 10, "digest": DIGEST}
    found = client.search_runs([got.info.experiment_id], f"dataset.digest = '{DIGEST[:32]}'")
    assert [each.info.run_id for each in found] == [run.run_id]


def test_a_score_leads_to_model_and_data_set(project, client):
    """An evaluated checkpoint becomes a model's record, once; its scores are found by model and by data set."""
    training = Run.start("exp", "training", folder=project)
    training.close()
    model = ModelUse("feed", 6400, "s3://bucket/run/checkpoints/6400", training.run_id)
    for name, score in (("knn", 70.0), ("linear", 80.0)):
        with Run.start("exp", name, parent=training.run_id, folder=project) as run:
            run.log_inputs([TEST], [model])
            run.log_metrics({f"{name}/top1": score}, 6400, model, TEST)
    got = client.get_run(run.run_id)
    (used,) = got.inputs.model_inputs
    found = client.search_logged_models(
        [got.info.experiment_id],
        "metrics.`linear/top1` > 75",
        datasets=[{"dataset_name": TEST.name, "dataset_digest": TEST.short_digest}],
    )
    assert [each.model_id for each in found] == [used.model_id]
    assert found[0].tags["hardviews.address"] == model.address and found[0].source_run_id == training.run_id
    assert [each.step for each in client.get_run(training.run_id).outputs.model_outputs] == [6400]


def test_a_server_without_logged_models_gets_the_scores(project, client, monkeypatch):
    from mlflow.exceptions import MlflowException
    from mlflow.protos.databricks_pb2 import ENDPOINT_NOT_FOUND

    def absent(*_, **__):
        raise MlflowException("API request failed with error code 404 != 200", ENDPOINT_NOT_FOUND)

    monkeypatch.setattr(MlflowClient, "search_logged_models", absent)
    model = ModelUse("feed", 6400, "runs/1/checkpoints/6400")
    with Run.start("exp", "x", folder=project) as run:
        run.log_inputs([TEST], [model])
        run.log_metrics({"knn/top1": 70.0}, 6400, model, TEST)
    assert run.unsent == 0 and client.get_run(run.run_id).data.metrics == {"knn/top1": 70.0}


def test_infinite_numbers_are_left_out(project, client):
    with Run.start("exp", "x", folder=project) as run:
        run.log_metrics({"a": float("inf"), "b": 1}, 1)
        run.log_metrics({"a": float("-inf")}, 2)
    assert client.get_run(run.run_id).data.metrics == {"b": 1}


titles = st.text("ab c", min_size=1).map(str.strip).filter(bool)
bodies = st.lists(st.sampled_from(["text", "```\n### no title\n```", "| a | b |", "", "#### small"])).map("\n".join)


@given(st.lists(st.tuples(titles | st.just(notes.HEAD), bodies, st.booleans())))
def test_a_section_changes_no_other(writes):
    """Against a plain mapping: a section holds its last text, whatever came between."""
    note, expected = "", {}
    for title, body, first in writes:
        note = notes.with_section(note, title, body, first)
        expected[title] = body.strip()
    found = dict(notes._sections(note))
    assert {title: body for title, body in found.items() if body} == {t: b for t, b in expected.items() if b}
    for title, body in expected.items():
        assert notes.with_section(note, title, body) == note


def test_a_first_section_follows_the_verdict():
    note = notes.with_section(notes.with_section("", "Data", "d"), notes.HEAD, "ok")
    assert notes.with_section(note, "Scores", "s", first=True) == "ok\n\n### Scores\n\ns\n\n### Data\n\nd"


def test_a_note_is_kept_whole_and_without_secrets(project, client):
    with Run.start("exp", "x", folder=project) as run:
        run.set_note("https://u:secret@h/\n" + "a line of words\n" * 1000)
    note = client.get_run(run.run_id).data.tags["mlflow.note.content"]
    assert len(note) < 8000 and "secret" not in note and "left out" in note.splitlines()[-1]


def test_an_evaluation_adds_to_its_training_once(project, client):
    training = Run.start("exp", "training", folder=project)
    training.set_section(notes.HEAD, "**ok**")
    training.set_section("Settings", "as the recipe")
    training.close()
    for _ in range(2):  # the second life repeats the first
        with Run.start("exp", "knn", parent=training.run_id, folder=project, key="job 1") as run:
            parent = run.other(training.run_id)
            parent.log_metrics({"eval/knn_top1": 70.0, "bad": float("nan")}, 6400)
            parent.set_tags({"hardviews.verdict": "ok", "aws_secret": "x"})
            parent.set_section("Scores", "| knn | 70.0 |", first=True)
        assert run.unsent == 0
    got = client.get_run(training.run_id)
    assert [(m.step, m.value) for m in client.get_metric_history(training.run_id, "eval/knn_top1")] == [(6400, 70.0)]
    assert got.data.metrics == {"eval/knn_top1": 70.0} and got.data.tags["aws_secret"] == "***"
    note = "**ok**\n\n### Scores\n\n| knn | 70.0 |\n\n### Settings\n\nas the recipe"
    assert got.data.tags["mlflow.note.content"] == note
    # An earlier checkpoint, evaluated later, has its point too; and the whole note can be written anew.
    with Run.start("exp", "knn", parent=training.run_id, folder=project) as run:
        run.other(training.run_id).log_metrics({"eval/knn_top1": 60.0}, 3200)
        run.other(training.run_id).set_note("new")
    assert len(client.get_metric_history(training.run_id, "eval/knn_top1")) == 2
    assert client.get_run(training.run_id).data.tags["mlflow.note.content"] == "new"


def test_additions_to_a_run_that_is_gone_hold_nothing_up(project, client, caplog):
    with Run.start("exp", "x", folder=project) as run:
        run.other("0" * 32).set_tags({"a": "b"})
        run.log_metrics({"loss": 1.0}, 1)
    assert client.get_run(run.run_id).data.metrics == {"loss": 1.0}
    assert "other record was refused" in caplog.text


def test_other_ranks_log_nothing(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run = NullRun("abc")
    run.log_image(pixels(), "a", 1)
    run.log_table([{"a": 1}], "a.json")
    run.log_inputs([TEST])
    run.log_metrics({"a": 1}, 1, ModelUse("feed", 1, "x"), TEST)
    run.set_note("a")
    run.set_section("a", "b")
    run.other("0").set_section("a", "b")
    assert list(tmp_path.iterdir()) == []


def test_a_picture_that_comes_too_late_leaves_nothing(project, client, caplog):
    """A thread may still draw when the run is closed."""
    run = Run.start("exp", "x", folder=project)
    run.close()
    run.log_image(pixels(), "a", 1)
    assert "left out" in caplog.text and list((project / "spool").iterdir()) == []
