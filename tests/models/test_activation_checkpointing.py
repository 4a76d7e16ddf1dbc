"""Activation checkpointing changes memory and time, and no bit of the weights."""

from contextlib import nullcontext
from dataclasses import replace

import pytest
import torch
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from hardviews.errors import UserError
from hardviews.estimate.fake_step import FakeTrainer
from hardviews.methods.simsiam import SimSiamConfig
from hardviews.models import activation_checkpointing
from hardviews.models.activation_checkpointing import Recomputed, checkpoint_activations, not_checkpointed
from hardviews.models.backbones import Backbone
from hardviews.models.flops import forward_flops
from hardviews.recipes import recipe_named
from hardviews.strategies.hard_views import HardViews
from hardviews.strategies.strategy import Clean, Strategy
from hardviews.train.precision import Precision
from hardviews.train.recipe import Recipe, Training
from hardviews.train.trainer import build_objective
from hardviews.views.augmentation import Augmentation
from tests.laws.cases import STRATEGIES, assert_same_state, build, make_batch, state, train_step

NOISE = HardViews(4, noise="training")
ALL, EARLY = STRATEGIES["everything"], STRATEGIES["along_clean"]
Outcome = tuple[list[Tensor], dict[str, Tensor]]


def steps(
    method: str, strategy: Strategy, saves: bool, autocast: bool = False
) -> tuple[list[Tensor], dict[str, Tensor]]:
    """Return the losses of two whole steps on a ViT with stochastic depth, the gradients of the last, and the state."""
    objective = build(method, strategy, "vit")
    if saves:
        checkpoint_activations(objective.method.backbone)
    losses = []
    for step in range(2):
        torch.manual_seed(step)
        with torch.autocast("cpu", torch.bfloat16) if autocast else nullcontext():
            losses.append(train_step(objective, make_batch(objective, first=8 * step, step=step)))
    gradients = {f"grad {n}": p.grad for n, p in objective.named_parameters() if p.grad is not None}
    return losses, {**state(objective), **gradients, "random numbers": torch.get_rng_state()}


@pytest.mark.parametrize("method", ["dino", "ibot", "moco", "simsiam"])
@pytest.mark.parametrize(
    "strategy",
    [Clean(), NOISE, STRATEGIES["everything"], STRATEGIES["along_clean"]],
    ids=["clean", "hvs", "all", "early"],
)
def test_gradients_and_weights_are_the_same_bit_for_bit(method: str, strategy: Strategy) -> None:
    plain, saving = steps(method, strategy, False), steps(method, strategy, True)
    assert plain[0] == saving[0]
    assert_same_state(plain[1], saving[1])


def test_gradients_are_the_same_in_bfloat16() -> None:
    plain, saving = steps("dino", NOISE, False, autocast=True), steps("dino", NOISE, True, autocast=True)
    assert_same_state(plain[1], saving[1])


def test_a_block_computed_again_with_other_noise_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    plain = steps("dino", Clean(), False)
    monkeypatch.setattr(activation_checkpointing, "is_noisy", lambda block: False)
    with pytest.raises(AssertionError, match="differs"):
        assert_same_state(plain[1], steps("dino", Clean(), True)[1])


def test_a_block_computed_again_in_another_mode_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """An attack is without noise, and asks for its gradient when stochastic depth is on again."""
    monkeypatch.setattr(activation_checkpointing, "_Modes", lambda block: nullcontext())
    with pytest.raises(torch.utils.checkpoint.CheckpointError):
        steps("dino", STRATEGIES["fgsm"], True)


def test_modes_are_put_back() -> None:
    objective = build("dino", STRATEGIES["fgsm"], "vit")
    modes = [module.training for module in objective.modules()]
    checkpoint_activations(objective.method.backbone)
    train_step(objective, make_batch(objective))
    assert [module.training for module in objective.modules()] == modes


def test_a_pass_without_gradient_computes_each_block_once(monkeypatch: pytest.MonkeyPatch) -> None:
    objective, calls = build("dino", Clean(), "vit"), []
    network = objective.method.backbone
    checkpoint_activations(network)
    (block, *_) = network.blocks  # type: ignore[misc]
    assert isinstance(block.forward, Recomputed)
    compute = block.forward.compute
    block.forward.compute = lambda *inputs: (calls.append(1), compute(*inputs))[1]
    pixels = torch.rand(2, 3, 16, 16)
    with torch.no_grad():
        network(pixels)
    assert len(calls) == 1
    network(pixels).sum().backward()
    assert len(calls) == 3


def test_names_of_weights_stay() -> None:
    network = Backbone("test_vit").build()
    before = list(network.state_dict())
    checkpoint_activations(network)
    assert list(network.state_dict()) == before and not_checkpointed(network) is None


def transformer(saves: bool) -> Recipe:
    recipe = recipe_named("digits_dino")
    return replace(
        recipe,
        backbone=Backbone("test_vit", drop_path=0.1, image_size=32, patch_size=2),
        strategy=Clean(),
        training=replace(recipe.training, activation_checkpointing=saves),
        precision=Precision(compute="float32"),
    )


def test_memory_falls_and_each_trained_view_costs_a_third_more() -> None:
    plain, saving = (FakeTrainer(transformer(saves), 100).step(16, 0, False) for saves in (False, True))
    weights = 16 * plain.trained + 4 * plain.momentum  # with gradients, and AdamW's two moments
    assert saving.memory - weights < 0.4 * (plain.memory - weights)
    assert (plain.forward, plain.backward) == (saving.forward, saving.backward)
    # A trained view costs three forward passes, and nearly one more; a teacher's view costs as before.
    network = Backbone("test_vit", image_size=32, patch_size=2).build()
    again = plain.backward * forward_flops(network, 32)
    assert 0.85 * again < saving.flops - plain.flops < again


def test_other_networks_are_refused_before_work_starts() -> None:
    view = Augmentation(size=32)
    recipe = Recipe(
        "no", SimSiamConfig(view=view), Backbone("test_resnet"), training=Training(activation_checkpointing=True)
    )
    with pytest.raises(UserError, match="activation_checkpointing is set, but the backbone, a ResNet, is not"):
        build_objective(recipe)


def test_blocks_with_batchnorm_are_refused() -> None:
    network = VisionTransformer(img_size=16, patch_size=8, embed_dim=32, depth=1, num_heads=2)
    network.blocks[0].norm1 = nn.BatchNorm1d(5)  # type: ignore[union-attr]
    assert "running statistics" in str(not_checkpointed(network))


def test_a_run_goes_on_with_and_without() -> None:
    assert transformer(False).digest() == transformer(True).digest()
