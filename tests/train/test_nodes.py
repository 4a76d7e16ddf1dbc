"""Figures of nodes: which one is slow."""

import pytest
import torch

from hardviews.train.meter import Meter
from hardviews.train.nodes import Nodes, by_node


def test_figures_of_a_nodes_processes_are_added_or_averaged() -> None:
    rows = [[0, 100.0, 10.0, 50.0, 1000.0], [0, 120.0, 30.0, 50.0, 1000.0], [1, 20.0, 0.0, 90.0, 500.0]]
    rows = [[*row, 0.0, 0.0] for row in rows]
    assert by_node(rows) == {
        "system/backward_images_per_second/node_0": 220.0,
        "system/backward_images_per_second/node_1": 20.0,
        "system/data_wait_percentage/node_0": 20.0,
        "system/data_wait_percentage/node_1": 0.0,
        "system/cpu_percentage/node_0": 100.0,
        "system/cpu_percentage/node_1": 90.0,
        "system/memory_megabytes/node_0": 2000.0,
        "system/memory_megabytes/node_1": 500.0,
        "system/slowest_node": 1.0,
        "system/slowest_node_speed": 20 / 120,
    }  # no GPU anywhere, so no figure of one


def test_every_nodes_gpus_are_seen() -> None:
    """Memory of a node's GPUs is added; how busy they are is averaged."""
    rows = [[0, 1, 1, 1, 1, 4000.0, 90.0], [0, 1, 1, 1, 1, 4000.0, 70.0], [1, 1, 1, 1, 1, 3000.0, 0.0]]
    found = {name: value for name, value in by_node(rows).items() if "gpu" in name}
    assert found == {
        "system/gpu_memory_megabytes/node_0": 8000.0,
        "system/gpu_memory_megabytes/node_1": 3000.0,
        "system/gpu_utilization_percentage/node_0": 80.0,
        "system/gpu_utilization_percentage/node_1": 0.0,
    }


def test_speeds_that_are_not_known_name_no_node() -> None:
    assert not [name for name in by_node([[0, 0.0, 1, 1, 1, 0, 0], [1, 9.0, 1, 1, 1, 0, 0]]) if "slowest" in name]


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
