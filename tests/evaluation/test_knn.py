import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hardviews.errors import UserError
from hardviews.evaluation.features import Features
from hardviews.evaluation.knn import Knn, knn_votes


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
    return torch.tensor(votes)


SIZES = st.integers(1, 40)


@pytest.mark.parametrize("temperature", [0.07, 0.01, 0.001])
@settings(max_examples=25, deadline=None)
@given(SIZES, st.integers(1, 12), st.integers(2, 6), st.integers(1, 45), st.integers(1, 50), st.integers(0, 99))
def test_equals_a_naive_loop_whatever_the_parts(temperature, n, m, classes, k, part, seed):
    train, test = features(n, 5, classes, seed), features(m, 5, classes, seed + 1)
    votes = knn_votes(train, test, (k,), temperature, classes=classes, part=part)
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


GPU = pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=GPU)])
def test_separable_classes_are_found(device):
    centres = torch.eye(4).repeat_interleave(25, 0) * 10
    train = Features(centres + torch.randn(100, 4), torch.arange(4).repeat_interleave(25))
    votes = knn_votes(train, train, (20,), classes=4, device=device)[20]
    assert votes.device.type == "cpu"
    assert (votes.argmax(1) == train.labels_N).all()
