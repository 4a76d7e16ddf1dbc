"""The files of a run: its own record in the store, and its MLflow run."""

import json
import re
from itertools import pairwise
from typing import Any

import fsspec
import pytest
from mlflow.entities import Run
from mlflow.tracking import MlflowClient

from hardviews.tracking.metric_groups import grouped

PARENT = "mlflow.parentRunId"

ROUNDING = 1e-4
"""How far a loss may part, relative, when other numbers of processes take the same steps from the same checkpoint."""


class Output:
    """The folder of a run in the store."""

    def __init__(self, files: fsspec.AbstractFileSystem, url: str) -> None:
        self._files = files
        self._folder = url.removeprefix("s3://")

    def _read(self, name: str) -> bytes:
        return bytes(self._files.cat_file(f"{self._folder}/{name}"))

    def step(self) -> int:
        """The step of the newest whole checkpoint; 0 before there is one."""
        # One listing: a glob would look into folders that may be removed meanwhile.
        names = self._files.find(f"{self._folder}/checkpoints")
        steps = [re.search(r"/step-(\d+)/manifest\.json$", name) for name in names]
        return max((int(step[1]) for step in steps if step), default=0)

    def lives(self) -> list[dict[str, Any]]:
        """The starts of its training, the first one first."""
        files = sorted(self._files.glob(f"{self._folder}/lives/*.json"))
        return [json.loads(self._files.cat_file(file)) for file in files]

    def rows(self) -> list[dict[str, float]]:
        """The reports of the steps of a run that is done."""
        return reports(self._read("history.jsonl"))

    def dataset(self, data: str) -> dict[str, Any]:
        """The index of the training part of a dataset in the same store."""
        found = json.loads(self._files.cat_file(f"{data.removeprefix('s3://')}/train/index.json"))
        return dict(found)


def pretraining_runs(client: MlflowClient) -> list[Run]:
    """The runs that are children of none."""
    experiments = [experiment.experiment_id for experiment in client.search_experiments()]
    return [run for run in client.search_runs(experiments) if PARENT not in run.data.tags]


def reports(history: bytes | str) -> list[dict[str, float]]:
    """The rows that steps made: the untrained network is measured too, before the first one."""
    return [row for row in map(json.loads, history.splitlines()) if "loss" in row]


def children(client: MlflowClient, parent: Run) -> list[Run]:
    return list(client.search_runs([parent.info.experiment_id], f"tags.`{PARENT}` = '{parent.info.run_id}'"))


def series(client: MlflowClient, run: Run, metric: str) -> list[tuple[int, float]]:
    """A metric's steps and values in the order in which the server got them."""
    return [(entry.step, entry.value) for entry in client.get_metric_history(run.info.run_id, grouped(metric))]


def check_reports(client: MlflowClient, run: Run, rows: list[dict[str, float]], lives: list[dict[str, Any]]) -> None:
    """Every step's loss was logged once, in order, and is the one that the run's own record has.

    A step that was rolled back keeps the value that was logged first. If the lives from that report to the
    record's had other numbers of processes, both values differ by rounding. Otherwise they are equal.
    """
    reports = {step: int(number) for step, number in series(client, run, "restarts")}
    logged = series(client, run, "loss")
    assert [step for step, _ in logged] == list(reports)
    assert all(before < after for before, after in pairwise(reports))
    assert len(logged) == len(rows)
    for (step, value), row in zip(logged, rows, strict=True):
        first, last = reports[step], int(row["restarts"])
        worlds = {life["world"] for life in lives if first <= life["number"] - 1 <= last}
        rounding = ROUNDING if len(worlds) > 1 else 0.0
        assert value == pytest.approx(row["loss"], rel=rounding, abs=0.0), (step, first, last, worlds)


def parting(rows: list[dict[str, float]], others: list[dict[str, float]], metric: str) -> float:
    """The largest relative difference of a metric between two runs with the same steps."""
    assert [row["step"] for row in rows] == [row["step"] for row in others]
    pairs = [(row[metric], other[metric]) for row, other in zip(rows, others, strict=True) if metric in row]
    assert pairs
    return max(abs(a - b) / abs(b) for a, b in pairs)
