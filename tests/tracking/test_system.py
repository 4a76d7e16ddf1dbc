import mmap
import time

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
    # Straight from the kernel: an allocator may hand out what the process holds already.
    with mmap.mmap(-1, HELD) as held:
        for page in range(0, HELD, mmap.PAGESIZE):
            held[page] = 1
        more = metrics.sample()
    grown = more["system/process_memory_megabytes"] - busy["system/process_memory_megabytes"]
    assert 150 < grown < 300
