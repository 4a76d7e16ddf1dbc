"""Evaluations of images that may have several classes: scores, records, and refusals."""

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression

from hardviews.cli import main
from hardviews.data.pack_command import Packing
from hardviews.errors import UserError
from hardviews.evaluation.average_precision import eleven_point, mean_precision
from hardviews.evaluation.compare import Compare, run_compare
from hardviews.evaluation.features.extract import Features
from hardviews.evaluation.held_out import held_out
from hardviews.evaluation.probe import Task
from hardviews.evaluation.probes.fewshot import Fewshot, evaluate_fewshot
from hardviews.evaluation.probes.knn import Knn, evaluate_knn, fit_knn, votes
from hardviews.evaluation.probes.linear import Linear, evaluate_linear
from hardviews.evaluation.probes.transfer import Transfer, fit_transfer, run_transfer
from hardviews.models.backbones import Backbone
from hardviews.models.encoder import Encoder, save
from hardviews.tracking.mlflow_run import Run
from hardviews.views.augmentation import Normalisation
from hardviews.world import ALONE
from tests.data.layouts import colours, voc
from tests.evaluation.test_svm import multi

NAMES = ("person", "car", "dog")
HERE = {"device": "cpu", "baselines": False, "overlap": "off"}


def images(count, seed):
    """Which objects are in an image: sometimes none, sometimes one that is difficult."""
    random = np.random.default_rng(seed)
    return [{name: [int(random.random() < 0.15)] for name in NAMES if random.random() < 0.4} for _ in range(count)]


@pytest.fixture
def archives(tmp_path):
    return voc(tmp_path / "archives", {"trainval": images(60, 0), "test": images(30, 1)})


@pytest.fixture
def pretrained(project, tmp_path):
    torch.manual_seed(0)
    encoder = Encoder(Backbone("resnet10t", small_stem=True), Normalisation(), None, 16)
    with Run.start("hardviews", "pretrain", folder=project) as run:
        encoder.provenance = {"run_id": run.run_id, "samples": 64}
    save(encoder, tmp_path / "output")
    return str(tmp_path / "output"), run.run_id


def task_of(train, held):
    return Task(train, held, 3, ALONE, [str(number) for number in range(len(train))])


def test_neighbours_vote_for_all_of_their_classes():
    random = torch.Generator().manual_seed(0)
    similarity = torch.rand(5, 4, generator=random, dtype=torch.double).sort(descending=True).values
    present = torch.rand(5, 4, 3, generator=random) < 0.4
    for k in (1, 3, 4):
        expected = np.zeros((5, 3))
        for m in range(5):
            for place in range(k):
                weight = np.exp((float(similarity[m, place]) - float(similarity[m, 0])) / 0.07)
                expected[m] += weight * present[m, place].numpy()
        np.testing.assert_allclose(votes(similarity, present, k, 0.07, 3).numpy(), expected, rtol=1e-5)
    # Of one class each, votes are those of the classes.
    labels = torch.randint(3, (5, 4), generator=random)
    rows = torch.nn.functional.one_hot(labels, 3).bool()
    torch.testing.assert_close(votes(similarity, rows, 3, 0.07, 3), votes(similarity, labels, 3, 0.07, 3))


def test_transfer_solves_each_class_against_the_rest_without_its_ignored_images():
    train, test = multi(150), multi(60, seed=1)
    held = torch.arange(150) % 5 == 0
    weights = (30.0, 1.0, 0.03)
    fitted = fit_transfer(Transfer("run", sets=("x",), weights_l2=weights), task_of(train, held))

    def sklearn(weight, rows, on):
        columns = []
        for number in range(3):
            judged = rows & (train.sets_NL[:, number] != -1)
            machine = LogisticRegression(C=1 / weight, max_iter=50000, tol=1e-10)
            machine.fit(train.values_ND[judged].double(), train.sets_NL[judged, number])
            columns.append(machine.decision_function(on.values_ND.double()))
        return torch.from_numpy(np.stack(columns, 1))

    held_rows = train.rows(held)
    precision = {
        weight: mean_precision(eleven_point, sklearn(weight, ~held, held_rows), held_rows.sets_NL) for weight in weights
    }
    assert precision[fitted.choice.settings["l2"]] == max(precision.values())
    assert fitted.choice.held_out_top1 == pytest.approx(max(precision.values()))
    every = torch.ones(150, dtype=torch.bool)
    expected = sklearn(fitted.choice.settings["l2"], every, test)
    torch.testing.assert_close(fitted.predict(test)[""], expected, rtol=1e-4, atol=1e-4)


def test_neighbours_are_chosen_by_the_precision_on_the_held_out_images():
    train = multi(150)
    fitted = fit_knn(Knn("run", neighbours=(1, 5, 20)), task_of(train, torch.arange(150) % 5 == 0))
    scores = fitted.predict(multi(60, seed=1))
    assert fitted.choice.settings["k"] > 1 and set(scores) == {"", "k1", "k5", "k20"} and scores[""].shape == (60, 3)


def test_a_part_is_held_out_of_all_images_together(archives, tmp_path):
    index = Packing(str(archives), str(tmp_path / "out"), torchvision="VOCDetection").run()["train"]
    assert held_out(index).sum() == 6
    assert held_out(index, seed=1).tolist() != held_out(index).tolist()


