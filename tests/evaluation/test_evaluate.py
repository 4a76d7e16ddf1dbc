import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from rich.console import Console

from hardviews.cli import main
from hardviews.data.folder import image_folder
from hardviews.data.pack import pack
from hardviews.errors import UserError
from hardviews.evaluation.probe import top
from hardviews.evaluation.probes.knn import Knn, evaluate_knn
from hardviews.evaluation.probes.linear import Linear, evaluate_linear
from hardviews.evaluation.report import announce, check_logged, table
from hardviews.models.backbones import Backbone
from hardviews.models.encoder import Encoder, save
from hardviews.runs.checkpoint import Checkpoints
from hardviews.runs.manifest import Progress
from hardviews.tracking.mlflow_run import Run
from hardviews.views.augmentation import Normalisation

CLASSES = ("blue", "green", "red")


def make_images(folder, n, seed, classes=CLASSES):
    """Noisy images, one colour a class."""
    rng = np.random.default_rng(seed)
    for c, name in enumerate(classes):
        (folder / name).mkdir(parents=True)
        for i in range(n):
            pixels = rng.integers(0, 160, (20, 24, 3))
            pixels[..., 2 - c % 3] += 90
            Image.fromarray(pixels.astype(np.uint8)).save(folder / name / f"{seed}_{i}.png")


@pytest.fixture(scope="session")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    for seed, (part, n) in enumerate({"train": 20, "test": 6}.items()):
        make_images(folder / "images" / part, n, seed)
        pack(image_folder(str(folder / "images" / part)), str(folder / part))
    return folder


@pytest.fixture
def encoder():
    torch.manual_seed(0)
    return Encoder(Backbone("resnet10t", small_stem=True), Normalisation(), None, 16)


@pytest.fixture
def pretrained(project, tmp_path, encoder):
    """The output folder of a pretraining job and the id of its run."""
    with Run.start("exp", "pretrain", folder=project) as run:
        pass
    encoder.provenance = {"run_id": run.run_id, "samples": 640}
    save(encoder, tmp_path / "output" / "encoder")
    return str(tmp_path / "output"), run.run_id


