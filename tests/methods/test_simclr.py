"""SimCLR: its head, and the precision of its similarities; refusals of SimCLR, SimSiam and BYOL."""

from collections.abc import Callable

import pytest
import torch
from torch import nn

from hardviews.encoded import Encoded
from hardviews.errors import UserError
from hardviews.methods.byol import BYOLConfig
from hardviews.methods.method import MethodConfig
from hardviews.methods.simclr import SimCLR, SimCLRConfig
from hardviews.methods.simsiam import SimSiamConfig
from tests.parity.plain import batch_of, pictures, without_network


def test_the_defaults_are_the_published_ones() -> None:
    config = SimCLRConfig()
    method = config.build(nn.Flatten(), 48)
    assert isinstance(method, SimCLR)
    layers = [(type(layer), *getattr(layer, "weight", torch.empty(0)).shape) for layer in method.projector]
    assert layers == [
        (nn.Linear, 2048, 48),
        (nn.BatchNorm1d, 2048),
        (nn.ReLU, 0),
        (nn.Linear, 128, 2048),
        (nn.BatchNorm1d, 128),
    ]
    assert config.temperature == 0.1
    view = config.view
    assert (view.size, view.scale, view.interpolation) == (224, (0.08, 1.0), "bicubic")
    assert (view.flip, view.grayscale, view.blur, view.sigma, view.solarise) == (0.5, 0.2, 0.5, (0.1, 2.0), 0.0)
    jitter = view.jitter
    assert (jitter.brightness, jitter.contrast, jitter.saturation, jitter.hue, jitter.probability) == (
        0.8,
        0.8,
        0.8,
        0.2,
        0.8,
    )


def test_autocast_does_not_round_similarities() -> None:
    """Views nearly alike, as late in a training: in bfloat16 their cosines would differ by less than one step."""
    objective = without_network(SimCLRConfig())
    first, _ = pictures(16, 0)
    offset = torch.randn(3, 4, 4, generator=torch.Generator().manual_seed(1)) * 20
    views = tuple((offset + view).detach().requires_grad_() for view in (first, first * 1.5))
    batch = batch_of((views[0], views[1]))

    def step() -> tuple[torch.Tensor, ...]:
        losses_PB, encoded = objective.pairwise(batch)
        assert isinstance(encoded, Encoded)
        scores = objective.method.scores(batch, encoded.online, encoded.target, objective.pairs[0])
        assert scores is not None
        return losses_PB, scores[0].nan_to_num(neginf=0), *torch.autograd.grad(losses_PB.mean(), views)

    exact = step()
    with torch.autocast("cpu", torch.bfloat16):
        rough = step()
    for ours, wanted in zip(rough, exact, strict=True):
        assert ours.dtype == torch.float32
        torch.testing.assert_close(ours, wanted)


@pytest.mark.parametrize(
    ("config", "name", "value"),
    [
        *[(SimCLRConfig, name, 0) for name in ("hidden", "layers", "output", "temperature")],
        (SimCLRConfig, "temperature", float("nan")),
        *[(SimSiamConfig, name, 0) for name in ("width", "layers", "bottleneck")],
        *[(BYOLConfig, name, 0) for name in ("hidden", "output")],
    ],
)
def test_settings_that_train_nothing_are_refused(config: Callable[..., MethodConfig], name: str, value: float) -> None:
    with pytest.raises(UserError, match=rf"^method\.{name} is {value}; it must be"):
        config(**{name: value})
