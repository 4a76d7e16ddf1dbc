"""Supervised training: losses by a formula of their own, and who may see labels."""

import numpy as np
import pytest
import torch
from torch import nn

from hardviews.batch import Batch, Mix
from hardviews.data.index import Index
from hardviews.errors import UserError
from hardviews.methods.supervised import LABEL, VIEW, Supervised, SupervisedConfig
from hardviews.strategies.hard_views import HardViews
from hardviews.strategies.strategy import Clean
from hardviews.train.labels import check_labels
from hardviews.views.augmentation import Augmentation
from tests.laws.cases import CLASSES, METHODS, build, make_batch


def probabilities(labels: np.ndarray, classes: int, smoothing: float) -> np.ndarray:
    """Return smoothed labels (B, K)."""
    return np.eye(classes)[labels] * (1 - smoothing) + smoothing / classes


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_the_loss_is_the_cross_entropy_with_the_smoothed_label(smoothing: float) -> None:
    method = SupervisedConfig(classes=5, smoothing=smoothing, view=Augmentation(size=4)).build(nn.Flatten(), 48)
    logits = torch.randn(6, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    labels = torch.tensor([0, 4, 2, 2, -1, 1])
    batch = Batch({}, None, None, 1)  # type: ignore[arg-type]
    found = method.pair_loss(batch, logits, labels, method.pairs()[0])
    raised = np.exp(logits.numpy())
    wanted = -(probabilities(labels.numpy(), 5, smoothing) * np.log(raised / raised.sum(1, keepdims=True))).sum(1)
    wanted[4] = 0
    np.testing.assert_allclose(found, wanted, rtol=1e-12)


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_a_mixed_loss_never_falls_below_its_floor_and_reaches_it(smoothing: float) -> None:
    """The least cross-entropy is the entropy of the mixed label, at logits that say just that label."""
    method = SupervisedConfig(classes=4, smoothing=smoothing, view=Augmentation(size=4)).build(nn.Flatten(), 48)
    labels, partner, weight = torch.tensor([0, 1, 1, 3]), torch.tensor([1, 2, 3, 0]), torch.tensor([0.3, 0.5, 1.0, 0.8])
    mix, pair = Mix(partner, weight), method.pairs()[0]
    own, other = (probabilities(each.numpy(), 4, smoothing) for each in (labels, labels[partner]))
    mixed = torch.from_numpy(weight.numpy()[:, None] * own + (1 - weight.numpy()[:, None]) * other)
    batch = Batch({}, None, None, 1)  # type: ignore[arg-type]
    losses = method.mixed_loss(batch, {VIEW: mixed.log()}, {LABEL: labels}, pair, mix)
    if not smoothing:
        losses = torch.special.entr(mixed).sum(1)  # the logits of a label without a share are minus infinity
    torch.testing.assert_close(method.mixed_floor({LABEL: labels}, pair, mix).double(), losses, rtol=1e-5, atol=1e-6)


def test_measures_count_the_label_among_the_likeliest() -> None:
    objective = build("supervised", Clean())
    batch = make_batch(objective)
    assert batch.labels is not None
    losses = objective(batch, len(batch))
    with torch.no_grad():
        logits = losses.encoded.online[VIEW]
    for k in (1, 5):
        among = (logits.topk(k).indices == batch.labels[:, None]).any(1).float()
        wanted = torch.where(batch.labels >= 0, among, torch.nan)
        torch.testing.assert_close(losses.measures[f"accuracy/top{k}"], wanted, equal_nan=True)


def test_the_hardest_crop_is_the_one_of_the_greatest_loss() -> None:
    objective = build("supervised", HardViews(4))
    batch = make_batch(objective)
    losses = objective(batch, len(batch))
    selection = losses.selecting.selection
    assert selection is not None
    assert selection.hardness is not None
    assert selection.hardness.shape[0] == 4
    assert torch.equal(selection.choice, selection.hardness.argmax(0))


@pytest.mark.parametrize("method", [name for name in METHODS if not name.startswith(("supervised", "joint"))])
def test_no_other_method_gets_labels(method: str) -> None:
    objective = build(method, Clean())
    assert not objective.method.labelled
    assert make_batch(objective).labels is None


def index(labels: list[int], classes: tuple[str, ...], several: bool = False) -> Index:
    samples = np.zeros(len(labels), dtype=[("label", "<i4")])
    samples["label"] = labels
    return Index("D", classes, (), samples, 0, "", np.zeros((len(labels), len(classes)), np.int8) if several else None)


def test_datasets_without_fitting_labels_are_refused() -> None:
    method = build("supervised", Clean()).method
    assert isinstance(method, Supervised)
    names = tuple(map(str, range(CLASSES)))
    check_labels(method, index([0, -1, 6], names))
    check_labels(method, index([0, 0], names), whole=False)
    with pytest.raises(UserError, match=r"trains on labels, and the dataset D has none.*self-supervised recipe"):
        check_labels(method, index([-1, -1], names))
    with pytest.raises(UserError, match="has none"):
        check_labels(method, index([0], ()), whole=False)
    with pytest.raises(UserError, match=r"9 classes, more than the 7 .*--method\.classes 9"):
        check_labels(method, index([0], tuple("abcdefghi")))
    with pytest.raises(UserError, match="one label each"):
        check_labels(method, index([0], names, several=True))
    check_labels(build("simclr", Clean()).method, index([-1], ()))
