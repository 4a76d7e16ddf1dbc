"""Double precision makes runs of different numbers of processes comparable."""

from dataclasses import replace
from pathlib import Path

import torch

from hardviews.models.encoder import load
from hardviews.strategies.strategy import Clean
from hardviews.train.precision import Precision
from hardviews.train.trainer import Trainer
from hardviews.world import World
from tests.laws.cases import build, make_batch
from tests.train.runs import everything, simclr, train


def test_every_weight_is_double() -> None:
    recipe = replace(everything(), precision=Precision(device="cpu", compute="float64"))
    trainer = Trainer(recipe, World(0, 1, torch.device("cpu")))
    assert {weight.dtype for weight in trainer.objective.parameters()} == {torch.float64}


def test_a_momentum_encoder_runs_in_double_precision_too() -> None:
    objective = build("byol", Clean())
    Precision(compute="float64").cast(objective, objective.method.backbone)
    batch = make_batch(objective)
    _, encoded = objective.pairwise(batch)
    assert {tensor.dtype for tensor in (*encoded.online.values(), *encoded.target.values())} == {torch.float64}


def test_a_run_in_double_precision_resumes_and_its_encoder_loads(data: str, untracked: Path) -> None:
    recipe = replace(simclr(epochs=1), precision=Precision(device="cpu", compute="float64"))
    whole = train(recipe, data, untracked / "whole")
    killed = train(recipe, data, untracked / "killed", dies=(3,))
    assert load(str(whole)).digest == load(str(killed)).digest
    features = load(str(whole)).embed(torch.zeros(2, 3, 16, 16, dtype=torch.uint8))
    assert features.dtype == torch.float32 and bool(features.isfinite().all())
