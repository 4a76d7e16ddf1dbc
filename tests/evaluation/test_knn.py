import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from hardviews.errors import UserError
from hardviews.evaluation.features import neighbours
from hardviews.evaluation.features.extract import Features
from hardviews.evaluation.features.neighbours import nearest
from hardviews.evaluation.probe import Grid, Task
from hardviews.evaluation.probes.knn import Knn, fit_knn, knn_votes
from hardviews.world import ALONE, World


def features(n, d, classes, seed):
    generator = torch.Generator().manual_seed(seed)
    values = torch.randn(n, d, generator=generator) * 3
    return Features(values, torch.randint(0, classes, (n,), generator=generator))


def naive_votes(train, test, k, temperature, classes):
    """DINO's protocol, one pair of samples at a time; the nearest neighbour has one vote."""
    votes = [[0.0] * classes for _ in range(len(test))]
    for row, x in enumerate(test.values_ND.double()):
        similarities = []
        for y, label in zip(train.values_ND.double(), train.labels_N, strict=True):
            similarities.append((float(x @ y / (x.norm() * y.norm())), int(label)))
        similarities.sort(reverse=True)
        for similarity, label in similarities[: min(k, len(train))]:
            votes[row][label] += math.exp((similarity - similarities[0][0]) / temperature)
    return torch.tensor(votes, dtype=torch.double)


SIZES = st.integers(1, 40)


@pytest.mark.parametrize("temperature", [0.07, 0.01, 0.001])
@settings(max_examples=25, deadline=None)
@given(SIZES, st.integers(1, 12), st.integers(2, 6), st.integers(1, 45), st.integers(0, 99))
def test_equals_a_naive_loop(temperature, n, m, classes, k, seed):
    train, test = features(n, 5, classes, seed), features(m, 5, classes, seed + 1)
    votes = knn_votes(train, test, (k,), temperature, classes=classes)
    assert list(votes) == [min(k, n)]
    expected = naive_votes(train, test, k, temperature, classes)
    torch.testing.assert_close(votes[min(k, n)], expected, rtol=1e-3, atol=1e-3)


def test_several_neighbourhoods_at_once_equal_one_at_a_time():
    train, test = features(60, 8, 4, 0), features(20, 8, 4, 1)
    together = knn_votes(train, test, (10, 20, 100, 200), classes=4)
    assert list(together) == [10, 20, 60]
    for k, votes in together.items():
        torch.testing.assert_close(votes, knn_votes(train, test, (k,), classes=4)[k])


def test_length_of_features_does_not_matter():
    train, test = features(30, 8, 3, 0), features(9, 8, 3, 1)
    longer = Features(train.values_ND * torch.rand(30, 1).add(0.1), train.labels_N)
    a, b = (knn_votes(t, test, (5,), classes=3)[5] for t in (train, longer))
    torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-3)


def test_nearer_neighbours_outvote_a_majority():
    # One sample of class 0 at the same place, two of class 1 far off.
    train = Features(torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.0, 1.0]]), torch.tensor([0, 1, 1]))
    test = Features(torch.tensor([[1.0, 0.1]]), torch.tensor([0]))
    assert knn_votes(train, test, (3,), 0.07, classes=2)[3].argmax(1).item() == 0
    assert knn_votes(train, test, (3,), 100.0, classes=2)[3].argmax(1).item() == 1


@pytest.mark.parametrize("temperature", [0.07, 0.01, 0.001, 1e-46])
def test_the_colder_the_more_the_nearest_decides(temperature):
    train = Features(torch.tensor([[1.0, 0.5], [1.0, 0.1], [1.0, -0.5]]), torch.tensor([0, 1, 0]))
    test = Features(torch.tensor([[1.0, 0.1]]), torch.tensor([1]))
    votes = knn_votes(train, test, (1, 3), temperature, classes=2)
    assert votes[1].tolist() == [[0, 1]]
    assert votes[3].isfinite().all() and votes[3].argmax(1).item() == 1


@pytest.mark.parametrize(
    ("options", "word"),
    [
        ({"neighbours": ()}, "neighbours"),
        ({"neighbours": (20, 0)}, "neighbours"),
        ({"neighbours": (-3,)}, "neighbours"),
        ({"temperature": 0.0}, "temperature"),
        ({"temperature": -1.0}, "temperature"),
        ({"temperature": math.nan}, "temperature"),
        ({"temperature": math.inf}, "temperature"),
        ({"batch_size": 0}, "--batch-size is 0"),
        ({"batch_size": -4}, "--batch-size is -4"),
        ({"workers": -1}, "workers"),
        *(({"wait": wait}, "--wait is .* it must be .*0 or more .seconds.") for wait in (-1, math.nan, math.inf)),
        ({"resize": 0}, "resize"),
        ({"crop": 0}, "crop"),
        ({"experiment": ""}, "experiment"),
        ({"experiment": " "}, "experiment"),
    ],
)
def test_impossible_options_are_named(options, word):
    with pytest.raises(UserError, match=word):
        Knn("run", **options)


