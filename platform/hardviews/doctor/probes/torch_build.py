"""torch: its version, its version of CUDA, whether driver and GPUs support it, NCCL."""

import warnings
from collections.abc import Iterator
from typing import Any

from hardviews.doctor.finding import Finding, missing, ok, warning
from hardviews.doctor.probe import MACHINE, Probe
from hardviews.doctor.probes.gpus import DRIVER, cuda_of_driver, in_words
from hardviews.doctor.settings import Doctor
from hardviews.launch.address_space import check_address_space


def look(settings: Doctor) -> Iterator[Finding]:
    """Import torch, and compare its build with the driver."""
    check_address_space("pretrain")
    import torch

    wanted = torch.version.cuda
    if wanted is None:
        yield from _without_cuda(torch)
        return
    yield ok("torch", f"{torch.__version__}, built for CUDA {wanted}")
    needed = tuple(int(part) for part in wanted.split(".")[:2])
    driver = cuda_of_driver()
    if driver is None:
        if not DRIVER.exists():
            yield ok("CUDA", "no driver here: torch uses the CPU")
            return
        yield missing("CUDA", "the driver does not answer", "Run nvidia-smi. Start a container with --gpus all.")
        return
    # Drivers support all minor versions of their major version of CUDA, and all earlier versions.
    if driver[0] < needed[0]:
        yield missing(
            "CUDA",
            f"the driver supports CUDA up to {in_words(driver)}, but torch is built for {wanted}",
            f"Update NVIDIA's driver, or install a build of torch for CUDA {driver[0]}.",
        )
        return
    yield from _usable(torch, driver)


def _without_cuda(torch: Any) -> Iterator[Finding]:
    if cuda_of_driver() is None:
        yield ok("torch", f"{torch.__version__}, a build for CPUs")
        return
    yield missing(
        "torch",
        f"{torch.__version__} is a build for CPUs, but this machine has a GPU",
        "Install a build for CUDA: pip install --force-reinstall torch torchvision, without an index of CPU builds.",
    )


def _usable(torch: Any, driver: tuple[int, int]) -> Iterator[Finding]:
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        there = torch.cuda.is_available()
    if not there:
        reason = f" ({' '.join(str(said[-1].message).split())[:200]})" if said else ""
        yield missing(
            "CUDA",
            f"torch sees no GPU{reason}",
            "Run nvidia-smi. Unset CUDA_VISIBLE_DEVICES if it is empty.",
        )
        return
    built = torch.cuda.get_arch_list()
    for number in range(torch.cuda.device_count()):
        major, minor = torch.cuda.get_device_capability(number)
        # Code of a lower minor version runs, and so does code that is compiled for the GPU at load time.
        fits = any(
            int(name.rsplit("_", 1)[1].rstrip("af")) <= 10 * major + minor
            and (name.startswith("compute_") or int(name.rsplit("_", 1)[1].rstrip("af")) // 10 == major)
            for name in built
        )
        if not fits:
            yield missing(
                "CUDA",
                f"torch is built for {', '.join(built)}, but {torch.cuda.get_device_name(number)} is sm_{major}{minor}",
                "Install a build of torch for this GPU: an older GPU needs an older CUDA, a newer GPU a newer one.",
            )
            return
    torch.ones(1, device="cuda").sum().item()
    yield ok(
        "CUDA", f"torch computes on {torch.cuda.device_count()} GPU(s); the driver supports up to {in_words(driver)}"
    )
    if torch.distributed.is_nccl_available():
        yield ok("NCCL", ".".join(map(str, torch.cuda.nccl.version())))
    else:
        yield warning(
            "NCCL", "this build of torch does not have it: one GPU only", "pip install --force-reinstall torch"
        )


PROBE = Probe("torch", MACHINE, look, least=120.0)
