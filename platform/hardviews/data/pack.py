"""Pack images into WebDataset shards with an index beside them.

Shards are plain tars written with webdataset's own writer. Equal sources and arguments give equal bytes. The
index is written last, so that a folder without one is not a dataset.
"""

from hardviews.data.index import INDEX_NAME, Index
from hardviews.data.order import permutation
from hardviews.data.prepare import prepared
from hardviews.data.source import Source
from hardviews.data.writer import Writer, is_ours
from hardviews.errors import UserError
from hardviews.progress import progress as shown
from hardviews.storage.patience import TRAINING
from hardviews.storage.store import open_store

SHARD_BYTES = 128 * 2**20


def pack(
    source: Source,
    out_url: str,
    *,
    shard_bytes: int = SHARD_BYTES,
    seed: int = 0,
    short: int | None = None,
    quality: int = 90,
    overwrite: bool = False,
    threads: int | None = None,
    progress: bool = True,
) -> Index:
    """Write a source as shuffled shards and an index to a folder or an fsspec URL; return the index.

    Images are shuffled once, by `seed`, so that every shard is a random sample. Each image is decoded once; an
    unreadable one is not packed, but listed in `rejects.jsonl`. Bytes are kept as they are, with one exception. An
    image whose shorter side exceeds `short` pixels is reduced to it and stored as JPEG of `quality`. A shard is closed
    before it would exceed `shard_bytes`, but holds at least one image. A failure leaves nothing behind. In a local
    folder, an overwritten dataset stays until the new one is complete.

    Raises:
        UserError: the target already holds a dataset and `overwrite` is not set, or no image could be read.
    """
    if len(source) == 0:
        raise UserError("The source holds no images. Give one that does.")
    if not overwrite:
        refuse_packed(out_url)
    refuse_unwritable(out_url)
    target = open_store(out_url, TRAINING)
    present = target.files()
    stale = [name for name in present if is_ours(name)]
    with target.disk_in_words(), Writer(target, shard_bytes, stale) as writer:
        order = permutation(len(source), seed, 0, 0, 0)
        for ready in shown(prepared(source, order, short, quality, threads), len(source), "packing images", progress):
            writer.add(ready)
        return writer.commit(source.classes)


def refuse_packed(out_url: str) -> None:
    """Raise UserError if a folder or URL already holds a packed dataset."""
    if INDEX_NAME in open_store(out_url).files():
        raise UserError(
            f"{out_url!r} already holds a packed dataset. Choose another folder, or replace it with --overwrite."
        )


def refuse_unwritable(out_url: str) -> None:
    """Raise UserError if a URL cannot be written to; a local folder is not checked before it is filled."""
    store = open_store(out_url)
    if not store.local:
        store.check_writable()