def test_every_prediction_is_that_of_brute_force_with_copies_in_the_training_set():
    """Ten lines in double precision: of equal similarities the sample that comes first is nearer."""
    train, test = features(500, 200, 7, 0), features(77, 200, 7, 1)
    train.values_ND[[3, 300, 301]] = train.values_ND[499].clone()
    train.values_ND[310:400] = train.values_ND[12].clone()  # more copies than candidates are kept
    test.values_ND[:2] = train.values_ND[[499, 12]]
    unit_N, unit_M = (F.normalize(f.values_ND.double(), dim=1) for f in (train, test))
    similarity = (unit_M[:, None] * unit_N[None]).sum(-1)
    # Copies are equally near, whatever a sum rounds.
    order = torch.tensor(
        [sorted(range(500), key=lambda i, row=row: (-round(float(row[i]), 12), i)) for row in similarity]
    )
    for rule in ("dino", "dinov2"):
        for k in (1, 5, 20, 64):
            near = similarity.gather(1, order[:, :64])
            weight = (near / 0.07).exp() if rule == "dino" else (near / 0.07).softmax(1)
            votes = torch.zeros(77, 7, dtype=torch.double)
            votes.scatter_add_(1, train.labels_N[order[:, :k]], weight[:, :k])
            ours = knn_votes(train, test, (k,), classes=7)[k]
            assert torch.equal(ours.argmax(1), votes.argmax(1)), (rule, k)


@pytest.mark.parametrize("copies", [10, 200])
def test_neighbours_that_the_product_in_single_precision_cannot_separate(copies):
    """Nearer by 1e-9 each: the proposals of single precision are not enough."""
    base = torch.zeros(1, 16)
    base[0, 0] = 1
    train = base.repeat(copies, 1)
    train[:, 1] = torch.linspace(1e-4, 2e-4, copies).flip(0)
    similarity, place = nearest(train, base, 5, ALONE)
    assert place[0].tolist() == list(range(copies - 1, copies - 6, -1))
    assert (similarity.diff(dim=1) <= 0).all()


def test_tiles_do_not_matter(monkeypatch):
    train, test = features(300, 9, 3, 0), features(50, 9, 3, 1)
    whole = nearest(train.values_ND, test.values_ND, 7, ALONE)
    monkeypatch.setattr(neighbours, "_PART", 64)
    monkeypatch.setattr(neighbours, "_TILE", 8)
    for ours, theirs in zip(nearest(train.values_ND, test.values_ND, 7, ALONE), whole, strict=True):
        assert torch.equal(ours, theirs)


def test_the_choice_depends_on_held_out_samples_alone():
    train = features(200, 6, 3, 0)
    held = torch.arange(200) % 10 == 0
    fitted = fit_knn(Knn("run"), Task(train, held, 3, ALONE))
    k, temperature = int(fitted.choice.settings["k"]), fitted.choice.settings["temperature"]
    kept, chosen_on = train.rows(~held), train.rows(held)
    accuracies = {
        (k, t): float(
            (knn_votes(kept, chosen_on, (k,), t, classes=3)[k].argmax(1) == chosen_on.labels_N).double().mean()
        )
        for k in (*(k for k in Knn("run").candidates if k < 180), 180)
        for t in Knn("run").temperatures
    }
    assert accuracies[k, temperature] == max(accuracies.values())
    assert fitted.choice.held_out_top1 == pytest.approx(100 * max(accuracies.values()))


def test_one_neighbour_is_no_end_of_a_grid():
    """There is no smaller number to try."""
    one = torch.tensor([[0.0], [0.1], [1.0], [1.1], [9.0], [9.1]]).repeat(5, 1)
    train = Features(torch.cat((one, 1 - one), 1), (torch.arange(30) % 6) // 2)
    held = torch.arange(30) < 6
    fitted = fit_knn(Knn("run", candidates=(1, 10, 20)), Task(train, held, 3, ALONE))
    assert not any("number of neighbours" in remark for remark in fitted.choice.remarks)
    assert Grid("number of neighbours", (1, 2, 3)).remark(1, {1: 9.0, 2: 8.0, 3: 7.0})
    assert not Grid("number of neighbours", (1, 2, 3), least=1).remark(1, {1: 9.0, 2: 8.0, 3: 7.0})


GPU = pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=GPU)])
def test_separable_classes_are_found(device):
    centres = torch.eye(4).repeat_interleave(25, 0) * 10
    train = Features(centres + torch.randn(100, 4), torch.arange(4).repeat_interleave(25))
    votes = knn_votes(train, train, (20,), classes=4, world=World(0, 1, torch.device(device)))[20]
    assert votes.device.type == "cpu"
    assert (votes.argmax(1) == train.labels_N).all()
