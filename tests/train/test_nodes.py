"""Figures of nodes: which one is slow."""

import pytest
import torch

from hardviews.train.meter import Meter
from hardviews.train.nodes import Nodes, by_node


def test_figures_of_a_nodes_processes_are_added_or_averaged() -> None:
    rows = [[0, 100.0, 10.0, 50.0, 1000.0, 0.0], [0, 120.0, 30.0, 50.0, 1000.0, 0.0], [1, 20.0, 0.0, 90.0, 500.0, 0.0]]
    assert by_node(rows) == {
        "system/node_0/backward_images_per_second": 220.0,
        "system/node_0/data_wait_percentage": 20.0,
        "system/node_0/cpu_percentage": 100.0,
        "system/node_0/memory_megabytes": 2000.0,
        "system/node_1/backward_images_per_second": 20.0,
        "system/node_1/data_wait_percentage": 0.0,
        "system/node_1/cpu_percentage": 90.0,
        "system/node_1/memory_megabytes": 500.0,
    }  # no GPU anywhere, so no figure of one


def test_a_process_alone_reports_the_meter_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    meter = Meter(torch.device("cpu"))
    meter.add("loss/clean", torch.tensor([1.0, 3.0]))
    nodes = Nodes(meter, 16, lambda: 1.0, lambda: 0.5)
    assert nodes.report() == {"loss/clean": 2.0} and nodes.metrics() == {}


def test_the_meter_carries_other_numbers_and_its_checkpoint_does_not() -> None:
    meter = Meter(torch.device("cpu"))
    meter.add("a", torch.tensor([1.0, 3.0]))
    assert {name: table.tolist() for name, table in meter.to_tensors().items()} == {"a": [[4.0, 2.0]]}
    assert meter.report([7.0, 0.5]) == {"a": 2.0} and meter.by_rank == [[7.0, 0.5]]
    assert meter.report([7.0]) == {} and meter.by_rank == []
