"""Support vector machines: equal to scikit-learn's; draws by hash; choices that the test set does not see."""

import warnings

import numpy as np
import pytest
import torch
from sklearn.exceptions import ConvergenceWarning
from sklearn.svm import LinearSVC

from hardviews.errors import UserError
from hardviews.evaluation.average_precision import interpolated_area, mean_precision
from hardviews.evaluation.features.extract import Features
from hardviews.evaluation.probe import Task
from hardviews.evaluation.probes import svm
from hardviews.evaluation.probes.fewshot import Fewshot
from hardviews.evaluation.probes.fewshot_svm import fit_svm
from hardviews.evaluation.probes.low_shot import draw, everything, fewest
from hardviews.evaluation.scores import scored
from hardviews.world import ALONE

CLASSES = 3


def multi(count=160, seed=0, noise=0.7):
    """Features that hold the classes, with some of them ignored."""
    generator = torch.Generator().manual_seed(seed)
    sets = (torch.rand(count, CLASSES, generator=generator) < 0.25).to(torch.int8)
    values = sets.float() @ torch.eye(CLASSES, 10) * 2 + noise * torch.randn(count, 10, generator=generator)
    sets[torch.rand(count, CLASSES, generator=generator) < 0.1] = -1
    return Features(values, torch.full((count,), -1), sets)


def task_of(train):
    names = [f"image {number}" for number in range(len(train))]
    return Task(train, torch.zeros(len(train), dtype=torch.bool), CLASSES, ALONE, names)


