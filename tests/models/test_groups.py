"""Fixed-group BatchNorm equals torch's on each group, and moves running statistics by the mean over groups."""

from copy import deepcopy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from hardviews.models.batchnorm import BranchedBatchNorm, add_adversarial_branch, branch_batchnorm, grouped, normalising
from hardviews.models.groups import Groups


def made(dimensions: int, affine: bool, momentum: float | None, dtype: torch.dtype) -> nn.modules.batchnorm._BatchNorm:
    kind = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)[max(dimensions - 1, 0)]
    plain = kind(3, affine=affine, momentum=momentum, dtype=dtype)
    if affine:
        nn.init.normal_(plain.weight)
        nn.init.normal_(plain.bias)
    return plain


@settings(deadline=None, max_examples=60)
@given(
    dimensions=st.integers(0, 3),
    count=st.integers(1, 4),
    size=st.integers(2, 4),
    affine=st.booleans(),
    momentum=st.none() | st.floats(0.01, 0.5),
    dtype=st.sampled_from([torch.float32, torch.float64, torch.bfloat16]),
    shuffled=st.booleans(),
    seed=st.integers(0, 1000),
)
def test_equals_torch_on_each_group(
    dimensions: int,
    count: int,
    size: int,
    affine: bool,
    momentum: float | None,
    dtype: torch.dtype,
    shuffled: bool,
    seed: int,
) -> None:
    torch.manual_seed(seed)
    plain = made(dimensions, affine, momentum, dtype)
    branched = BranchedBatchNorm(plain)
    position = torch.randperm(count * size) if shuffled else torch.arange(count * size)
    for _ in range(2):
        x = (torch.randn(count * size, 3, *[2] * dimensions) * 3 + 1).to(dtype).requires_grad_()
        with grouped(branched, Groups(len(x), size, position + 40)):
            y = branched(x)
        alone = [deepcopy(plain) for _ in range(count)]
        wanted = torch.empty_like(x)
        for g, norm in enumerate(alone):
            rows = position.argsort()[g * size : (g + 1) * size]
            wanted = wanted.index_copy(0, rows, norm(x[rows]))
        close = {"rtol": 2e-2, "atol": 2e-2} if dtype == torch.bfloat16 else {"rtol": 1e-4, "atol": 1e-4}
        torch.testing.assert_close(y, wanted, **close)
        if dtype != torch.bfloat16:
            (got,), (want,) = (torch.autograd.grad(out.sin().sum(), [x]) for out in (y, wanted))
            torch.testing.assert_close(got, want, rtol=1e-3, atol=1e-3)
        for name in ("running_mean", "running_var"):
            mean = torch.stack([getattr(norm, name).double() for norm in alone]).mean(0)
            torch.testing.assert_close(getattr(branched, name).double(), mean, **close)
            getattr(plain, name).copy_(getattr(branched, name))
        assert plain.num_batches_tracked is not None
        plain.num_batches_tracked.add_(1)
        assert branched.num_batches_tracked == plain.num_batches_tracked


def test_one_group_is_torch_bit_for_bit() -> None:
    torch.manual_seed(0)
    plain = made(2, True, 0.1, torch.float32)
    branched = BranchedBatchNorm(plain)
    x = torch.randn(6, 3, 4, 4).contiguous(memory_format=torch.channels_last)
    with grouped(branched, Groups(6, 6, torch.arange(6))):
        y = branched(x)
    assert torch.equal(y, plain(x))
    assert y.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(branched.running_var, plain.running_var, rtol=1e-6, atol=0)


def test_several_rows_a_sample_stay_together() -> None:
    """If a network makes several rows of each image, such as patches, a group holds the rows of its images."""
    torch.manual_seed(0)
    norm = BranchedBatchNorm(nn.BatchNorm1d(3))
    x = torch.randn(4 * 5, 3)
    position = torch.tensor([3, 0, 2, 1])
    with grouped(norm, Groups(4, 2, position)):
        y = norm(x).unflatten(0, (4, 5))
    images = x.unflatten(0, (4, 5))
    for rows in ([1, 3], [2, 0]):
        wanted = nn.BatchNorm1d(3)(images[rows].flatten(0, 1)).unflatten(0, (2, 5))
        torch.testing.assert_close(y[rows], wanted)


def test_what_is_no_whole_group_is_refused() -> None:
    with pytest.raises(ValueError, match="7 samples are no whole groups of 4"):
        Groups(7, 4)
    norm = BranchedBatchNorm(nn.BatchNorm1d(3))
    with pytest.raises(ValueError, match="6 rows"), grouped(norm, Groups(4, 2)):
        norm(torch.randn(6, 3))
    assert norm.groups is None


def network() -> nn.Module:
    torch.manual_seed(0)
    module = branch_batchnorm(nn.Sequential(nn.Linear(5, 4), nn.BatchNorm1d(4), nn.ReLU(), nn.Linear(4, 3)))
    add_adversarial_branch(module)
    return module


def moved(module: nn.Module, before: dict[str, Tensor]) -> set[str]:
    return {name for name, tensor in module.state_dict().items() if not torch.equal(tensor, before[name])}


@pytest.mark.parametrize("branch", ["main", "adversarial"])
def test_branches_keep_groups_and_statistics_of_their_own(branch: str) -> None:
    module, x = network(), torch.randn(8, 5)
    before = deepcopy(module.state_dict())
    with normalising(module, branch, True), grouped(module, Groups(8, 4)):  # type: ignore[arg-type]
        y = module(x)
    names = {name for name in before if "running" in name or "tracked" in name}
    assert moved(module, before) == {name for name in names if ("adversarial" in name) == (branch == "adversarial")}
    torch.testing.assert_close(y, torch.cat([network()(x[:4]), network()(x[4:])]))


def test_held_statistics_stay() -> None:
    module = network()
    before = deepcopy(module.state_dict())
    with normalising(module, "main", False), grouped(module, Groups(8, 4)):
        module(torch.randn(8, 5))
    assert not moved(module, before)


def test_a_pass_that_fails_moves_nothing_later() -> None:
    module = network()
    statistics = {name: t.clone() for name, t in module.state_dict().items() if "running" in name}
    with pytest.raises(ZeroDivisionError), grouped(module, Groups(8, 4)):
        module(torch.randn(8, 5))
        raise ZeroDivisionError
    with grouped(module, Groups(8, 4)):
        pass
    assert all(torch.equal(module.state_dict()[name], tensor) for name, tensor in statistics.items())


def test_a_layer_called_twice_moves_twice() -> None:
    torch.manual_seed(0)
    norm, plain = BranchedBatchNorm(nn.BatchNorm1d(3)), nn.BatchNorm1d(3)
    first, second = torch.randn(2, 6, 3)
    with grouped(norm, Groups(6, 6)):
        norm(first)
        norm(second)
    plain(first)
    plain(second)
    torch.testing.assert_close(norm.running_mean, plain.running_mean)
    torch.testing.assert_close(norm.running_var, plain.running_var)


def test_evaluation_knows_no_groups() -> None:
    module = network()
    x = torch.randn(8, 5)
    with grouped(module, Groups(8, 4)):
        module(x)
    module.eval()
    with grouped(module, Groups(8, 4)):
        inside = module(x)
    assert torch.equal(inside, module(x))
    with grouped(module.train(), None):
        assert torch.equal(module(x), network()(x))
