"""What the places of packed datasets hold, looked at before a job that uses them is submitted.

Every function raises `Unseen` if a place cannot be seen from here.
"""

from collections.abc import Iterable, Iterator
from functools import partial

from hardviews.data.index import Index, check_apart
from hardviews.data.pack import refuse_packed
from hardviews.data.pack_command import Packing
from hardviews.storage.sight import PATIENCE, reasons, remote
from hardviews.storage.store import open_store


def look_at_packing(packing: Packing) -> Iterator[str]:
    """Yield the reasons for which a dataset cannot be packed to its place."""

    def look() -> None:
        open_store(packing.out, PATIENCE).files()
        check_apart("out", packing.out, PATIENCE)
        if not packing.overwrite:
            refuse_packed(f"{packing.out.rstrip('/')}/train")

    if remote(packing.out):
        yield from reasons(look)


def look_at_evaluation(datasets: Iterable[str], run: str) -> Iterator[str]:
    """Yield the reasons for which an evaluation cannot find its datasets or its run; the encoder may come later."""
    for url in datasets:
        if remote(url):
            yield from reasons(partial(Index.head, url, PATIENCE))
    if remote(run):
        yield from reasons(open_store(run, PATIENCE).files)
