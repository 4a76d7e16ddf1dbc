"""Images packed from a notebook or a program; this needs no torch."""

import os
from typing import Any

from hardviews.data.pack_command import Packing
from hardviews.extras import in_one_sentence

Place = str | os.PathLike[str]


def pack(source: Place, out: Place, **settings: Any) -> dict[str, int]:
    """Pack images into shards, as `hardviews pack` does; return how many images each part has.

    source: a folder with one sub-folder for each class, or `digits`, or `photographs`. settings: those of the command,
    such as hold_out=0.1.
    """
    with in_one_sentence("hardviews.pack"):
        return {part: len(index) for part, index in Packing(str(source), str(out), **settings).run().items()}
