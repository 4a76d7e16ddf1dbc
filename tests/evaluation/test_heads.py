"""Steps and schedules of published protocols, beside torch's optimizers and formulas written out."""

import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from hardviews.evaluation.linear_protocol import Reading
from hardviews.evaluation.probes.heads import HeadSettings, TrainedHead, height
from hardviews.evaluation.probes.linear_protocols import DINO, MAE, MOCO, PROTOCOLS, SIMCLR, SIMSIAM, SWAV
from hardviews.optim.lars import Lars

CPU = torch.device("cpu")
CLASSES, WIDTH, BATCH = 5, 7, 32


def batches(steps, seed=0):
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(CLASSES, (steps, BATCH), generator=generator)
    return list(zip(torch.randn(steps, BATCH, WIDTH, generator=generator) * 2 + 0.5, labels, strict=True))


def begin(protocol, rate=0.3, decay=0.0):
    return TrainedHead.begin(HeadSettings(Reading(), rate, decay), protocol, WIDTH, CLASSES, 3, CPU)


def trained(protocol, rate=0.3, decay=0.0, steps=12):
    head = begin(protocol, rate, decay)
    for step, (values, labels) in enumerate(batches(steps)):
        head.step(values, labels[:, None], 1 / (1 + step))
    return head


def trained_by(make, steps=12, norm=None, protocol=SIMSIAM):
    """Train a layer with another optimizer, by autograd and in float64."""
    first = begin(protocol)
    weight = first.weight_DL.double().requires_grad_()
    bias = first.bias_L.double().requires_grad_()
    optimizer = make(weight, bias)
    peaks = [group["lr"] for group in optimizer.param_groups]
    for step, (values, labels) in enumerate(batches(steps)):
        for group, peak in zip(optimizer.param_groups, peaks, strict=True):
            group["lr"] = peak / (1 + step)
        optimizer.zero_grad()
        inputs = values.double() if norm is None else norm(values.double())
        nn.functional.cross_entropy(inputs @ weight + bias, labels).backward()
        optimizer.step()
    return weight.detach(), bias.detach()


def same(head, theirs):
    torch.testing.assert_close(head.weight_DL.double(), theirs[0], atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(head.bias_L.double(), theirs[1], atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("decay", [0.0, 1e-2])
@pytest.mark.parametrize("protocol", [SWAV, SIMCLR], ids=["sgd", "nesterov"])
def test_sgd_is_torchs(protocol, decay):
    nesterov = protocol.optimizer == "nesterov"
    theirs = trained_by(
        lambda *both: torch.optim.SGD(both, 0.3, momentum=0.9, nesterov=nesterov, weight_decay=decay), protocol=protocol
    )
    same(trained(protocol, decay=decay), theirs)


@pytest.mark.parametrize("decay", [0.0, 1e-2])
def test_larc_is_apexs_without_clipping(decay):
    """Written out: the rate is trust |w| / (|g| + decay |w| + 1e-8), and a bias at zero is moved by plain SGD."""

    class Larc(torch.optim.SGD):
        def step(self, closure=None):
            for p in self.param_groups[0]["params"]:
                length, force = p.detach().norm(), p.grad.norm()
                if length != 0 and force != 0:
                    p.grad = (p.grad + decay * p.detach()) * 1e-3 * length / (force + length * decay + 1e-8)
            super().step(closure)

    theirs = trained_by(lambda *both: Larc(both, 1.6, momentum=0.9))
    head = trained(SIMSIAM, rate=1.6, decay=decay)
    same(head, theirs)
    assert head.bias_L.abs().max() > 0


@pytest.mark.parametrize("decay", [0.0, 1e-2])
def test_lars_and_batchnorm_are_maes(decay):
    norm = nn.BatchNorm1d(WIDTH, affine=False, eps=1e-6).double()

    def make(weight, bias):
        groups = [{"params": [weight]}, {"params": [bias], "adapts": False}]
        return Lars(groups, 6.4, weight_decay=decay)

    theirs = trained_by(make, norm=norm, protocol=MAE)
    head = trained(MAE, rate=6.4, decay=decay)
    same(head, theirs)
    values = batches(1, seed=9)[0][0]
    expected = norm.eval()(values.double()) @ theirs[0] + theirs[1]
    torch.testing.assert_close(head.classifier().scores(values).double(), expected, atol=1e-4, rtol=1e-4)


def test_heads_of_one_reading_begin_equally_and_as_published():
    wide = TrainedHead.begin(HeadSettings(Reading(), 1.0), MOCO, 2048, 100, 0, CPU)
    assert wide.weight_DL.std().item() == pytest.approx(0.01, rel=0.01) and not wide.bias_L.any()
    assert torch.equal(
        wide.weight_DL, TrainedHead.begin(HeadSettings(Reading(), 9.0), DINO, 2048, 100, 0, CPU).weight_DL
    )
    haiku = TrainedHead.begin(HeadSettings(Reading(), 1.0), PROTOCOLS["byol"], 2048, 100, 0, CPU).weight_DL
    assert haiku.abs().max() <= 2 / math.sqrt(2048)
    assert haiku.std().item() == pytest.approx(0.8796 / math.sqrt(2048), rel=0.01)  # a normal one cut at 2


def heights(protocol, epochs, epoch_steps):
    protocol = replace(protocol, epochs=epochs)
    return [height(protocol, step, epochs * epoch_steps, epoch_steps) for step in range(epochs * epoch_steps)]


@pytest.mark.parametrize("epoch_steps", [1, 3])
@pytest.mark.parametrize("name", ["moco", "simsiam", "swav", "dino"])
def test_rates_that_stay_for_an_epoch_are_those_of_torchs_schedulers(name, epoch_steps):
    protocol = PROTOCOLS[name]
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], 1.0)
    epochs = protocol.epochs
    if name == "moco":
        schedule = torch.optim.lr_scheduler.MultiStepLR(optimizer, [60, 80])
    else:
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs)
    theirs = []
    for _ in range(epochs):
        theirs += [optimizer.param_groups[0]["lr"]] * epoch_steps
        optimizer.step()
        schedule.step()
    assert heights(protocol, epochs, epoch_steps) == pytest.approx(theirs, abs=1e-12)


def test_rates_that_change_at_every_step():
    ours = heights(SIMCLR, 90, 4)
    assert ours == pytest.approx([0.5 * (1 + math.cos(math.pi * step / 360)) for step in range(360)])
    ours = heights(MAE, 90, 4)
    for step, found in enumerate(ours):
        epoch = step / 4
        expected = epoch / 10 if epoch < 10 else 0.5 * (1 + math.cos(math.pi * (epoch - 10) / 80))
        assert found == pytest.approx(expected, abs=1e-12)


@given(steps=st.integers(1, 60), epoch_steps=st.floats(0.5, 20), name=st.sampled_from(sorted(PROTOCOLS)))
def test_a_rate_is_never_more_than_its_peak(steps, epoch_steps, name):
    protocol = PROTOCOLS[name]
    found = [height(protocol, step, steps, epoch_steps) for step in range(steps)]
    assert all(0 <= one <= 1 for one in found)
    assert protocol.warmup or found[0] == 1
