"""A process group of one rank: collectives work on the device, and a step under DDP is the step without.

Shape legend: B rows.
"""

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import torch
import torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel

from on_gpu.case import Case, Row
from on_gpu.scale import Scale
from on_gpu.training import batch_of
from stepping.stepper import Stepper

_TOLERANCE = 1e-3  # relative, between losses: kernels that add in any order may be chosen


def cases() -> list[Case]:
    """Return the one case."""
    return [Case("one rank", "process group", _measure, 15, 45)]


def _measure(scale: Scale) -> Iterator[Row]:
    subject = scale.simsiam()
    make = batch_of(scale, subject, False)
    steps = 2 if scale.toy else 4
    alone = _losses(Stepper(subject.recipe, make, scale.device), steps)
    backend = "nccl" if scale.device.type == "cuda" else "gloo"
    if backend == "gloo":
        os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
    if scale.device.type == "cuda":
        torch.cuda.set_device(scale.device)
    with tempfile.TemporaryDirectory() as folder:
        store = dist.FileStore(str(Path(folder) / "store"), 1)
        dist.init_process_group(backend, store=store, rank=0, world_size=1)
        try:
            yield _collectives(scale.device, backend)
            stepper = Stepper(subject.recipe, make, scale.device)
            # The trainer itself wraps it for several processes only.
            stepper.trainer._module = DistributedDataParallel(
                stepper.trainer.objective,
                device_ids=[scale.device] if scale.device.type == "cuda" else None,
                forward_sync_buffers=False,
            )
            together = _losses(stepper, steps)
        finally:
            dist.destroy_process_group()
    largest = max(abs(a - b) / max(1e-6, abs(a)) for a, b in zip(alone, together, strict=True))
    text = f"losses of {steps} steps differ by at most {largest:.1e} (relative; at most {_TOLERANCE:g})"
    numbers = {"alone": alone, "together": together}
    yield Row(
        f"step by {backend} against none", "ok" if largest <= _TOLERANCE else "differs", text=text, numbers=numbers
    )


def _losses(stepper: Stepper, steps: int) -> list[float]:
    return [stepper.step().loss for _ in range(steps)]


def _collectives(device: torch.device, backend: str) -> Row:
    wrong = []
    for dtype in (torch.float32, torch.float64, torch.int64, torch.uint8):
        rows_B = torch.arange(5, device=device).to(dtype)
        total_B, sent_B, parts = rows_B.clone(), rows_B.clone(), [torch.empty_like(rows_B)]
        dist.all_reduce(total_B)
        dist.broadcast(sent_B, src=0)
        dist.all_gather(parts, rows_B)
        for name, found_B in (("all-reduce", total_B), ("broadcast", sent_B), ("all-gather", parts[0])):
            if not torch.equal(found_B, rows_B):
                wrong.append(f"{name} of {dtype}")
    objects: list[object] = [{"step": 3}]
    dist.broadcast_object_list(objects, src=0, device=device)
    gathered: list[object] = [None]
    dist.all_gather_object(gathered, "one")
    dist.barrier()
    if objects != [{"step": 3}] or gathered != ["one"]:
        wrong.append("objects")
    text = f"wrong: {', '.join(wrong)}" if wrong else "all-reduce, broadcast, all-gather, objects and barrier"
    return Row(f"collectives by {backend}", "differs" if wrong else "ok", text=text)
