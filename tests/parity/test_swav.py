"""SwAV against lightly's loss, with and without small views and queue; mixed views against mixed codes."""

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from lightly.loss import SwaVLoss
from torch import Tensor, nn
from torch.nn.functional import normalize

from hardviews.batch import Batch, Samples, View
from hardviews.clock import Clock
from hardviews.methods import swav
from hardviews.methods.sinkhorn import sinkhorn
from hardviews.methods.swav import GLOBALS, SwAV, SwAVConfig
from hardviews.objective.objective import Objective
from hardviews.optim.optimizer import Optimizer
from hardviews.strategies.cutmix import CutMix
from hardviews.strategies.strategy import Clean, Strategy
from hardviews.views.augmentation import Normalisation
from hardviews.views.pixels import Crops
from hardviews.views.plan import Slot
from tests.laws.cases import NETWORKS, build, make_batch
from tests.parity.plain import SIDE, WIDTH
from tests.parity.test_lightly import TOLERANCE, assert_equal_step


def without_network(config: SwAVConfig, strategy: Strategy | None = None) -> tuple[Objective, SwAV]:
    method = replace(config, output=WIDTH).build(nn.Flatten(), WIDTH)
    assert isinstance(method, SwAV)
    method.projector = nn.Identity()  # type: ignore[assignment]
    objective = Objective(method, strategy or Clean()).train()
    return objective, method


def pixels_of(samples: int, locals_: int, seed: int) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    pixels = torch.randn(2 + locals_, samples, 3, SIDE, SIDE, generator=generator)
    # The views of an image resemble each other, or all losses would be alike.
    return [view.requires_grad_() for view in (pixels + 2 * pixels[:1]).unbind()]


def batch_of(pixels: list[Tensor], epoch: int = 0) -> Batch:
    normalisation = Normalisation()
    slots = [*GLOBALS, *(Slot("local", k) for k in range(len(pixels) - 2))]
    views = {
        slot: View(slot, Crops(tensor, normalisation), normalisation, target=slot in GLOBALS)
        for slot, tensor in zip(slots, pixels, strict=True)
    }
    position = torch.arange(len(pixels[0]))
    return Batch(views, Clock(0, epoch, 0, 0, 1), Samples(position, position), group=4)


def lightly(method: SwAV, pixels: list[Tensor], queued: Tensor | None = None) -> Tensor:
    prototypes = method.prototypes.weight  # of unit length
    outputs = [normalize(view.flatten(1), dim=1) @ prototypes.T for view in pixels]
    config = method.config
    loss = SwaVLoss(config.temperature, config.iterations, config.epsilon)
    past = None if queued is None else [queued @ prototypes.T] * 2
    total: Tensor = loss(outputs[:2], outputs[2:], past)
    return total.squeeze()


@settings(deadline=None, max_examples=40)
@given(
    samples=st.integers(2, 30),
    locals_=st.integers(0, 3),
    prototypes=st.integers(2, 40),
    temperature=st.sampled_from([0.1, 0.5]),
    epsilon=st.sampled_from([0.05, 0.2]),
    iterations=st.integers(1, 4),
    queue=st.sampled_from([0, 6, 16]),
    seed=st.integers(0, 2**31),
)
def test_loss(
    samples: int,
    locals_: int,
    prototypes: int,
    temperature: float,
    epsilon: float,
    iterations: int,
    queue: int,
    seed: int,
) -> None:
    torch.manual_seed(seed)
    config = SwAVConfig(
        prototypes=prototypes,
        temperature=temperature,
        epsilon=epsilon,
        iterations=iterations,
        queue=queue,
        queue_from=2,
        locals=locals_,
    )
    objective, method = without_network(config)
    queued = normalize(torch.randn(queue, WIDTH), dim=1) if queue else None
    if queued is not None:
        method.queue.push(queued)
    pixels = pixels_of(samples, locals_, seed)
    losses_B = objective.reduce(objective.pairwise(batch_of(pixels, epoch=2))[0])
    assert losses_B.shape == (samples,)
    theirs = lightly(method, pixels, queued)
    assert_close_step(losses_B.mean(), theirs, (*pixels, method.prototypes.weight))


def assert_close_step(ours: Tensor, theirs: Tensor, leaves: tuple[Tensor, ...]) -> None:
    """Compare a loss and its gradient; codes are exponentials of scores / epsilon, which magnify rounding."""
    torch.testing.assert_close(ours, theirs, rtol=2e-5, atol=2e-5)
    wanted = torch.autograd.grad(theirs, leaves, retain_graph=True)
    size = max(gradient.abs().max().item() for gradient in wanted)
    for got, want in zip(torch.autograd.grad(ours, leaves, retain_graph=True), wanted, strict=True):
        assert (got - want).abs().max() <= 1e-4 * max(size, 1e-3)


