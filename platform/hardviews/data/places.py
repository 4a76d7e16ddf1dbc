"""Looks at the places of packed datasets before a job that uses them starts.

`here`: whether the job's processes run on this machine, so that its folders are theirs. Every function raises `Unseen`
if a place cannot be seen from here.
"""

from collections.abc import Iterator, Sequence
from functools import partial

from hardviews.data.address import is_unpacked, read_address
from hardviews.data.index import Index, check_apart
from hardviews.data.pack import refuse_packed
from hardviews.data.pack_command import Packing
from hardviews.storage.sight import PATIENCE, reasons, remote
from hardviews.storage.store import open_store


def look_at_packing(packing: Packing, here: bool = False) -> Iterator[str]:
    """Yield the reasons for which a dataset cannot be packed to its place."""

    def look() -> None:
        open_store(packing.out, PATIENCE).files()
        check_apart("out", packing.out, PATIENCE)
        if not packing.overwrite:
            refuse_packed(f"{packing.out.rstrip('/')}/train")

    if here:
        yield from reasons(packing.check_source)
    if here or remote(packing.out):
        yield from reasons(look)


def look_at_evaluation(datasets: Sequence[str], run: str | None, here: bool = False) -> Iterator[str]:
    """Yield the reasons for which an evaluation cannot find its datasets or its run; the encoder may come later.

    run: None for an encoder that is none of a run.
    """
    for url in datasets:
        if here and is_unpacked(url):
            yield from reasons(read_address(url).check)
        elif here or remote(url):
            yield from reasons(partial(Index.head, url, PATIENCE))
    if run is not None and (here or remote(run)):
        yield from reasons(open_store(run, PATIENCE).files)
