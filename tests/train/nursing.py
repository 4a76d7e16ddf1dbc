"""A process that trains on the batches of one loader worker; run by `test_nursery`."""

import os
import socket
import sys
from collections.abc import Iterator

from torch.utils.data import DataLoader, IterableDataset

from hardviews.train.nursery import leave_with_parent, nursery

told: list[str] = []  # filled by this process alone: a worker that is no copy of it finds it empty


class Endless(IterableDataset[tuple[int, int, str, bool]]):
    """Yields for ever: process ids of worker and nursery, the message before, and whether an inode is open here."""

    def __init__(self, inode: int) -> None:
        self.inode = inode

    def __iter__(self) -> Iterator[tuple[int, int, str, bool]]:
        """Yield."""
        leave_with_parent()
        folder = "/proc/self/fd"
        links = [os.readlink(f"{folder}/{name}") for name in os.listdir(folder) if os.path.lexists(f"{folder}/{name}")]
        while True:
            yield os.getpid(), os.getppid(), ",".join(told), f"socket:[{self.inode}]" in links


def main() -> None:
    """Print the first batch, then take one more for every line of the input."""
    told.append("before")
    with nursery(1), socket.socket() as peer:
        told.append("after")
        data = Endless(os.fstat(peer.fileno()).st_ino)
        for batch in DataLoader(data, batch_size=None, num_workers=1, multiprocessing_context="forkserver"):
            print(*batch, flush=True)
            if not sys.stdin.readline():
                break
    print("left", flush=True)


if __name__ == "__main__":
    main()
