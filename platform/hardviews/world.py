"""The processes that work together, as the environment describes them."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import TypeVar

import torch
import torch.distributed as dist

from hardviews.elastic.environment import launched
from hardviews.elastic.tcp_store import worker_store
from hardviews.errors import UserError

T = TypeVar("T")

_TIMEOUT = timedelta(minutes=5)


@dataclass(frozen=True)
class World:
    """The place of this process among all: rank of size, on a device."""

    rank: int
    size: int
    device: torch.device

    @property
    def leads(self) -> bool:
        """Whether this process speaks and writes for all."""
        return self.rank == 0

    def say(self, text: str) -> None:
        """Print a sentence for people, once for all processes."""
        if self.leads:
            print(text, file=sys.stderr, flush=True)

    def agree(self, mine: bool) -> bool:
        """Return on all processes the answer of the one that leads; every rank calls this."""
        answer = [mine]
        if self.size > 1:
            dist.broadcast_object_list(answer, src=0, device=self.device)
        return answer[0]

    def together(self, call: Callable[[], T]) -> list[T]:
        """Return what a call returned on each process, by rank; every rank calls this.

        Raises:
            UserError: the call raised one, on this process or on another: none goes on and waits in vain.
        """
        failure: UserError | None = None
        mine: list[T] = []
        try:
            mine = [call()]
        except UserError as error:
            failure = error
        found: list[list[T]] = [mine]
        if self.size > 1:
            found = [[] for _ in range(self.size)]
            dist.all_gather_object(found, mine)
        if failure is not None:
            raise failure
        if [] in found:
            raise UserError(f"Process {found.index([])} met a mistake; its message says which.")
        return [one for values in found for one in values]


ALONE = World(0, 1, torch.device("cpu"))
"""One process on a CPU."""


@contextmanager
def joined(choose_device: Callable[[int], torch.device]) -> Iterator[World]:
    """Join the process group that the environment describes; alone if it describes none.

    Args:
        choose_device: maps the rank on this node to a device.

    Raises:
        UserError: the environment's variables do not fit together; or, if no agent of ours started this process, the
        other processes do not come.
    """
    me = launched()
    device = choose_device(me.local_rank)
    if device.type == "cuda":
        torch.cuda.set_device(device)
    if me.size == 1:
        yield World(0, 1, device)
        return
    # Not torch's `env://`: there rank 0's store would listen on every interface.
    store = worker_store(me)
    backend = "nccl" if device.type == "cuda" else "gloo"
    dist.init_process_group(backend, store=store, rank=me.rank, world_size=me.size, timeout=_TIMEOUT)
    try:
        yield World(me.rank, me.size, device)
    finally:
        dist.destroy_process_group()
