import numpy as np
import pytest
import torch

from hardviews.cli import main
from hardviews.data.pack import pack
from hardviews.errors import UserError
from hardviews.evaluation.features.extract import Features
from hardviews.evaluation.probe import Choice, Task
from hardviews.evaluation.probes.fewshot import Fewshot, fit_fewshot
from hardviews.evaluation.probes.ridge import PENALTY, ridge_scores
from hardviews.evaluation.scores import scored
from hardviews.world import ALONE
from tests.evaluation.test_features import Noise


def task(count=60, classes=3, noise=0.5, seed=0):
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(count) % classes
    values = torch.eye(classes, 8)[labels] * 2 + noise * torch.randn(count, 8, generator=generator)
    return Task(
        Features(values, labels), torch.zeros(count, dtype=torch.bool), classes, ALONE, [str(i) for i in range(count)]
    )


def test_draws_are_nested_and_balanced():
    fitted = fit_fewshot(Fewshot("run"), task())
    assert list(fitted.draws) == [1, 2, 4, 8, 16]
    for seed in range(5):
        before: set[int] = set()
        for shots, draws in fitted.draws.items():
            chosen = set(draws[seed].chosen_S.tolist())
            assert before < chosen and len(chosen) == 3 * shots
            assert np.bincount([place % 3 for place in chosen]).tolist() == [shots] * 3
            before = chosen


def test_scores_are_those_of_ridge_on_the_shots_alone():
    given = task()
    test = task(seed=1).train
    fitted = fit_fewshot(Fewshot("run", shots=(4,), draws=2, penalties=(8.0,)), given)
    for draw, scores in zip(fitted.draws[4], fitted.predict(test)["k4"], strict=True):
        shots = given.train.rows(draw.chosen_S)
        assert torch.equal(scores, ridge_scores(shots.values_ND, shots.labels_N, test.values_ND, 3, (8.0,))[8.0])


def test_the_penalty_depends_on_the_shots_alone():
    given = task(noise=2.0)
    fitted = fit_fewshot(Fewshot("run", shots=(1, 4)), given)
    assert {draw.penalty for draw in fitted.draws[1]} == {PENALTY}
    others = torch.ones(60, dtype=torch.bool)
    others[fitted.draws[4][0].chosen_S] = False
    given.train.values_ND[others] = torch.randn(int(others.sum()), 8) * 100
    again = fit_fewshot(Fewshot("run", shots=(4,)), given)
    assert again.draws[4][0].penalty == fitted.draws[4][0].penalty


def test_mean_and_deviation_over_draws():
    given, test = task(noise=2.0), task(noise=2.0, seed=1).train
    fitted = fit_fewshot(Fewshot("run", shots=(2,)), given)
    scores = fitted.predict(test)
    found = scored("fewshot", scores, test.labels_N, Choice())
    each = [100 * float((one.argmax(1) == test.labels_N).double().mean()) for one in scores["k2"]]
    assert found.metrics["fewshot/top1_k2"] == pytest.approx(np.mean(each))
    assert found.metrics["fewshot/top1_k2_std"] == pytest.approx(np.std(each, ddof=1))
    assert found.metrics["fewshot/top1"] == pytest.approx(each[0])


def test_more_shots_than_images_are_left_out_and_told():
    fitted = fit_fewshot(Fewshot("run", shots=(2, 30)), task())
    assert list(fitted.draws) == [2] and "30 shots are left out" in fitted.choice.remarks[0]
    with pytest.raises(UserError, match="smallest class has 20 training images, fewer than 30 shots"):
        fit_fewshot(Fewshot("run", shots=(30,)), task())


@pytest.mark.parametrize("options", [{"shots": ()}, {"shots": (0,)}, {"draws": 0}, {"penalties": (0.0,)}])
def test_impossible_options_are_named(options):
    with pytest.raises(UserError, match=f"--{next(iter(options))}"):
        Fewshot("run", **options)


def test_the_command(project, tmp_path, capsys):
    for part, count in (("train", 60), ("test", 30)):
        pack(Noise(count), str(tmp_path / part), progress=False)
    words = ["--encoder", "timm:resnet10t", "--image-size", "32", "--train", f"{tmp_path}/train"]
    words += ["--test", f"{tmp_path}/test", "--project", str(project), "--device", "cpu", "--shots", "1", "4"]
    main(["fewshot", *words])
    said = capsys.readouterr().out
    assert "few-shot" in said and "k=4" in said and "\u00b1" in said