def test_a_fault_breaks_parity(monkeypatch: pytest.MonkeyPatch) -> None:
    """Codes of rows first are others."""
    monkeypatch.setattr(swav, "sinkhorn", lambda scores, *rest: sinkhorn(scores.T, *rest[:2]).T)
    with pytest.raises(AssertionError):
        test_loss.hypothesis.inner_test(8, 1, 5, 0.1, 0.05, 3, 0, 0)  # type: ignore[attr-defined]


def test_mixed_views_predict_mixed_codes() -> None:
    config = SwAVConfig(prototypes=6, locals=1)
    objective, method = without_network(config, CutMix(scope="sample"))
    pixels = pixels_of(8, 1, 4)
    losses = objective(batch_of(pixels), 8)
    ((term, losses_B),) = losses.terms
    prototypes = method.prototypes.weight.detach()
    codes = losses.encoded.target
    wanted = torch.zeros(8)
    for code in GLOBALS:
        for slot in term.batch.views:
            if slot == code:
                continue
            mix = term.batch.mixes.get(slot)
            own = codes[code]
            if mix is not None:
                weight = mix.weight.float()[:, None]
                own = weight * own + (1 - weight) * own[mix.partner]
            seen = normalize(term.batch.online(slot).pixels().flatten(1), dim=1)
            wanted += -(own * (seen @ prototypes.T / 0.1).log_softmax(1)).sum(1).detach() / 4
    assert set(term.batch.mixes) == set(GLOBALS)
    torch.testing.assert_close(losses_B, wanted, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("network", NETWORKS)
def test_whole_step(network: str) -> None:
    gradients = []
    for oracle in (False, True):
        objective = build("swav", Clean(), network)
        batch = make_batch(objective)
        method = objective.method
        assert isinstance(method, SwAV)
        torch.manual_seed(7)
        if oracle:
            outputs = [
                method.prototypes(normalize(method.projector(method.backbone(view.pixels())), dim=1))
                for view in batch.views.values()
            ]
            total = SwaVLoss()(outputs[:2], outputs[2:]).squeeze()
        else:
            total = objective(batch, len(batch)).total
        total.backward()
        gradients.append((total.detach(), {n: p.grad for n, p in method.named_parameters()}))
    (ours, our_grads), (theirs, their_grads) = gradients
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)
    size = max(grad.abs().max().item() for grad in their_grads.values() if grad is not None)
    for name, grad in their_grads.items():
        ours_ = our_grads[name]
        assert grad is not None and ours_ is not None
        assert (ours_ - grad).abs().max() <= 100 * TOLERANCE * size, name


def test_the_exact_step_in_double_precision() -> None:
    torch.manual_seed(0)
    objective, method = without_network(SwAVConfig(prototypes=12, locals=2))
    objective.double()
    pixels = [view.detach().double().requires_grad_() for view in pixels_of(10, 2, 0)]
    losses_B = objective.reduce(objective.pairwise(batch_of(pixels))[0])
    assert_equal_step(losses_B.mean(), lightly(method, pixels), (*pixels, method.prototypes.weight))


def test_larc_moves_prototypes_as_published() -> None:
    """There they are brought to unit length before each forward pass, and every gradient has a part along them."""
    torch.manual_seed(1)
    objective, method = without_network(SwAVConfig(prototypes=12, locals=1, freeze=0))
    objective.double()
    optimizer = Optimizer("lars", 4.8, 0, weight_decay=1e-6).build(method, 8)
    theirs, moving = method.prototypes.weight.detach().clone(), torch.zeros_like(method.prototypes.weight)
    for step in range(4):
        pixels = [view.detach().double() for view in pixels_of(8, 1, step)]
        batch = batch_of(pixels)
        optimizer.zero_grad()
        losses = objective(batch, 8)
        losses.total.backward()
        optimizer.step()
        method.update(losses.encoded, batch.clock, losses.batch.samples)

        weight = normalize(theirs, dim=1).requires_grad_()
        outputs = [normalize(view.flatten(1), dim=1) @ weight.T for view in pixels]
        (gradient,) = torch.autograd.grad(SwaVLoss()(outputs[:2], outputs[2:]).squeeze(), weight)
        with torch.no_grad():
            length, force = weight.norm(), gradient.norm()
            step_KD = (gradient + 1e-6 * weight) * (0.001 * length / (force + 1e-6 * length + 1e-8))
            moving = 0.9 * moving + step_KD
            theirs = weight.detach() - 4.8 * moving
    torch.testing.assert_close(method.prototypes.weight.detach(), normalize(theirs, dim=1), rtol=1e-6, atol=1e-8)