def test_both_protocols_with_baselines_are_children_of_the_pretraining_run(data, project, client, pretrained, encoder):
    output, parent = pretrained
    options = {"data": str(data), "baselines": True, "project": str(project), "device": "cpu"}
    results = [evaluate_knn(Knn(output, **options)), evaluate_linear(Linear(output, **options))]
    for result, metric in zip(results, ("knn/top1_k20", "linear/top1"), strict=True):
        assert list(result.metrics) == ["pixels", "untrained", "pretrained"]
        assert result.metrics["pixels"][metric] > 90
        run = client.get_run(result.run_id)
        assert run.info.status == "FINISHED" and run.info.run_name == f"{result.name} {data.name}/test"
        assert run.data.tags["mlflow.parentRunId"] == parent
        assert run.data.tags["hardviews.encoder"] == result.digest == encoder.digest
        assert run.data.metrics[metric] == pytest.approx(result.metrics["pretrained"][metric])
        assert run.data.metrics[f"pixels/{metric}"] == pytest.approx(result.metrics["pixels"][metric])
        assert [m.step for m in client.get_metric_history(result.run_id, metric)] == [640]
        assert run.data.params["device"] == "cpu" and run.data.params["data"] == str(data)
        above = client.get_run(parent).data
        assert above.metrics[f"eval/{result.name}_top1"] == pytest.approx(
            result.metrics["pretrained"][f"{result.name}/top1"]
        )
        assert f"{result.name} on {data.name}/test" in above.tags["mlflow.note.content"]
        assert (
            "| raw pixels |" in above.tags["mlflow.note.content"]
            and "| chance | 33.3 |" in above.tags["mlflow.note.content"]
        )
        inputs = client.get_run(result.run_id).inputs
        assert "| raw pixels |" in run.data.tags["mlflow.note.content"]
        assert run.data.tags["mlflow.source.name"] == f"hardviews {result.name}"
        used = {one.tags[0].value: one.dataset for one in inputs.dataset_inputs}
        assert {context: one.name for context, one in used.items()} == {
            "training": f"{data.name}/train",
            "validation": f"{data.name}/train held out",
            "test": f"{data.name}/test",
        }
        assert json.loads(used["validation"].profile)["n"] == 6, "two of each class"
        assert len(inputs.model_inputs) == 1
        peeked = "linear/peek_best_top1" in run.data.metrics
        assert peeked == (result.name == "linear") and "linear/peek_best_top1" not in result.metrics["pretrained"]
        assert [item.path for item in client.list_artifacts(result.run_id, "splits")] == ["splits/held_out.txt"]
        figures = client.list_artifacts(result.run_id, "figures")
        assert [item.path for item in figures] == [f"figures/{result.name}_confusion.png"]
    # k is cut to the 60 training samples.
    found = [name for name in results[0].metrics["pretrained"] if "top1_k" in name]
    assert found == ["knn/top1_k10", "knn/top1_k20", "knn/top1_k60"]
    console = Console(width=80, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    console.print(table(results))
    text = console.export_text()
    for word in ("raw pixels", "untrained encoder", "pretrained encoder"):
        assert word in text
    head = next(i for i, line in enumerate(text.splitlines()) if "features" in line and "k=60" in line)
    above, below = (text.splitlines()[i].split() for i in (head - 1, head))
    # The number of classes is below 5, and the held-out images are not a test: neither has a column.
    assert above == ["k-NN"] * 4 + ["linear"] and below == ["features", "top-1", "k=10", "k=20", "k=60", "top-1"]
    rows = [line for line in text.splitlines() if "raw pixels" in line]
    assert f"{results[0].metrics['pixels']['knn/top1_k20']:.1f}" in rows[0]


def test_from_a_score_one_reaches_encoder_data_recipe_and_commit(data, project, client, tmp_path, encoder):
    """By model and data set the score is found, and both lead to their origin."""
    with Run.start("exp", "pretrain", folder=project) as run:
        pass
    origin = {"recipe": "digits", "commit": "c0ffee", "data": "d" * 64}
    encoder.provenance = {"run_id": run.run_id, "samples": 640, **origin}
    save(encoder, tmp_path / "output" / "encoder")
    config = Knn(str(tmp_path / "output"), data=str(data), project=str(project), device="cpu")
    result = evaluate_knn(config)
    got = client.get_run(result.run_id)
    test = next(one.dataset for one in got.inputs.dataset_inputs if one.tags[0].value == "test")
    (model,) = client.search_logged_models(
        [got.info.experiment_id],
        "metrics.`knn/top1` > 0",
        datasets=[{"dataset_name": test.name, "dataset_digest": test.digest}],
    )
    assert model.model_id == got.inputs.model_inputs[0].model_id and model.source_run_id == run.run_id
    assert model.tags["digest"] == encoder.digest and model.tags["hardviews.address"] == config.place
    expected = {"samples": "640", "backbone": "resnet10t", "image_size": "16", **origin}
    assert model.params == expected
    tags = got.data.tags
    assert tags["hardviews.recipe"] == "digits" and tags["hardviews.commit"] == "c0ffee"
    assert (
        tags["hardviews.dataset"] == "d" * 64 and tags["hardviews.dataset.test"] == json.loads(test.profile)["digest"]
    )
    # A baseline's score is none of the model.
    assert {metric.key for metric in model.metrics} >= {"knn/top1", "knn/top1_k20"}
    assert not [metric.key for metric in model.metrics if metric.key.startswith(("pixels/", "untrained/"))]
    assert "pixels/knn/top1" in got.data.metrics


def test_same_seed_same_numbers(data, project, pretrained):
    config = Linear(pretrained[0], data=str(data), project=str(project), device="cpu", workers=3, batch_size=7)
    first = evaluate_linear(config)
    assert evaluate_linear(config).metrics == first.metrics


def test_an_encoder_without_its_run_is_evaluated_as_a_run_of_its_own(data, project, client, tmp_path, encoder, caplog):
    encoder.provenance = {"run_id": "0" * 32}
    save(encoder, tmp_path)
    result = evaluate_knn(Knn(str(tmp_path), data=str(data), project=str(project), device="cpu"))
    tags = client.get_run(result.run_id).data.tags
    assert "mlflow.parentRunId" not in tags and tags["hardviews.pretraining_run"] == "0" * 32
    assert "run of its own" in caplog.text


def test_a_weight_that_moves_is_noticed(data, project, pretrained, monkeypatch):
    def moving(self, images):
        with torch.no_grad():
            next(self.parameters()).add_(1e-3)
        return torch.rand(len(images), 4)

    monkeypatch.setattr(Encoder, "embed", moving)
    with pytest.raises(RuntimeError, match="moved"):
        evaluate_knn(Knn(pretrained[0], data=str(data), project=str(project), device="cpu", baselines=False))


def test_mistakes_are_reported_before_anything_is_computed(data, project, pretrained, tmp_path, monkeypatch):
    output = pretrained[0]
    make_images(tmp_path / "other", 2, 9, ("blue", "green", "pink"))
    pack(image_folder(str(tmp_path / "other")), str(tmp_path / "other_packed"))
    flat = tmp_path / "flat"
    make_images(tmp_path / "nested", 2, 9, ("one",))
    (tmp_path / "nested" / "one").rename(flat)
    pack(image_folder(str(flat)), str(tmp_path / "unlabelled"))
    pack(image_folder(str(flat)), str(tmp_path / "alone" / "train"))
    for part, seed in (("train", 3), ("test", 4)):
        make_images(tmp_path / f"one_{part}", 3, seed, ("cat",))
        pack(image_folder(str(tmp_path / f"one_{part}")), str(tmp_path / "one" / part))
    train, test = f"{data}/train", f"{data}/test"
    cases = [
        ({"data": f"{tmp_path}/alone"}, "needs labels"),
        ({"data": f"{tmp_path}/one"}, "one class, cat. Accuracy would measure nothing"),
        ({"data": f"{tmp_path}/unlabelled"}, "--data .*unlabelled is a packed dataset itself.*--train and --test"),
        ({}, "no train data"),
        ({"train": train}, "no test data"),
        ({"train": train, "test": f"{tmp_path}/other_packed"}, "same classes"),
        ({"train": train, "test": train}, "same dataset"),
        ({"train": f"{tmp_path}/unlabelled", "test": test}, "needs labels"),
        ({"train": train, "test": f"{tmp_path}/none"}, "no packed dataset"),
        ({"data": str(data), "run": str(tmp_path / "nothing")}, "no encoder"),
        ({"data": str(data), "crop": 0, "resize": 8}, "crop"),
        ({"data": str(data), "project": "/sys/nowhere"}, "--project: /sys/nowhere cannot be written: /sys is not"),
        ({"data": str(data), "project": f"{data}/train/index.json/project"}, "--project.*index.json is not a folder"),
    ]
    if not torch.cuda.is_available():
        cases.append(({"data": str(data), "device": "cuda"}, "no GPU"))
    monkeypatch.setattr(Run, "start", lambda *_, **__: pytest.fail("a run was opened"))
    for options, words in cases:
        with pytest.raises(UserError, match=words):
            evaluate_knn(Knn(**{"run": output, "project": str(project), **options}))
        if "one" in str(options):
            with pytest.raises(UserError, match=words):
                evaluate_linear(Linear(output, project=str(project), **options))


def test_the_data_is_the_folder_of_the_parts_or_its_part_for_training(data, monkeypatch):
    expected = (f"{data}/train", f"{data}/test")
    for given in (data, f"{data}/", f"{data}/train", f"{data}/train/"):
        assert Knn("run", data=str(given)).located().urls() == expected
    monkeypatch.chdir(data)
    assert Knn("run", data="train").located().urls() == ("./train", "./test")
    assert Knn("run", data="train", train="a", test="b").located().urls() == ("a", "b")
    assert Knn("run", data="nothing/train").located().urls() == ("nothing/train/train", "nothing/train/test")


@pytest.mark.parametrize("evaluation", [Knn, Linear])
def test_a_crop_that_fits_no_patch_is_reported_before_images_are_read(evaluation, data, project, tmp_path, monkeypatch):
    vit = Encoder(Backbone("test_vit", small_stem=True, image_size=16), Normalisation(), None, 16)
    save(vit, tmp_path / "vit")
    run = {"run": str(tmp_path / "vit"), "data": str(data), "project": str(project), "device": "cpu"}
    evaluate = evaluate_knn if evaluation is Knn else evaluate_linear
    with monkeypatch.context() as patch:
        patch.setattr(Run, "start", lambda *_, **__: pytest.fail("a run was opened"))
        with pytest.raises(UserError, match=r"test_vit cannot take a crop of 30 pixels \(Input height") as refusal:
            evaluate(evaluation(**run, crop=30))
    assert "\n" not in str(refusal.value) and "then it is 16" in str(refusal.value)
    assert evaluate(evaluation(**run, crop=20)).metrics["pretrained"]


def test_top_counts_the_label_among_the_best():
    scores = torch.tensor([[0.1, 0.5, 0.4], [0.9, 0.05, 0.05], [0.2, 0.3, 0.5]])
    labels = torch.tensor([2, 0, 0])
    assert top(1, scores, labels) == pytest.approx(100 / 3)
    assert top(2, scores, labels) == pytest.approx(200 / 3)
    assert top(5, scores, labels) == 100


def test_the_checkpoint_that_the_encoder_came_from_is_named(data, project, client, pretrained):
    output, run_id = pretrained
    checkpoints = Checkpoints(output)
    for step, samples in ((10, 320), (20, 640)):
        progress = Progress(step, samples, run_id, "recipe", "dataset", 1)
        checkpoints.save({"x": torch.zeros(3)}, progress)
    result = evaluate_knn(Knn(output, data=str(data), project=str(project), device="cpu"))
    tags = client.get_run(result.run_id).data.tags
    assert tags["hardviews.checkpoint"] == "step-00000020"
    manifest = Path(output, "checkpoints", "step-00000020", "manifest.json").read_bytes()
    assert tags["hardviews.checkpoint.digest"] == hashlib.sha256(manifest).hexdigest()


def test_a_figure_that_fails_costs_no_score(data, project, client, pretrained, monkeypatch, caplog, capsys):
    def failing(*_):
        assert "k=20" in capsys.readouterr().out  # the scores were printed before
        raise ValueError("no such figure")

    monkeypatch.setattr("hardviews.tracking.figures.confusion_matrix", failing)
    config = Knn(pretrained[0], data=str(data), project=str(project), device="cpu", baselines=False, overlap="off")
    result = evaluate_knn(config, announce)
    assert "figures/knn_confusion.png is left out (ValueError: no such figure)" in caplog.text
    run = client.get_run(result.run_id)
    assert run.info.status == "FINISHED" and run.data.metrics == pytest.approx(result.metrics["pretrained"])
    check_logged([result])


def test_scores_whose_figure_is_not_stored_are_printed_and_the_end_says_so(data, project, client, pretrained, capsys):
    experiment = client.get_run(pretrained[1]).info.experiment_id
    folder = Path(client.get_experiment(experiment).artifact_location.removeprefix("file://"))
    folder.parent.mkdir(exist_ok=True)
    folder.write_text("in the way")
    words = ["knn", "--run", pretrained[0], "--data", str(data), "--project", str(project), "--device", "cpu"]
    with pytest.raises(SystemExit) as end:
        main(words)
    said = capsys.readouterr()
    assert end.value.code == 2 and "k=20" in said.out
    assert "not all in the tracking store" in said.err and "hardviews runs --send --project" in said.err
    newest = client.search_runs([experiment], order_by=["start_time DESC"])[0]
    assert newest.info.status == "FINISHED" and "knn/top1_k20" in newest.data.metrics


def test_classes_of_any_name_are_evaluated(project, client, pretrained, tmp_path):
    odd = ("$1_$5", "$\\frac$", "x\udce9")
    for seed, part in enumerate(("train", "test")):
        make_images(tmp_path / part, 3, seed, odd)
        pack(image_folder(str(tmp_path / part)), str(tmp_path / "shards" / part))
    config = Knn(pretrained[0], data=str(tmp_path / "shards"), project=str(project), device="cpu")
    result = evaluate_knn(config)
    assert [item.path for item in client.list_artifacts(result.run_id, "figures")] == ["figures/knn_confusion.png"]


def test_copies_in_the_test_set_are_counted_and_left_out_of_a_second_accuracy(
    data, project, client, pretrained, tmp_path
):
    make_images(tmp_path / "images" / "test", 6, 1)
    for name in CLASSES:
        source = next((data / "images" / "train" / name).iterdir())
        (tmp_path / "images" / "test" / name / "copy.png").write_bytes(source.read_bytes())
    pack(image_folder(str(tmp_path / "images" / "test")), str(tmp_path / "test"))
    places = {"train": f"{data}/train", "test": f"{tmp_path}/test", "project": str(project)}
    (tmp_path / "images" / "test" / CLASSES[0] / "broken.png").write_bytes(b"no image")
    pack(image_folder(str(tmp_path / "images" / "test")), str(tmp_path / "again"))
    result = evaluate_knn(Knn(pretrained[0], device="cpu", overlap="bytes", **places | {"test": f"{tmp_path}/again"}))
    assert "3 of 21 test images are copies of an image in the training set." in result.remarks
    assert any("of the test part that could not be read: 1, left out" in remark for remark in result.remarks)
    found = client.get_run(result.run_id).data.metrics
    assert found["overlap/train_test"] == 3
    for prefix in ("", "pixels/", "untrained/"):  # each row of the table has it, so that they can be compared
        assert 0 <= found[f"{prefix}knn/top1_without_copies"] <= 100
    assert result.headings["knn/top1_without_copies"] == "without\ncopies"
