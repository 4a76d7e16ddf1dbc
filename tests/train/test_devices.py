"""A step on a device that is not the CPU: no operation mixes both, and the CPU waits once, to read the loss."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from hardviews.clock import Clock
from hardviews.data.counters import Counters
from hardviews.recipes import digits, recipe_named
from hardviews.train.loader import RawBatch
from hardviews.train.meter import Meter
from hardviews.train.precision import Precision
from hardviews.train.trainer import Trainer
from hardviews.views.params import draw
from hardviews.world import World
from tests.elsewhere import ELSEWHERE, Mixed, elsewhere
from tests.laws.cases import STRATEGIES

BATCH, GROUP, SIDE = 8, 4, 48
# Views carry masks whose patches are taken out, as many as there are.
WAITING = {"digits_ibot"}
METHODS = [
    digits.digits,
    digits.digits_simsiam,
    digits.digits_byol,
    digits.digits_vicreg,
    digits.digits_barlowtwins,
    digits.digits_moco,
    digits.digits_swav,
    digits.digits_dino,
    digits.digits_ibot,
    digits.digits_hexa_dcluster,
]


def step_twice(recipe, device, waits=None):
    """Return the losses of two steps on canvases, and the trainer with the last report; `waits` are the last step's."""
    training = replace(recipe.training, batch=BATCH, group=GROUP)
    recipe = replace(recipe, training=training, precision=Precision("cpu", "float32"))
    trainer = Trainer(recipe, World(0, 1, device))
    trainer.objective.method.allocate(128)
    plan, position = trainer.objective.plan, torch.arange(BATCH)
    rows = {}
    for slot in plan.candidates:
        augmentation, number = plan.pool(slot.pool).augmentation, plan.view_number(slot)
        drawn = draw(augmentation, 0, 0, position.numpy(), number, *np.full((2, BATCH), SIDE))
        rows[slot] = torch.from_numpy(drawn)
    canvas = torch.randint(0, 256, (BATCH, 3, SIDE, SIDE), generator=torch.Generator().manual_seed(0)).byte()
    raw = RawBatch(BATCH, position, position, position, rows, {None: canvas}, Counters())
    reports = []
    for number in range(2):
        if waits is not None:
            waits.clear()  # the first step copies constants to the device, which stay there
        reports.append(trainer.step([raw], Clock(0, 0, number, number * BATCH, 1000), stop=False))
    return [report.loss for report in reports], trainer, reports[-1]


def check(recipe):
    expected, *_ = step_twice(recipe, torch.device("cpu"))
    with elsewhere() as waits:
        found, trainer, report = step_twice(recipe, ELSEWHERE, waits)
        in_step = dict(waits)
        meter = Meter(ELSEWHERE)
        meter.add_losses(report.losses, trainer.objective.pairs)
        assert meter.report()
    # Sums may be made in another order, by the layout of the memory.
    assert found == pytest.approx(expected, rel=1e-5, abs=1e-5)
    # The loss and the counts, to the device and back.
    allowed = {"copy from the CPU": 1, "copy to the CPU": 1}
    if recipe.name in WAITING:
        in_step = {name: number for name, number in in_step.items() if name in allowed}
    assert in_step == allowed


@pytest.mark.parametrize("recipe", [function() for function in METHODS], ids=lambda recipe: recipe.name)
def test_a_step_of_every_method_mixes_no_devices(recipe):
    check(recipe)


@pytest.mark.parametrize("name", [name for name in STRATEGIES if name not in ("clean", "hard_views")])
def test_a_step_of_every_strategy_mixes_no_devices(name):
    check(replace(recipe_named("digits_simsiam"), strategy=STRATEGIES[name]))


def test_mixed_devices_are_noticed():
    with elsewhere() as waits:
        there = torch.ones(3, device=ELSEWHERE)
        for wrong in (
            lambda: there + torch.ones(3),
            lambda: torch.cat([there, torch.ones(2)]),
            lambda: torch.stack([there[0], torch.tensor(1.0)]),
            lambda: torch.ones(3)[torch.zeros(1, dtype=torch.int64, device=ELSEWHERE)],
            lambda: there.index_select(0, torch.zeros(1, dtype=torch.int64)),
        ):
            with pytest.raises(Mixed):
                wrong()
        assert (there * torch.tensor(2.0)).tolist() == [2, 2, 2]
        assert there[torch.tensor([0, 2])].sum().item() == 2
        assert dict(waits) == {"copy to the CPU": 1, "_local_scalar_dense": 1}
        waits.clear()
        torch.ones(2).to(ELSEWHERE, non_blocking=True)
        assert not waits
        torch.ones(2).to(ELSEWHERE)
        assert there[there > 0].shape == (3,)
        assert dict(waits) == {"copy from the CPU": 1, "boolean index": 1}
