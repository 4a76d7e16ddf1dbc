import mmap
import time

import pytest
import torch

from hardviews.tracking.system import SystemMetrics

HELD = 200_000_000


def test_work_and_memory_are_seen():
    metrics = SystemMetrics()
    time.sleep(0.3)
    idle = metrics.sample()
    end = time.monotonic() + 0.3
    while time.monotonic() < end:
        sum(range(1000))
    busy = metrics.sample()
    assert idle["system/process_cpu_percentage"] < 0.5 * busy["system/process_cpu_percentage"]
    # Straight from the kernel: an allocator may reuse memory of the process.
    with mmap.mmap(-1, HELD) as held:
        for page in range(0, HELD, mmap.PAGESIZE):
            held[page] = 1
        more = metrics.sample()
    grown = more["system/process_memory_megabytes"] - busy["system/process_memory_megabytes"]
    assert 150 < grown < 300


@pytest.fixture
def gpu(monkeypatch):
    """A GPU that there is none of: 40 MB of 100 are taken."""
    fakes = {"is_available": True, "current_device": 0, "mem_get_info": (60e6, 100e6), "max_memory_reserved": 30e6}
    for name, value in fakes.items():
        monkeypatch.setattr(torch.cuda, name, lambda *_, value=value: value)


def test_a_gpus_memory_and_how_busy_it_is_are_seen(gpu, monkeypatch):
    monkeypatch.setattr(torch.cuda, "utilization", lambda device: 87)
    metrics = SystemMetrics().sample()
    assert metrics["system/gpu_utilization_percentage"] == 87.0
    assert metrics["system/gpu_memory_usage_megabytes"] == 40.0 and metrics["system/gpu_memory_peak_megabytes"] == 30.0


@pytest.mark.parametrize("error", [ModuleNotFoundError("pynvml"), RuntimeError("Not Supported")], ids=repr)
def test_a_driver_that_does_not_say_how_busy_a_gpu_is_is_asked_once(gpu, monkeypatch, error):
    asked = []

    def refuse(device):
        asked.append(device)
        raise error

    monkeypatch.setattr(torch.cuda, "utilization", refuse)
    system = SystemMetrics()
    for _ in range(2):
        metrics = system.sample()
        assert "system/gpu_memory_usage_megabytes" in metrics and "system/gpu_utilization_percentage" not in metrics
    assert asked == [0]


def test_without_a_gpu_there_is_no_figure_of_one(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert not [name for name in SystemMetrics().sample() if "gpu" in name]
