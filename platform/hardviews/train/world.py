"""The processes that train together, as torchrun started them."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta

import torch
import torch.distributed as dist

from hardviews.launch.store import worker_store
from hardviews.train.precision import Precision

_TIMEOUT = timedelta(minutes=5)


@dataclass(frozen=True)
class World:
    """This process among all: rank of size, on a device."""

    rank: int
    size: int
    device: torch.device


@contextmanager
def joined(precision: Precision) -> Iterator[World]:
    """Join the process group that torchrun's environment describes; alone where there is none."""
    device = precision.choose_device(int(os.environ.get("LOCAL_RANK", "0")))
    if device.type == "cuda":
        torch.cuda.set_device(device)
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        yield World(0, 1, device)
        return
    # Not torch's `env://`: there rank 0's store would listen on every interface.
    store, rank, size = worker_store()
    backend = "nccl" if device.type == "cuda" else "gloo"
    dist.init_process_group(backend, store=store, rank=rank, world_size=size, timeout=_TIMEOUT)
    try:
        yield World(rank, size, device)
    finally:
        dist.destroy_process_group()
