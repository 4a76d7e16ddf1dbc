"""Branched BatchNorm equals torch's bit for bit in one process, keeps its names, and keeps branches apart."""

from copy import deepcopy
from typing import Any

import pytest
import timm
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from hardviews.models.batchnorm import (
    BranchedBatchNorm,
    add_adversarial_branch,
    branch_batchnorm,
    moving_once,
    normalising,
)
from hardviews.models.noise import without_noise

NORMS = [nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d]


@settings(deadline=None, max_examples=40)
@given(
    dimensions=st.integers(0, 3),
    affine=st.booleans(),
    tracking=st.booleans(),
    momentum=st.none() | st.floats(0.01, 0.5),
    dtype=st.sampled_from([torch.float32, torch.float64, torch.bfloat16]),
    seed=st.integers(0, 1000),
)
def test_equals_torch_bit_for_bit(
    dimensions: int, affine: bool, tracking: bool, momentum: float | None, dtype: torch.dtype, seed: int
) -> None:
    torch.manual_seed(seed)
    plain = NORMS[max(dimensions - 1, 0)](
        3, affine=affine, momentum=momentum, track_running_stats=tracking, dtype=dtype
    )
    if affine:
        nn.init.normal_(plain.weight)
        nn.init.normal_(plain.bias)
    branched = BranchedBatchNorm(plain)
    for training in (True, True, False, True):
        x = (torch.randn(4, 3, *[2] * dimensions) * 3 + 1).to(dtype).requires_grad_()
        results = []
        for norm in (plain.train(training), branched.train(training)):
            y = norm(x)
            weights = [x, *norm.parameters()]
            results.append([y, *torch.autograd.grad(y.square().sum(), weights), *norm.buffers()])
        assert all(torch.equal(a, b) for a, b in zip(*results, strict=True))


@pytest.mark.parametrize("size", [1, 2, 6])
def test_passes_of_alike_views_move_statistics_as_far_as_one(size: int) -> None:
    one, several = BranchedBatchNorm(nn.BatchNorm1d(3)), BranchedBatchNorm(nn.BatchNorm1d(3))
    x = torch.randn(16, 3) * 3 + 1
    one(x)
    with moving_once(several, size):
        for _ in range(size):
            several(x)
    several(x)  # and by itself again afterwards
    one(x)
    torch.testing.assert_close(several.running_mean, one.running_mean)
    torch.testing.assert_close(several.running_var, one.running_var)


# BatchNorm with a folded activation, with dropout's place, with squeeze and excitation, none at all.
TIMM = ["resnet18", "efficientnet_b0", "regnety_002", "densenet121", "vit_tiny_patch16_224"]


@pytest.mark.parametrize("name", TIMM)
def test_weights_move_to_and_from_timm(name: str) -> None:
    torch.manual_seed(0)
    kwargs: dict[str, Any] = {"img_size": 32} if name.startswith("vit") else {}
    plain = timm.create_model(name, num_classes=0, **kwargs).train()
    branched = branch_batchnorm(deepcopy(plain))
    assert list(plain.state_dict()) == list(branched.state_dict()), "names or their order changed"
    assert not any(type(m) is nn.BatchNorm2d or "BatchNormAct2d" in type(m).__name__ for m in branched.modules())
    x = torch.randn(4, 3, 32, 32)
    with without_noise(plain), without_noise(branched):
        for training in (True, False):
            a, b = plain.train(training)(x), branched.train(training)(x)
            assert torch.equal(a, b), f"training={training}"
    assert_same(plain.state_dict(), branched.state_dict())
    fresh = timm.create_model(name, num_classes=0, **kwargs)
    fresh.load_state_dict(branched.state_dict())
    assert torch.equal(fresh.eval()(x), branched.eval()(x))


def assert_same(a: dict[str, Tensor], b: dict[str, Tensor]) -> None:
    assert a.keys() == b.keys()
    for name, tensor in a.items():
        assert torch.equal(tensor, b[name]), name


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(5, 4), nn.BatchNorm1d(4), nn.ReLU(), nn.Linear(4, 3), nn.BatchNorm1d(3))


