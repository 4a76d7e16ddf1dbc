"""`hardviews classify`: the scores of a classifier, against numpy; whatever the order of the classes."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from hardviews.cli import main
from hardviews.data.folder import image_folder
from hardviews.data.index import Index
from hardviews.data.joined import renumbered
from hardviews.data.pack import pack
from hardviews.data.reader import Reader
from hardviews.errors import UserError
from hardviews.evaluation.features.preprocess import Preprocess
from hardviews.evaluation.mistakes import CONFUSIONS, MISTAKES
from hardviews.evaluation.per_class import CLASSES, per_class
from hardviews.evaluation.probes.classify import Classify, evaluate_classify
from hardviews.models.classifier import Classifier
from hardviews.models.encoder import Encoder, save
from hardviews.tracking.mlflow_run import Run
from tests.evaluation.test_calibration import brute_force
from tests.evaluation.test_evaluate import data, encoder, make_images

__all__ = ["data", "encoder"]

NAMES = ("red", "pink", "blue", "grey", "green", "teal")


@pytest.fixture
def classified(project, tmp_path, encoder) -> tuple[str, str, Encoder]:
    """The output of a training with a classifier of six classes, the id of its run, and its encoder."""
    with Run.start("exp", "pretrain", folder=project) as run:
        pass
    weight_LD = torch.randn(len(NAMES), encoder.num_features, generator=torch.Generator().manual_seed(5))
    encoder.provenance = {"run_id": run.run_id, "samples": 640}
    encoder.classifier = Classifier(weight_LD, torch.linspace(-0.1, 0.1, len(NAMES)), NAMES)
    save(encoder, tmp_path / "output" / "encoder")
    return str(tmp_path / "output"), run.run_id, encoder


def computed(encoder: Encoder, url: str) -> dict[str, float]:
    """Return the metrics by numpy, in double precision."""
    index = Index.load(url)
    reader = Reader(index)
    images = [Preprocess(16, 16)(sample.data) for sample in reader.read(range(len(index)))]
    reader.close()
    features = encoder.eval().embed(torch.stack(images)).double().numpy()
    head = encoder.classifier
    assert head is not None
    logits = features @ head.weight_LD.double().numpy().T + head.bias_L.double().numpy()
    labels = np.array([head.names.index(index.classes[label]) for label in index.labels])
    shares = np.exp(logits - logits.max(1, keepdims=True))
    shares /= shares.sum(1, keepdims=True)
    order = np.argsort(-logits, axis=1)
    right = order[:, 0] == labels
    return {
        "classify/top1": 100 * right.mean(),
        "classify/top5": 100 * (order[:, :5] == labels[:, None]).any(1).mean(),
        "classify/mean_class": 100 * np.mean([right[labels == label].mean() for label in set(labels)]),
        "classify/ece": brute_force(list(zip(shares.max(1).tolist(), right.tolist(), strict=True))),
        "classify/nll": -np.log(shares[np.arange(len(labels)), labels]).mean(),
    }


def test_scores_are_those_of_numpy_and_a_child_of_the_trainings_run(data, project, client, classified, tmp_path):
    output, parent, encoder = classified
    result = evaluate_classify(Classify(output, data=str(data), project=str(project), device="cpu", overlap="off"))
    wanted = computed(encoder, f"{data}/test")
    assert 0 < wanted["classify/top1"] < 100
    assert result.metrics == {"pretrained": pytest.approx(wanted, rel=1e-4)}
    assert result.remarks[0].startswith(f"Top-1 is {wanted['classify/top1']:.1f} %, with a 95 % interval of ")
    assert result.remarks[1] == "The data have 3 of the 6 classes; images are scored among all 6."
    assert f"Expected calibration error {wanted['classify/ece']:.2f} % (15 bins)" in result.remarks[2]
    run = client.get_run(result.run_id)
    assert run.info.status == "FINISHED" and run.info.run_name == f"classify {data.name}/test"
    assert run.data.tags["mlflow.parentRunId"] == parent
    assert run.data.tags["hardviews.classifier"] == encoder.classifier.digest
    assert run.data.metrics == pytest.approx(result.metrics["pretrained"])
    above = client.get_run(parent).data
    assert above.metrics["eval/classify_top1"] == pytest.approx(wanted["classify/top1"])
    assert f"classify on {data.name}/test" in above.tags["mlflow.note.content"]
    used = {one.tags[0].value: one.dataset.name for one in run.inputs.dataset_inputs}
    assert used == {"test": f"{data.name}/test"} and len(run.inputs.model_inputs) == 1
    assert [item.path for item in client.list_artifacts(result.run_id, "figures")] == ["figures/classify_confusion.png"]
    got = Path(client.download_artifacts(result.run_id, "", str(tmp_path)))
    rows = {path: json.loads((got / path).read_text()) for path in (CLASSES, MISTAKES, CONFUSIONS)}
    assert [row[0] for row in rows[CLASSES]["data"]] == ["red", "blue", "green"]  # in the classifier's order
    assert np.mean([row[2] for row in rows[CLASSES]["data"]]) == pytest.approx(wanted["classify/mean_class"], abs=0.01)
    true = rows[MISTAKES]["columns"].index("true")
    assert {row[true] for row in rows[MISTAKES]["data"]} <= {"red", "blue", "green"}
    assert len(rows[MISTAKES]["data"]) == round(18 * (1 - wanted["classify/top1"] / 100))


def test_another_order_of_the_classes_and_other_forms_give_the_same_scores(data, project, classified, tmp_path):
    images = str(data / "images" / "test")
    for number, order in enumerate((("red", "blue", "green"), ("green", "red", "blue"))):
        pack(renumbered(image_folder(images), order), str(tmp_path / f"order{number}"))
        assert Index.load(str(tmp_path / f"order{number}")).classes == order
    options = {"run": classified[0], "project": str(project), "device": "cpu", "overlap": "off"}
    sets = [{"data": str(data)}, {"data": f"{data}/train"}, {"data": f"{tmp_path}/order0"}, {"test": images}]
    sets += [{"test": f"{tmp_path}/order1"}]
    first, *others = (evaluate_classify(Classify(**options, **given)).metrics for given in sets)
    for found in others:
        assert found == {"pretrained": pytest.approx(first["pretrained"], rel=1e-12)}


def test_the_command_prints_the_scores_and_runs_can_be_compared(data, project, classified, tmp_path, capsys):
    output, _, encoder = classified
    with Run.start("exp", "pretrain", folder=project) as run:
        run.log_params({"recipe": "other"})
    encoder.provenance = {"run_id": run.run_id, "samples": 640}
    encoder.classifier = Classifier(-encoder.classifier.weight_LD, encoder.classifier.bias_L, NAMES)
    save(encoder, tmp_path / "second" / "encoder")
    for place in (output, str(tmp_path / "second")):
        main(["classify", "--run", place, "--data", str(data), "--project", str(project), "--device", "cpu"])
    said = capsys.readouterr().out
    assert "Test accuracy of the classifier (%)" in said and "Classes" in said and "most often mistaken for" in said
    assert "note: Expected calibration error" in said
    parents = [
        json.loads((Path(p) / "encoder" / "encoder.json").read_text())["provenance"]["run_id"]
        for p in (output, tmp_path / "second")
    ]
    main(["compare", *parents, "--project", str(project)])
    assert f"classify {data.name}/test: top-1 on 18 test images" in capsys.readouterr().out


def test_training_images_in_the_data_are_counted(data, project, client, classified):
    output = classified[0]
    (Path(output) / "run.json").write_text(
        json.dumps({"run_id": "", "recipe": "r", "settings": {}, "dataset": "d", "data": f"{data}/train"})
    )
    options = {"project": str(project), "device": "cpu", "overlap": "bytes"}
    result = evaluate_classify(Classify(output, test=f"{data}/train", **options))
    assert "60 of 60 test images are copies of an image in the pretraining data." in result.remarks
    assert client.get_run(result.run_id).data.metrics["overlap/pretrain_test"] == 60


def test_mistakes_are_reported_before_anything_is_computed(data, project, classified, tmp_path, monkeypatch):
    output = classified[0]
    make_images(tmp_path / "other", 2, 9, ("blue", "mauve"))
    pack(image_folder(str(tmp_path / "other")), str(tmp_path / "other_packed"))
    (tmp_path / "other" / "blue").rename(tmp_path / "flat")
    pack(image_folder(str(tmp_path / "flat")), str(tmp_path / "unlabelled"))
    shutil.copytree(tmp_path / "output", tmp_path / "copied")
    (tmp_path / "copied" / "encoder" / "classifier.safetensors").unlink()
    cases = [
        ({}, "no data given"),
        ({"data": str(data), "run": f"{tmp_path}/copied"}, "has no classifier.*hardviews linear --run .*copied --data"),
        ({"data": str(data), "run": None, "encoder": "timm:resnet10t"}, "hardviews linear --encoder timm:resnet10t"),
        ({"data": f"{tmp_path}/other_packed"}, "does not know 1 of the 2 classes .*: mauve. It knows red, pink"),
        ({"data": f"{tmp_path}/unlabelled"}, "needs labels"),
        ({"data": f"{tmp_path}/nothing"}, "no packed dataset"),
        ({"data": str(data), "crop": 0}, "crop"),
    ]
    monkeypatch.setattr(Run, "start", lambda *_, **__: pytest.fail("a run was opened"))
    for options, words in cases:
        with pytest.raises(UserError, match=words):
            evaluate_classify(Classify(**{"run": output, "project": str(project), "device": "cpu", **options}))


def test_each_class_has_its_most_frequent_mistake() -> None:
    labels = torch.tensor([0, 0, 0, 0, 2, 2, 3])
    predictions = torch.tensor([0, 3, 3, 1, 1, 2, 3])
    found = [
        (one.name, one.images, one.accuracy, one.mistaken_for, one.share)
        for one in per_class(predictions, labels, ("a", "b", "c", "d"))
    ]
    assert found == [("a", 4, 25, "d", 50), ("c", 2, 50, "b", 50), ("d", 1, 100, "", 0)]
