"""The contract of a method: the parts of which one of two must be written."""

from collections.abc import Callable
from typing import Any

import pytest
import torch

from hardviews.methods.method import Method
from hardviews.strategies.strategy import Clean
from hardviews.views.plan import Pair, Plan
from tests.laws.cases import build, make_batch


class Unwritten(Method):
    def plan(self) -> Plan:
        return Plan(())

    def pairs(self) -> tuple[Pair, ...]:
        return ()


@pytest.mark.parametrize(
    ("call", "either"),
    [
        (lambda method, batch, pair: method.embed(torch.zeros(1)), "embed nor encode"),
        (lambda method, batch, pair: method.pair_loss(batch, None, None, pair), "pair_loss nor pair_losses"),
        (
            lambda method, batch, pair: method.pair_losses(batch, {pair.online: 0}, {pair.target: 0}, [pair]),
            "pair_loss nor pair_losses",
        ),
    ],
    ids=["embed", "pair_loss", "pair_losses"],
)
def test_a_method_that_lacks_a_part_names_it(call: Callable[..., Any], either: str) -> None:
    objective = build("simsiam", Clean())
    with pytest.raises(NotImplementedError, match=f"Unwritten defines neither {either}"):
        call(Unwritten(), make_batch(objective), objective.pairs[0])
