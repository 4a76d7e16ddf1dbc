"""MixUp: a convex combination of two pictures of a group, in pixels as in normalised pixels."""

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hardviews.strategies.mixup import MixUp
from tests.laws.cases import build, make_batch


@settings(deadline=None, max_examples=15)
@given(
    alpha=st.floats(0.1, 10),
    scope=st.sampled_from(["sample", "group"]),
    seed=st.integers(0, 2**40),
    step=st.integers(0, 9),
)
def test_mixup_blends(alpha: float, scope: str, seed: int, step: int) -> None:
    objective = build("simsiam", MixUp(alpha, scope))  # type: ignore[arg-type]
    batch = make_batch(objective, samples=16, first=16 * step, step=step, seed=seed)
    (term,) = objective.strategy(batch, objective)
    assert term.name == "mixup"
    for slot, mix in term.batch.mixes.items():
        assert mix.box is None
        assert ((mix.weight >= 0) & (mix.weight <= 1)).all()
        assert torch.equal(mix.partner.sort().values, torch.arange(16))
        assert torch.equal(mix.partner // batch.group, torch.arange(16) // batch.group)
        if scope == "group":
            assert (mix.weight.view(-1, batch.group).diff(dim=1) == 0).all()
        view = batch.views[slot]
        own = view.normalisation.denormalise(view.pixels())
        weight = mix.weight.float().view(-1, 1, 1, 1)
        blended = view.normalisation.denormalise(term.batch.hard[slot].pixels())
        torch.testing.assert_close(blended, weight * own + (1 - weight) * own[mix.partner], rtol=0, atol=2e-6)


def test_alpha_shapes_the_weights() -> None:
    objective = build("simsiam", MixUp())
    batch = make_batch(objective, samples=256)
    spread = [MixUp(alpha, "sample").weights(batch, 0).std().item() for alpha in (0.2, 1.0, 8.0)]
    assert spread[0] > spread[1] > spread[2]
    # Beta(1, 1) is uniform: its deviation is 1 / sqrt(12).
    assert abs(spread[1] - 12**-0.5) < 0.03