def test_branches_are_independent() -> None:
    module = network()
    branch_batchnorm(module)
    add_adversarial_branch(module)
    clean, attacked = torch.randn(8, 5), torch.randn(8, 5) * 3 + 2
    reference = deepcopy(module)
    with normalising(module, "adversarial", True):
        module(attacked).square().sum().backward()
    for name, tensor in reference.named_buffers():
        moved = not torch.equal(tensor, dict(module.named_buffers())[name])
        assert moved == ("adversarial" in name), name
    for name, parameter in module.named_parameters():
        if ".weight" in name or ".bias" in name:
            norm = name.startswith(("1.", "4."))
            assert (parameter.grad is None) == (norm and "adversarial" not in name), name
    with normalising(module, "main", True):
        main = module(clean)
    assert torch.equal(main, reference(clean)), "attacked views moved the main branch"


def test_the_adversarial_branch_starts_as_a_copy() -> None:
    module = network()
    branch_batchnorm(module)
    module(torch.randn(8, 5))
    add_adversarial_branch(module)
    x = torch.randn(8, 5)
    outs = []
    for branch in ("main", "adversarial"):
        with normalising(module, branch, False):  # type: ignore[arg-type]
            outs.append(module(x))
    assert torch.equal(*outs)
    branched = module[1]
    assert isinstance(branched, BranchedBatchNorm) and branched.adversarial is not None
    assert branched.adversarial.weight is not branched.weight
    before = branched.adversarial
    add_adversarial_branch(module)
    assert module[1].adversarial is before, "a second call replaced what the first made"
    assert before.adversarial is None


def test_evaluation_uses_the_main_branch() -> None:
    module = network()
    branch_batchnorm(module)
    add_adversarial_branch(module)
    with normalising(module, "adversarial", True):
        module(torch.randn(8, 5) * 5)
    x = torch.randn(8, 5)
    module.eval()
    with normalising(module, "adversarial", True):
        as_attacked = module(x)
    assert torch.equal(as_attacked, module(x))


def test_normalising_nests_and_survives_errors() -> None:
    module = network()
    branch_batchnorm(module)
    norms = [m for m in module.modules() if isinstance(m, BranchedBatchNorm)]
    with pytest.raises(ZeroDivisionError), normalising(module, "main", False):
        with normalising(module, "adversarial", True):
            assert {(n.branch, n.update) for n in norms} == {("adversarial", True)}
        assert {(n.branch, n.update) for n in norms} == {("main", False)}
        raise ZeroDivisionError
    assert {(n.branch, n.update) for n in norms} == {("main", True)}


def test_held_statistics_stay() -> None:
    module = network()
    branch_batchnorm(module)
    before = deepcopy(module.state_dict())
    with normalising(module, "main", False):
        held = module(torch.randn(8, 5))
    assert held.std() > 0
    assert_same(before, module.state_dict())


def test_frozen_and_shared_norms_stay_so() -> None:
    """A momentum encoder's weights take no gradient, and a norm with two names stays one."""
    frozen = branch_batchnorm(network().requires_grad_(False))
    add_adversarial_branch(frozen)
    assert not any(parameter.requires_grad for parameter in frozen.parameters())
    shared = nn.BatchNorm1d(4)
    module = nn.ModuleDict({"a": nn.Sequential(shared), "b": nn.Sequential(shared, nn.ReLU())})
    branch_batchnorm(module)
    assert module["a"][0] is module["b"][0]
    assert isinstance(module["a"][0], BranchedBatchNorm)


def test_a_lone_norm_is_returned() -> None:
    norm = branch_batchnorm(nn.BatchNorm1d(3))
    assert isinstance(norm, BranchedBatchNorm)
    assert branch_batchnorm(norm) is norm


def test_activations_with_weights_keep_their_names() -> None:
    plain = timm.layers.BatchNormAct2d(3, act_layer=nn.PReLU)
    branched = branch_batchnorm(deepcopy(plain))
    add_adversarial_branch(branched)
    main = {name: t for name, t in branched.state_dict().items() if "adversarial" not in name}
    assert_same(dict(plain.state_dict()), main)
    names = [name for name, _ in branched.named_parameters(remove_duplicate=False)]
    assert names.count("act.weight") == 1
    assert not any(name.startswith("adversarial.act") for name in names)
    x = torch.randn(4, 3, 2, 2)
    with normalising(branched, "adversarial", True):
        assert torch.equal(branched(x), plain(x))