def sklearn(rows, targets, cost):
    machine = LinearSVC(
        C=cost, class_weight={1: 2, -1: 1}, loss="squared_hinge", penalty="l2", dual=True, max_iter=2000, random_state=0
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return machine.fit(rows, targets)


def unit(values):
    return (values.double() / values.double().norm(dim=1, keepdim=True)).numpy()


def test_few_shots_are_those_of_scikit_learn():
    given, test = task_of(multi()), multi(seed=1)
    fitted = fit_svm(given, (1, 2), draws=2, costs=(0.5,))
    found = fitted.predict(test)
    for shots in (1, 2):
        for machines, scores in zip(fitted.draws[shots], found[f"k{shots}"], strict=True):
            one = machines.draw
            for number in range(CLASSES):
                taken = one.targets_SL[:, number] != 0
                rows = unit(given.train.values_ND[one.rows_S])[taken]
                machine = sklearn(rows, one.targets_SL[taken, number], 0.5)
                expected = machine.decision_function(unit(test.values_ND))
                np.testing.assert_allclose(scores[:, number].numpy(), expected, rtol=1e-9, atol=1e-12)


def test_on_all_images_each_class_chooses_its_cost_by_three_folds():
    given, test, costs = task_of(multi()), multi(seed=1), (0.01, 1.0, 100.0)
    fitted = fit_svm(given, (1,), draws=1, costs=costs, full=True)
    one = everything(given.train, given.names, CLASSES)
    rows = unit(given.train.values_ND)
    scores = fitted.predict(test)["full"]
    for number in range(CLASSES):
        targets = np.where(given.train.sets_NL[:, number] == 1, 1, -1)  # the ignored count as images without the class
        folds = one.folds_SL[:, number] % 3
        assert all(abs(int((targets[folds == fold] == 1).sum()) - (targets == 1).sum() / 3) < 1 for fold in range(3))
        precision = []
        for cost in costs:
            of_folds = []
            for fold in range(3):
                machine = sklearn(rows[folds != fold], targets[folds != fold], cost)
                tried = machine.decision_function(rows[folds == fold])
                of_folds.append(interpolated_area(tried, (targets[folds == fold] == 1).astype(np.int8)))
            precision.append(np.mean(of_folds))
        assert fitted.full.costs_L[number] == costs[int(np.argmax(precision))]
        expected = sklearn(rows, targets, fitted.full.costs_L[number]).decision_function(unit(test.values_ND))
        np.testing.assert_allclose(scores[:, number].numpy(), expected, rtol=1e-9, atol=1e-12)
    assert fitted.choice.settings["cost_full"] == np.median(fitted.full.costs_L)


def test_a_draw_has_k_images_with_a_class_and_19_k_without_it_and_none_that_is_ignored():
    train = multi(400)
    names, sets = [str(number) for number in range(400)], train.sets_NL.numpy()
    before = [(set(), set())] * CLASSES
    for shots in (1, 2, 4):
        one = draw(train, names, CLASSES, shots, seed=0)
        for number in range(CLASSES):
            with_it, without = (set(one.rows_S[one.targets_SL[:, number] == kind].tolist()) for kind in (1, -1))
            assert len(with_it) == shots and {sets[row, number] for row in with_it} == {1}
            assert len(without) == 19 * shots and {sets[row, number] for row in without} == {0}
            assert before[number][0] <= with_it and before[number][1] <= without
            before[number] = (with_it, without)
        assert (one.targets_SL != 0).any(1).all()


def test_classes_draw_apart():
    """Equal images for all classes would make one mistake of several."""
    train = multi(200)
    twins = Features(train.values_ND, train.labels_N, train.sets_NL[:, :1].repeat(1, CLASSES))
    one = draw(twins, [str(number) for number in range(200)], CLASSES, 2, seed=0)
    assert not np.array_equal(one.targets_SL[:, 0], one.targets_SL[:, 1])


def test_a_draw_depends_on_seed_and_content_and_not_on_the_order():
    train, order = multi(), torch.randperm(160, generator=torch.Generator().manual_seed(5))
    names = [f"image {number}" for number in range(160)]
    moved = [names[row] for row in order.tolist()]

    def drawn(train, names, seed):
        one = draw(train, names, CLASSES, 2, seed)
        pairs = zip(one.rows_S.tolist(), one.targets_SL.tolist(), one.folds_SL.tolist(), strict=True)
        return {names[row]: (target, fold) for row, target, fold in pairs}

    assert drawn(train, names, 0) == drawn(train.rows(order), moved, 0)
    assert drawn(train, names, 0) != drawn(train, names, 1)


def test_the_cost_depends_on_the_shots_alone():
    given = task_of(multi(noise=1.5))
    fitted = fit_svm(given, (1, 4), draws=2)
    assert {machines.costs_L[0] for machines in fitted.draws[1]} == {svm.COST}
    others = torch.ones(160, dtype=torch.bool)
    for machines in fitted.draws[4]:
        others[machines.draw.rows_S] = False
    assert others.any()
    given.train.values_ND[others] = 100 * torch.randn(int(others.sum()), 10)
    again = fit_svm(given, (4,), draws=2)
    for first, second in zip(fitted.draws[4], again.draws[4], strict=True):
        assert first.costs_L == second.costs_L
        for one, other in zip(first.planes_L, second.planes_L, strict=True):
            assert np.array_equal(one.weight_D, other.weight_D) and one.bias == other.bias


def test_the_published_choice_on_the_test_set_is_kept_apart():
    given, test, costs = task_of(multi(noise=1.5)), multi(seed=1, noise=1.5), (0.01, 1.0, 100.0)
    fitted = fit_svm(given, (2,), draws=2, costs=costs)
    every = [fit_svm(given, (2,), draws=2, costs=(cost,)).predict(test)["k2"] for cost in costs]
    means = [np.mean([mean_precision(interpolated_area, one, test.sets_NL) for one in draws]) for draws in every]
    assert fitted.peeks(test) == {"map_k2": pytest.approx(max(means))}
    found = scored("fewshot", fitted.predict(test), test.labels_N, fitted.choice, test.sets_NL)
    assert found.metrics["fewshot/map_k2"] <= max(means) + 1e-9
    assert not any("peek" in name for name in found.metrics)
    assert "fewshot/map11_k2" in found.metrics and "fewshot/map_k2_std" in found.metrics
    assert list(found.headings) == ["fewshot/map", "fewshot/map_k2"]


def test_images_of_one_class_each_are_one_against_the_rest():
    labels = torch.arange(60) % CLASSES
    generator = torch.Generator().manual_seed(0)
    train = Features(torch.eye(CLASSES, 8)[labels] + 0.3 * torch.randn(60, 8, generator=generator), labels)
    fitted = fit_svm(task_of(train), (2, 4), draws=2, full=True)
    one = fitted.draws[4][1].draw
    assert len(one.rows_S) == 12 and ((one.targets_SL == 1).sum(0) == 4).all() and (one.targets_SL != 0).all()
    scores = fitted.predict(train)
    found = scored("fewshot", scores, labels, fitted.choice)
    assert found.metrics["fewshot/top1_full"] == found.metrics["fewshot/top1"] > 90
    assert fitted.peeks(train) == {}


def test_few_images_are_reported():
    train = multi(40)
    least = fewest(train, CLASSES)
    assert least == int((train.sets_NL == 1).sum(0).min())
    fitted = fit_svm(task_of(train), (2, least + 1), draws=1, costs=(1.0,))
    assert list(fitted.draws) == [2]
    assert fitted.choice.remarks == [
        f"{least + 1} shots are left out: the smallest class has {least} training images.",
        "Some classes have fewer than 19 images without them for each shot; all of them are taken.",
    ]
    with pytest.raises(UserError, match=f"has {least} training images, fewer than {least + 1} shots"):
        fit_svm(task_of(train), (least + 1,), draws=1)
    assert fit_svm(task_of(train), (least + 1,), draws=1, costs=(1.0,), full=True).full is not None


def test_a_class_of_one_kind_has_no_plane():
    plane = svm.fit(np.ones((4, 3)), np.array([-1, -1, 0, 0], np.int8), 1.0)
    assert not plane.weight_D.any() and plane.bias == 0


@pytest.mark.parametrize("options", [{"costs": ()}, {"costs": (0.0,)}, {"full": True}])
def test_impossible_options_are_named(options):
    with pytest.raises(UserError, match=f"--{next(iter(options))}"):
        Fewshot("run", **options)
