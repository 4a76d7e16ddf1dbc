"""BatchNorm over two processes equals one: values, gradients, running statistics, whatever the shares."""

from typing import Any

import pytest
import torch

from tests.distributed.collectives import Norm, normalised
from tests.distributed.pair import Pair

CASES = {
    "rows": Norm({}, (6, 3), (3, 3)),
    "unequal": Norm({}, (6, 3), (1, 5)),
    "images": Norm({}, (6, 3, 4, 5), (4, 2)),
    "volumes": Norm({}, (3, 2, 2, 3, 4), (2, 1)),
    "cumulative": Norm({"momentum": None}, (6, 3), (4, 2)),
    "slow": Norm({"momentum": 0.01, "eps": 1e-3}, (6, 3), (4, 2)),
    "plain": Norm({"affine": False}, (6, 3), (4, 2)),
    "untracked": Norm({"track_running_stats": False}, (6, 3), (4, 2)),
    "adversarial": Norm({}, (6, 3), (4, 2), branch="adversarial"),
    "held": Norm({}, (6, 3), (4, 2), update=False),
    "single": Norm({}, (64, 3, 8, 8), (40, 24), torch.float32),
}


@pytest.mark.parametrize("name", CASES)
def test_two_processes_equal_one(pair: Pair, name: str) -> None:
    case = CASES[name]
    both, alone = pair.run(normalised, case), normalised(case)
    close: dict[str, Any] = {"rtol": 1e-11, "atol": 1e-12}
    if case.dtype == torch.float32:
        close = {"rtol": 1e-4, "atol": 1e-5}
    for key, wanted in alone.items():
        first, second = (rank[key] for rank in both)
        if key.startswith("rows"):
            torch.testing.assert_close(torch.cat([first, second]), wanted, **close)
        elif key.startswith("summed"):
            # DDP averages the gradients of the ranks; here the shares are summed by hand.
            torch.testing.assert_close(first + second, wanted, **close)
        else:
            assert torch.equal(first, second), f"{key} differs between ranks"
            torch.testing.assert_close(first, wanted, **close)