def test_every_protocol_has_its_published_precision(archives, project, client, pretrained, capsys):
    output, parent = pretrained
    data = f"torchvision:VOCDetection?root={archives}"
    where = {**HERE, "project": str(project), "data": data}
    shots = {"shots": (1, 2), "draws": 2, "costs": (0.1, 1.0), "full": True}
    results = [
        evaluate_knn(Knn(output, **where)),
        evaluate_fewshot(Fewshot(output, classifier="svm", **shots, **where)),
        *run_transfer(Transfer(output, sets=(data,), weights_l2=(1.0,), **HERE, project=str(project))).values(),
    ]
    heads = ["knn/map", "fewshot/map", "transfer/map11"]
    on_parent = client.get_run(parent).data
    for result, head in zip(results, heads, strict=True):
        metrics = client.get_run(result.run_id).data.metrics
        assert metrics[head] == pytest.approx(result.metrics["pretrained"][head]) and 0 < metrics[head] <= 100
        assert head in result.headings and not any("top1" in name for name in metrics)
        assert client.list_artifacts(result.run_id, "figures") == []
    assert {"eval/knn_map", "eval/fewshot_map", "eval/transfer_VOCDetection_map11"} <= on_parent.metrics.keys()
    assert "Mean average precision in per cent on 30 test images" in on_parent.tags["mlflow.note.content"]
    svm = client.get_run(results[1].run_id).data.metrics
    assert {"fewshot/map_full", "fewshot/map_k2_std", "fewshot/peek_map_k2", "fewshot/choice_cost_full"} <= svm.keys()
    said = capsys.readouterr().out
    assert "11-point mAP" in said
    with pytest.raises(UserError, match="is on images that may have several classes each"):
        run_compare(Compare((results[0].run_id, results[0].run_id), project=str(project)))


def test_commands_that_do_not_take_them_refuse_before_anything_is_computed(archives, project, pretrained, monkeypatch):
    where = {**HERE, "project": str(project), "data": f"torchvision:VOCDetection?root={archives}"}
    monkeypatch.setattr(Run, "start", lambda *_, **__: pytest.fail("a run was opened"))
    with pytest.raises(UserError, match=r"several classes each, which this evaluation does not take\. Use hard"):
        evaluate_linear(Linear(pretrained[0], **where))
    with pytest.raises(UserError, match=r"which ridge regression does not take\. Give --classifier svm"):
        evaluate_fewshot(Fewshot(pretrained[0], **where))


def listed(folder, name, shift=0):
    """Write a list of noise of three colours; the labels are those of the images `shift` places further."""
    kinds = [images(24, seed) for seed in range(3)][len(name) % 3]
    lines = []
    for number, _ in enumerate(kinds):
        there = [colour for colour, key in enumerate(NAMES) if key in kinds[number]]
        if not shift:
            colours(folder / name / f"{number}.png", 100 * len(name) + number, there)
        labels = [key for key in NAMES if key in kinds[(number + shift) % len(kinds)]]
        lines.append(f"{name}/{number}.png\t{','.join(labels)}\n")
    (folder / f"{name}{shift}.txt").write_text("".join(lines))
    return str(folder / f"{name}{shift}.txt")


def test_labels_of_the_test_set_do_not_change_a_choice(project, pretrained, tmp_path):
    train, test = listed(tmp_path, "train"), [listed(tmp_path, "of_test", shift) for shift in (0, 1)]
    for kind, evaluate, options in (
        (Knn, evaluate_knn, {}),
        (Fewshot, evaluate_fewshot, {"classifier": "svm", "shots": (2,), "draws": 2}),
    ):
        found = [
            evaluate(kind(pretrained[0], train=train, test=one, project=str(project), **HERE, **options))
            for one in test
        ]
        name = found[0].name
        choices = [
            {key: value for key, value in result.metrics["pretrained"].items() if "choice" in key or "held_out" in key}
            for result in found
        ]
        assert choices[0] == choices[1] and choices[0]
        assert found[0].metrics["pretrained"][f"{name}/map"] != found[1].metrics["pretrained"][f"{name}/map"]


def test_one_part_with_several_classes_and_one_without_are_refused(project, pretrained, tmp_path):
    train, test = listed(tmp_path, "train"), tmp_path / "of_one.txt"
    colours(tmp_path / "a.png", 1, [0])
    test.write_text("a.png\tcar\n")
    with pytest.raises(UserError, match="have one class each, the other's images may have several"):
        evaluate_knn(Knn(pretrained[0], train=train, test=str(test), project=str(project), **HERE))


def test_the_command(archives, project, pretrained, capsys):
    words = [
        "fewshot",
        "--run",
        pretrained[0],
        "--data",
        f"torchvision:VOCDetection?root={archives}",
        "--device",
        "cpu",
    ]
    main([*words, "--project", str(project), "--classifier", "svm", "--shots", "1", "--costs", "1", "--full"])
    said = capsys.readouterr().out
    assert "Mean average precision of frozen features (%)" in said and "full" in said and "chance" not in said


def test_rows_of_features_keep_their_sets():
    train = multi(20)
    some = train.rows(torch.tensor([3, 1]))
    assert torch.equal(some.sets_NL, train.sets_NL[[3, 1]])
    assert Features(train.values_ND, train.labels_N).rows(torch.tensor([1])).sets_NL is None
