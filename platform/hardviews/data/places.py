"""Looks at the places of packed datasets before a job that uses them starts.

`here`: whether the processes of the job run on this machine and use its folders. Every function raises `Unseen` if a
place cannot be seen from here.
"""

from collections.abc import Iterator, Sequence
from functools import partial

from hardviews.data.address import is_unpacked, read_address
from hardviews.data.index import Index, NoDataset, check_apart
from hardviews.data.pack import refuse_packed
from hardviews.data.pack_command import Packing
from hardviews.errors import UserError
from hardviews.storage.sight import PATIENCE, Remark, reasons, remote, seen
from hardviews.storage.store import open_store


def look_at_packing(packing: Packing, here: bool = False) -> Iterator[str]:
    """Yield the reasons why a dataset cannot be packed to its place."""

    def look() -> None:
        open_store(packing.out, PATIENCE).files()
        check_apart("out", packing.out, PATIENCE)
        if not packing.overwrite:
            refuse_packed(f"{packing.out.rstrip('/')}/train")

    if here:
        yield from reasons(packing.check_source)
    if here or remote(packing.out):
        yield from reasons(look)


def look_at_evaluation(
    datasets: Sequence[str], run: str | None, here: bool = False, wait: float = 0.0
) -> Iterator[str]:
    """Yield the reasons why an evaluation cannot find its datasets or its run; the encoder may come later.

    `run` is None for an encoder without a run. `wait` is the number of seconds to wait for a dataset. On this machine
    nothing else packs it, so a missing one is a mistake.
    """
    for url in datasets:
        if here and is_unpacked(url):
            yield from reasons(read_address(url).check)
        elif here or remote(url):
            try:
                seen(partial(Index.head, url, PATIENCE))
            except NoDataset as error:
                yield waits_for(url, wait) if wait and not here else str(error)
            except UserError as error:
                yield str(error)
    if run is not None and (here or remote(run)):
        yield from reasons(open_store(run, PATIENCE).files)


def waits_for(url: str, seconds: float) -> Remark:
    """Say that a job waits for a dataset that is not there yet."""
    return Remark(f"There is no packed dataset at {url} yet: the job waits for it, {seconds:g} s at most (--wait).")
