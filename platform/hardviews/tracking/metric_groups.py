"""Names of a training's metrics in MLflow: its page of charts sorts groups by name, and shows metrics without one last.

So the most important groups begin with a digit, and counters have names late in the alphabet. Scores (`eval/`,
`health/`, `online/`) lie between. The run's own `history.jsonl` keeps the plain names.
"""

from collections.abc import Mapping
from typing import TypeVar

T = TypeVar("T")

LOSS = "1_loss/loss"
"""The first chart: the loss that is minimised."""

# Group by plain name, for metrics and for families of them (`family/member`).
_METRICS = {
    "loss": "1_loss",
    "spread": "1_loss",
    "learning_rate": "4_rates",
    "images_per_second": "4_rates",
    "data_wait": "4_rates",
    "checkpoint_stall": "4_rates",
    "monitor_stall": "4_rates",
    "epoch": "run",
    "restarts": "run",
    "world_size": "run",
    "checkpoint_seconds": "run",
    "checkpoint_failures": "run",
}
_FAMILIES = {
    "loss": "1_loss",
    "hardness": "2_hardness",
    "selection": "2_hardness",
    "attack": "2_hardness",
    "flipped": "2_hardness",
    "margin": "2_hardness",
    "overlap": "3_pairs",
    "centre_distance": "3_pairs",
    "colour_distance": "3_pairs",
    "data": "shards",
}
# Families with the name of their group, which is not repeated.
_PLAIN = ("hardness", "data")


def grouped(name: str) -> str:
    """Return a metric's name in MLflow; without a group it keeps its name."""
    family, slash, member = name.partition("/")
    if not slash:
        return f"{_METRICS[name]}/{name}" if name in _METRICS else name
    if family not in _FAMILIES:
        return name
    return f"{_FAMILIES[family]}/{member}" if family in _PLAIN else f"{_FAMILIES[family]}/{family}_{member}"


def in_groups(values: Mapping[str, T]) -> dict[str, T]:
    """Return metrics by their names in MLflow, sorted: the overview lists them in the order of arrival."""
    return dict(sorted((grouped(name), value) for name, value in values.items()))
