"""`hardviews pack`: a source becomes a packed training part and, where it can be had, a test part."""

from dataclasses import dataclass

from hardviews.data.folder import image_folder
from hardviews.data.index import Index
from hardviews.data.pack import SHARD_BYTES, pack
from hardviews.data.source import Source, Split
from hardviews.data.sources import digits, torchvision_dataset
from hardviews.errors import UserError


@dataclass(frozen=True)
class Packing:
    """Packs images into shards with an index: OUT/train, and OUT/test where the source has or yields one.

    Attributes:
        source: a folder with one sub-folder per class (or with `train` and `test` folders of such), a flat
            folder of unlabelled images, or `digits` for scikit-learn's handwritten digits.
        out: folder or URL.
        torchvision: class name of a torchvision dataset that lies in the folder `source`, e.g. CIFAR10.
        hold_out: share of the images set aside as OUT/test where the source has no test part of its own; 0
            for none.
        shard_bytes: size of a shard.
        seed: of the order in which images are packed.
        short: reduce images whose shorter side is longer than this many pixels, stored as JPEG.
        quality: of those JPEGs, 1 to 100.
        overwrite: replace what is there.
    """

    source: str
    out: str
    torchvision: str | None = None
    hold_out: float = 0.2
    shard_bytes: int = SHARD_BYTES
    seed: int = 0
    short: int | None = None
    quality: int = 90
    overwrite: bool = False

    def open(self, split: Split | None) -> Source:
        """Open a part of the source, or all of it."""
        if self.torchvision is not None:
            return torchvision_dataset(self.torchvision, self.source, split)
        if self.source == "digits":
            return digits(split)
        return image_folder(self.source, split, self.hold_out)

    def run(self) -> dict[Split, Index]:
        """Pack and return the index of each part; say what was packed and what was rejected."""
        if not 0 <= self.hold_out < 1:
            raise UserError(
                f"--hold-out is {self.hold_out}; it is a share of the images, from 0 up to, not including, 1."
            )
        own_parts = self.torchvision is not None or self.source == "digits"
        parts: dict[Split, Source] = {}
        if own_parts or self.hold_out:
            parts = {"train": self.open("train"), "test": self.open("test")}
        else:
            parts = {"train": self.open(None)}
        packed = {}
        for split, source in parts.items():
            if split == "test" and len(source) == 0:
                continue
            out = f"{self.out.rstrip('/')}/{split}"
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
            rejected = f", {index.rejected} unreadable, listed in {out}/rejects.jsonl" if index.rejected else ""
            print(f"{out}: {len(index)} images of {len(index.classes)} classes in {len(index.shards)} shards{rejected}")
        return packed
