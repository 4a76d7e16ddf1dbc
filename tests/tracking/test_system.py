import time

import torch

from hardviews.tracking.system import SystemMetrics


def test_work_and_memory_are_seen():
    metrics = SystemMetrics()
    time.sleep(0.3)
    idle = metrics.sample()
    end = time.monotonic() + 0.3
    while time.monotonic() < end:
        sum(range(1000))
    busy = metrics.sample()
    assert idle["system/process_cpu_percentage"] < 0.5 * busy["system/process_cpu_percentage"]
    held = torch.ones(50_000_000)  # 200 MB
    more = metrics.sample()
    grown = more["system/process_memory_megabytes"] - busy["system/process_memory_megabytes"]
    assert 150 < grown < 300, held.shape
