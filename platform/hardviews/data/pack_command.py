"""`hardviews pack`: a source becomes a packed training part and, where it can be had, a test part."""

import os
import re
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from hardviews.checked import OPTION, at_least, finite, require, within
from hardviews.data.folder import ImageFolder, check_folder
from hardviews.data.index import Index, check_apart
from hardviews.data.known_sources import digits, has_test_part, torchvision_dataset
from hardviews.data.names import printable
from hardviews.data.pack import SHARD_BYTES, pack, refuse_packed, refuse_unwritable
from hardviews.data.photographs import photographs
from hardviews.data.source import Source, Split, hold_out
from hardviews.errors import UserError
from hardviews.interrupts import GivenUp, leaving_on_sigterm
from hardviews.storage.url import check_given, check_here, lies_in, local_path

_SHIPPED = {"digits": digits, "photographs": photographs}


@contextmanager
def _in_order(out: str) -> Iterator[None]:
    """Inside, SIGTERM and Ctrl-C end the process as an error does: what was published is taken back."""
    try:
        with leaving_on_sigterm():
            yield
    except GivenUp:
        print(
            f"hardviews: given up. Shards without an index, which are not a dataset, may lie in {printable(out)}; the "
            "same command packs it again",
            file=sys.stderr,
        )
        raise


@dataclass(frozen=True)
class Packing:
    """Packs images into shards with an index: OUT/train, and OUT/test where the source has or yields one.

    Attributes:
        source: a folder with one sub-folder per class (or with folders of such for training and testing), a flat
            folder of unlabelled images, `digits` for scikit-learn's handwritten digits, or `photographs` for
            tiles of three photographs that Python packages ship.
        out: folder or URL.
        torchvision: class name of a torchvision dataset that lies in the folder `source`, e.g. CIFAR10.
        download: let torchvision fetch the dataset where it can.
        hold_out: share of the images set aside as OUT/test where the source has labels and no test part of its
            own; 0 for none.
        shard_bytes: size of a shard.
        seed: of the order in which images are packed.
        short: reduce images whose shorter side is longer than this many pixels, stored as JPEG.
        quality: of those JPEGs, 1 to 100.
        overwrite: replace what is there.
    """

    source: str
    out: str
    torchvision: str | None = None
    download: bool = False
    hold_out: float = 0.2
    shard_bytes: int = SHARD_BYTES
    seed: int = 0
    short: int | None = None
    quality: int = 90
    overwrite: bool = False

    def __post_init__(self) -> None:
        """Refuse places that are not named."""
        check_given(source=self.source, out=self.out)
        if self.torchvision is not None:
            check_here(source=self.source)
        require(
            self,
            OPTION,
            hold_out=at_least(0, below=1).note("a share of the images"),
            shard_bytes=at_least(1),
            seed=finite(),
            short=at_least(1).or_none(),
            quality=within(1, 100),
        )

    def open(self, split: Split | None) -> Source:
        """Open a part of the source, or all of it."""
        if self.torchvision is None and self.source in _SHIPPED:
            return _SHIPPED[self.source](split)
        place = os.path.expanduser(self.source)
        if self.torchvision is None:
            return ImageFolder.open(place).part(split, self.hold_out)
        if split is None or has_test_part(self.torchvision):
            return torchvision_dataset(self.torchvision, place, split, self.download)
        return hold_out(self.open(None), split, self.hold_out)

    def check_source(self) -> None:
        """Refuse a folder of images that is not there, without a look at its images.

        Raises:
            UserError: naming it.
        """
        if self.torchvision is None and self.source not in _SHIPPED:
            check_folder(os.path.expanduser(self.source))

    def run(self) -> dict[Split, Index]:
        """Pack and return the index of each part; say what was packed and what was rejected."""
        check_apart("out", self.out)
        parts = self._parts()
        outs = {split: f"{self.out.rstrip('/')}/{split}" for split in parts}
        if self.torchvision is None and self.source not in _SHIPPED:
            self._refuse_inside(outs.values())
        for out in outs.values():
            if not self.overwrite:
                refuse_packed(out)
            refuse_unwritable(out)
        packed: dict[Split, Index] = {}
        for split, source in parts.items():
            out = outs[split]
            with _in_order(out):
                packed[split] = pack(
                    source,
                    out,
                    shard_bytes=self.shard_bytes,
                    seed=self.seed,
                    short=self.short,
                    quality=self.quality,
                    overwrite=self.overwrite,
                )
            index = packed[split]
            rejected = (
                f", {index.rejected} unreadable, listed in {printable(out)}/rejects.jsonl" if index.rejected else ""
            )
            classes = f"of {len(index.classes)} classes" if index.classes else "without labels"
            print(f"{printable(out)}: {len(index)} images {classes} in {len(index.shards)} shards{rejected}")
        return packed

    def _refuse_inside(self, outs: Iterable[str]) -> None:
        """Refuse to write shards among the images: folders `train` and `test` there would be taken for classes."""
        place = os.path.expanduser(self.source)
        for out in outs:
            below = os.path.relpath(os.path.realpath(local_path(out) or ""), os.path.realpath(place))
            # What is hidden is never taken for a part of the source.
            if lies_in(out, place) and not any(re.match(r"\.[^.]", part) for part in below.split(os.sep)):
                raise UserError(
                    f"--out {self.out}: {out} lies in --source {self.source}, so the next pack would take the shards "
                    "for a part of the source. Give a folder outside of it."
                )

    def _parts(self) -> dict[Split, Source]:
        """Open the source's own parts, else hold some of it out; images without labels all train."""
        if self.torchvision is None and self.source not in _SHIPPED:
            return self._parts_of_folder()
        if self.torchvision is not None and not has_test_part(self.torchvision):
            whole = self.open(None)
            if not self.hold_out or not whole.classes:
                return {"train": whole}
        return {"train": self.open("train"), "test": self.open("test")}

    def _parts_of_folder(self) -> dict[Split, Source]:
        """Open the parts of a folder, which is walked through once; print what was recognised and what is left out."""
        images = ImageFolder.open(os.path.expanduser(self.source))
        layout = images.layout
        for remark in images.remarks():
            print(f"{printable(self.source)}: {remark}")
        if layout.test is None and not (self.hold_out and images.labelled):
            return {"train": images.part(None)}
        if layout.test is None and layout.parts:
            print(
                f"{printable(self.source)}: {self.hold_out:g} of the images in {printable(layout.train.folder)} are "
                "held out for testing; --hold-out 0 holds out none"
            )
        return {split: images.part(split, self.hold_out) for split in ("train", "test")}
