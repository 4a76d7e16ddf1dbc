"""GPUs by NVIDIA's management library: number, names, memory, driver."""

from collections.abc import Iterator
from pathlib import Path

from hardviews.doctor.finding import Finding, missing, ok, skipped
from hardviews.doctor.probe import MACHINE, Probe
from hardviews.doctor.settings import Doctor

DRIVER = Path("/proc/driver/nvidia/version")
"""File that exists while NVIDIA's driver is loaded."""


def look(settings: Doctor) -> Iterator[Finding]:
    """List the GPUs of the driver."""
    import pynvml

    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError as error:
        if not DRIVER.exists():
            yield skipped("GPU", "this machine has no NVIDIA driver; training here runs on the CPU")
            return
        yield missing(
            "GPU",
            f"NVIDIA's driver is loaded, but its library does not answer ({error})",
            "Run nvidia-smi. Start a container with --gpus all. Reboot after an update of the driver.",
        )
        return
    try:
        count = pynvml.nvmlDeviceGetCount()
        if not count:
            yield missing("GPU", "the driver sees no GPU", "Run nvidia-smi. Start a container with --gpus all.")
            return
        yield ok("GPU", f"{count}: {'; '.join(_described(pynvml, number) for number in range(count))}")
        yield ok("driver", f"{_text(pynvml.nvmlSystemGetDriverVersion())}, for CUDA up to {in_words(cuda_of_driver())}")
    finally:
        pynvml.nvmlShutdown()


def cuda_of_driver() -> tuple[int, int] | None:
    """Return the newest version of CUDA that the driver supports; None if there is no driver."""
    import pynvml

    try:
        pynvml.nvmlInit()
        try:
            number = int(pynvml.nvmlSystemGetCudaDriverVersion_v2())
        finally:
            pynvml.nvmlShutdown()
    except pynvml.NVMLError:
        return None
    return number // 1000, number % 1000 // 10


def in_words(version: tuple[int, int] | None) -> str:
    """Return a version as it is written."""
    return ".".join(map(str, version)) if version else "unknown"


def _described(pynvml, number: int) -> str:  # type: ignore[no-untyped-def]
    handle = pynvml.nvmlDeviceGetHandleByIndex(number)
    memory = pynvml.nvmlDeviceGetMemoryInfo(handle)
    free = f"{memory.free / 2**30:.0f} of {memory.total / 2**30:.0f} GiB free"
    return f"{_text(pynvml.nvmlDeviceGetName(handle))}, {free}"


def _text(value: str | bytes) -> str:
    return value.decode() if isinstance(value, bytes) else value


PROBE = Probe("GPU", MACHINE, look)
