"""`hardviews pack`: turns a source into a packed training part and, if possible, a test part."""

import os
import re
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from hardviews.checked import OPTION, at_least, finite, require, within
from hardviews.data.given import Given
from hardviews.data.index import Index, check_apart
from hardviews.data.label_subset import Labels
from hardviews.data.names import printable
from hardviews.data.pack import SHARD_BYTES, pack, refuse_packed, refuse_unwritable
from hardviews.data.source import Split
from hardviews.data.torchvision_options import read_options
from hardviews.errors import UserError
from hardviews.interrupts import GivenUp, leaving_on_sigterm
from hardviews.storage.url import check_given, check_here, lies_in, local_path


@contextmanager
def _in_order(out: str) -> Iterator[None]:
    """Let SIGTERM and Ctrl-C end the process like an error, inside: published files are removed again."""
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
    """Packs images into shards with an index: OUT/train, and OUT/test if there is a test part.

    Attributes:
        source: a folder with one sub-folder per class, or with a folder of such for training and one for testing. Or a
            flat folder of unlabelled images. Or a file that lists images and their labels. Or `digits` for
            scikit-learn's handwritten digits, `photographs` for tiles of three photographs in Python packages. Or a
            packed dataset, from which `labels` draws a part.
        out: folder or URL to write to.
        test: folder or list file of the test images, if they are not in `source`.
        torchvision: class name of a torchvision dataset that lies in the folder `source`, e.g. CIFAR10.
        options: options of the torchvision dataset, as KEY=VALUE, e.g. partition=2; `split` names the training part, or
            several to join: split=train+val.
        test_options: options of the test part that differ, e.g. split=test.
        keys: file with the key of a training image on each line; the others are for testing.
        test_keys: file with the key of a test image on each line.
        labels: number of labelled training images to draw from a packed dataset: 1%, 10% or 16-per-class, equal numbers
            of each class, drawn by the seed. Larger draws contain smaller ones. Or simclr-1% or simclr-10%: the
            training images in SimCLR's published lists of ImageNet, from a source in any form.
        labels_list: path or URL of the file of that list, or of its folder; without it the file is fetched.
        download: let torchvision fetch the dataset if it can.
        hold_out: share of the images set aside as OUT/test if the source has labels and no test part of its own; 0 for
            none.
        shard_bytes: size of a shard.
        seed: seed of the order in which images are packed.
        short: reduce images whose shorter side is longer than this many pixels, stored as JPEG.
        quality: quality of these JPEGs, 1 to 100.
        overwrite: replace an existing dataset.
    """

    source: str
    out: str
    test: str | None = None
    torchvision: str | None = None
    options: tuple[str, ...] = ()
    test_options: tuple[str, ...] = ()
    keys: str | None = None
    test_keys: str | None = None
    labels: str | None = None
    labels_list: str | None = None
    download: bool = False
    hold_out: float = 0.2
    shard_bytes: int = SHARD_BYTES
    seed: int = 0
    short: int | None = None
    quality: int = 90
    overwrite: bool = False

    def __post_init__(self) -> None:
        """Refuse places that are not named."""
        check_given(source=self.source, out=self.out, test=self.test, labels_list=self.labels_list)
        check_here(keys=self.keys, test_keys=self.test_keys)
        if self.torchvision is not None:
            check_here(source=self.source)
        elif self.options or self.test_options:
            raise UserError("--options and --test-options belong to a torchvision dataset: name it by --torchvision.")
        if self.test is not None and (self.torchvision is not None or self.given.shipped):
            raise UserError("--test is for a folder or a list file; the test part of this source is its own.")
        if self.labels is not None:
            Labels.read(self.labels, self.labels_list)
        elif self.labels_list is not None:
            raise UserError("--labels-list is the file of a published list: name the list by --labels, as simclr-1%.")
        for texts, option in ((self.options, "--options"), (self.test_options, "--test-options")):
            read_options(texts, option)
        require(
            self,
            OPTION,
            hold_out=at_least(0, below=1).note("a share of the images"),
            shard_bytes=at_least(1),
            seed=finite(),
            short=at_least(1).or_none(),
            quality=within(1, 100),
        )

    @property
    def _labels(self) -> Labels | None:
        return None if self.labels is None else Labels.read(self.labels, self.labels_list)

    @property
    def given(self) -> Given:
        """Return the source, given in any form."""
        return Given(
            self.source,
            self.torchvision,
            read_options(self.options, "--options"),
            read_options(self.test_options, "--test-options"),
            self.test,
            self.keys,
            self.test_keys,
            self.download,
            self.hold_out,
            labels=self._labels,
            seed=self.seed,
        )

    def check_source(self) -> None:
        """Refuse a folder of images that is not there, without a look at its images.

        Raises:
            UserError: naming it.
        """
        self.given.check()

    def run(self) -> dict[Split, Index]:
        """Pack and return the index of each part; report the packed and the rejected images."""
        check_apart("out", self.out)
        parts = self.given.parts(print)
        outs = {split: f"{self.out.rstrip('/')}/{split}" for split in parts}
        if self.given.is_folder:
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
            listed = f", those of {self._labels}" if self._labels is not None and split == "train" else ""
            print(f"{printable(out)}: {len(index)} images {classes} in {len(index.shards)} shards{listed}{rejected}")
        return packed

    def _refuse_inside(self, outs: Iterable[str]) -> None:
        """Refuse to write shards among the images: folders `train` and `test` there would be taken for classes."""
        place = os.path.expanduser(self.source)
        for out in outs:
            below = os.path.relpath(os.path.realpath(local_path(out) or ""), os.path.realpath(place))
            # A hidden folder is never taken for a part of the source.
            if lies_in(out, place) and not any(re.match(r"\.[^.]", part) for part in below.split(os.sep)):
                raise UserError(
                    f"--out {self.out}: {out} lies in --source {self.source}, so the next pack would take the shards "
                    "for a part of the source. Give a folder outside of it."
                )
