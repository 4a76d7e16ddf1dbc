"""The process's use of the machine: processor, memory, GPU and its memory, from /proc and the GPU's driver."""

import logging
import os
import time

import torch

_PAGE = os.sysconf("SC_PAGE_SIZE")
_MEGABYTE = 1e6

logger = logging.getLogger(__name__)


class SystemMetrics:
    """Samples this process's use of the machine; by their names MLflow shows them as "System metrics"."""

    def __init__(self) -> None:
        self._cpu = _cpu_seconds()
        self._time = time.monotonic()
        self._busy = True  # whether the driver reports the GPU's utilisation, as far as known

    def sample(self) -> dict[str, float]:
        """Return the use since the last call: processor in per cent of one core, memory in megabytes."""
        cpu, now = _cpu_seconds(), time.monotonic()
        share = 100 * (cpu - self._cpu) / max(now - self._time, 1e-9)
        self._cpu, self._time = cpu, now
        metrics = {
            "system/process_cpu_percentage": share,
            "system/process_memory_megabytes": _resident_bytes() / _MEGABYTE,
        }
        if torch.cuda.is_available():
            device = torch.cuda.current_device()
            free, total = torch.cuda.mem_get_info(device)
            metrics["system/gpu_memory_usage_megabytes"] = (total - free) / _MEGABYTE
            metrics["system/gpu_memory_peak_megabytes"] = torch.cuda.max_memory_reserved(device) / _MEGABYTE
            metrics |= self._utilisation(device)
        return metrics

    def _utilisation(self, device: int) -> dict[str, float]:
        """Return the share of the last second or less in which the GPU was busy, in per cent; nothing if unknown.

        The driver does not report it for a part of a GPU (MIG), and not in every container. Then it is not read again.
        """
        if self._busy:
            try:
                return {"system/gpu_utilization_percentage": float(torch.cuda.utilization(device))}
            except Exception as error:  # a missing package, or NVML's own errors, which are many
                self._busy = False
                logger.info("system metrics: how busy the GPU is, is not known (%s: %s)", type(error).__name__, error)
        return {}


def _cpu_seconds() -> float:
    """Return the processor time of this process and of its ended children."""
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


def _resident_bytes() -> int:
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * _PAGE
