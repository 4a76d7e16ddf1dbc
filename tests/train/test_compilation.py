"""Compiled networks compute the same as without torch.compile, and are compiled in the first step alone.

In double precision, since a choice (the hardest pair, the sign of a gradient) makes large differences of small ones.
"""

import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch._dynamo.utils import counters

from hardviews.elastic.worker import Phase
from hardviews.errors import UserError
from hardviews.models.activation_checkpointing import checkpoint_activations
from hardviews.models.encoder import load
from hardviews.objective.objective import Objective
from hardviews.runs.where import Where
from hardviews.strategies.hard_views import HardViews
from hardviews.strategies.strategy import Strategy
from hardviews.train.compilation import compile_networks
from hardviews.train.loop import pretrain
from hardviews.train.precision import Precision
from hardviews.train.trainer import StepReport, Trainer
from hardviews.world import World
from tests.laws.cases import STRATEGIES, build, make_batch, state, train_step
from tests.train.runs import dying, simclr, train

BEST = "inductor" if shutil.which("g++") else "aot_eager"
CPU = torch.device("cpu")
HARD: dict[str, Strategy] = {
    "clean": STRATEGIES["clean"],
    "exact": HardViews(4),
    "cheap": HardViews(4, size=8),
    "hexa": STRATEGIES["hexa"],
    "along_clean": STRATEGIES["along_clean"],
}


def steps(objective: Objective, number: int) -> tuple[list[float], list[int]]:
    """Return the losses of a few whole steps, and how many graphs there were after each."""
    Precision(device="cpu", compute="float64").cast(objective, objective.method.backbone)
    losses, graphs = [], []
    for step in range(number):
        torch.manual_seed(step)
        losses.append(float(train_step(objective, make_batch(objective, first=8 * step, step=step))))
        graphs.append(counters["stats"]["unique_graphs"])
    return losses, graphs


def compiled(objective: Objective, backend: str) -> Objective:
    torch._dynamo.reset()
    counters.clear()
    compile_networks(objective.method, objective.strategy.reads_clean_gradient, backend)
    return objective


def assert_same(
    method: str, network: str, strategy: Strategy, backend: str, number: int = 3, saves: bool = False
) -> None:
    plain, other = build(method, strategy, network), build(method, strategy, network)
    if saves:
        checkpoint_activations(other.method.backbone)
    wanted, _ = steps(plain, number)
    found, graphs = steps(compiled(other, backend), number)
    assert found == pytest.approx(wanted, rel=1e-9, abs=1e-9)
    before, after = state(plain), state(other)
    assert list(before) == list(after)
    for name in before:
        torch.testing.assert_close(before[name], after[name], rtol=1e-7, atol=1e-9, msg=name)
    assert graphs[0] > 0 and graphs == graphs[:1] * number, "networks were compiled again after the first step"
    assert not counters["graph_break"]


def test_a_compiled_step_is_the_same() -> None:
    assert_same("simsiam", "batchnorm", STRATEGIES["clean"], "eager", number=2)


def test_the_watchdog_hears_of_each_compilation(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of those in a backward pass too, and no longer than they take."""
    phases: list[Phase | None] = []

    @contextmanager
    def doing(phase: Phase) -> Iterator[None]:
        phases.append(phase)
        yield
        phases.append(None)

    monkeypatch.setattr("hardviews.train.compilation.doing", doing)
    objective = compiled(build("simsiam", STRATEGIES["clean"], "batchnorm"), "eager")
    assert not phases
    steps(objective, 1)
    assert len(phases) >= 4 and phases == [Phase.COMPILE, None] * (len(phases) // 2)
    before = len(phases)
    train_step(objective, make_batch(objective, first=8, step=1))
    assert len(phases) == before


def test_a_copy_of_a_compiled_head_is_a_plain_one() -> None:
    """As the monitor makes it."""
    objective = compiled(build("simsiam", STRATEGIES["clean"], "batchnorm"), "eager")
    head = objective.method.exported_head
    assert head is not None
    made = deepcopy(head).float().eval()(torch.rand(4, 12))
    assert counters["stats"]["unique_graphs"] == 0 and made.shape == (4, 16)


def test_a_run_goes_on_with_and_without() -> None:
    recipe = simclr()
    assert recipe.digest() == replace(recipe, training=replace(recipe.training, compile=True)).digest()


@pytest.mark.parametrize("variable", ["CXX", "PATH"])
def test_a_machine_without_a_compiler_is_refused(variable: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CXX", raising=False)
    monkeypatch.setenv(variable, "/nowhere")
    with pytest.raises(UserError, match=r"training.compile needs a compiler for code of the cpu"):
        Trainer(simclr(compile=True), World(0, 1, CPU))


@pytest.mark.laws
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("strategy", HARD)
@pytest.mark.parametrize(
    ("method", "network"),
    [
        ("simsiam", "batchnorm"),
        ("simclr", "batchnorm"),
        ("moco", "batchnorm"),
        ("dino", "batchnorm"),
        ("dino", "vit"),
        ("ibot", "vit"),
    ],
)
def test_steps_are_the_same(method: str, network: str, strategy: str) -> None:
    # torch compiles apart for no row and for one row: iBOT needs views with more than one patch.
    chosen = HardViews(4, size=16) if (method, strategy) == ("ibot", "cheap") else HARD[strategy]
    assert_same(method, network, chosen, BEST)


@pytest.mark.laws
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("strategy", ["hexa", "along_clean"])
def test_steps_are_the_same_with_activation_checkpointing(strategy: str) -> None:
    assert_same("dino", "vit", HARD[strategy], BEST, saves=True)


@pytest.mark.parametrize("compiles", [True, False])
def test_a_compiled_training_says_that_its_first_steps_take_minutes(
    compiles: bool, data: str, untracked: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before the first step, and only if steps are left; then progress goes on as usual."""
    monkeypatch.setattr("hardviews.train.trainer.check_compiler", lambda device: None)
    monkeypatch.setattr("hardviews.train.trainer.compile_networks", lambda *_: None)
    plain_step = Trainer.step

    def step(trainer: Trainer, *given: Any) -> StepReport:
        print("a step", file=sys.stderr, flush=True)
        return plain_step(trainer, *given)

    monkeypatch.setattr(Trainer, "step", step)
    where = Where(data, str(untracked / "run"), str(untracked / "project"))
    for start in range(2):
        pretrain(simclr(epochs=1, compile=compiles), where)
        lines = capfd.readouterr().err.splitlines()
        wanted = compiles and start == 0
        assert lines.count("compiling the networks: the first steps take minutes") == wanted
        if wanted:
            assert lines.index("compiling the networks: the first steps take minutes") < lines.index("a step")
        if start == 0:
            assert any(line.startswith("epoch 1  100%  loss") for line in lines[lines.index("a step") :])


@pytest.mark.laws
@pytest.mark.timeout(3600)
def test_a_run_that_was_compiled_goes_on_without(data: str, untracked: Path) -> None:
    precision = Precision(device="cpu", compute="float64")
    plain, fast = (replace(simclr(epochs=1, compile=on), precision=precision) for on in (False, True))
    output = untracked / "changed"
    with dying(3):
        pretrain(fast, Where(data, str(output), str(untracked / "project")))
    train(plain, data, output)
    whole = load(str(train(plain, data, untracked / "whole"))).network.state_dict()
    for name, weight in load(str(output)).network.state_dict().items():
        torch.testing.assert_close(weight, whole[name], rtol=1e-5, atol=1e-6, msg=name)
