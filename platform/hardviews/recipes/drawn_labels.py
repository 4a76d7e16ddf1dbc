"""The labelled images of a fine-tuning: drawn from the data once, into the output, and of the same data ever after.

In the output: `labelled/LABELS/train/`, a packed dataset, and `labelled/LABELS/drawn.json` with the data that it was
drawn from.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace

from hardviews.data.index import Index, is_dataset
from hardviews.data.label_subset import Labels
from hardviews.data.pack import pack
from hardviews.data.packed_source import PackedSource
from hardviews.data.source import Subset
from hardviews.elastic.environment import launched
from hardviews.errors import UserError
from hardviews.recipes.label_division import Division
from hardviews.runs.waiting import Dataset, wait_for
from hardviews.runs.where import patience
from hardviews.storage.store import open_store

LABELLED = "labelled"
"""Folder in the output with the images that were drawn."""
_DRAWN = "drawn.json"
_PATIENCE = 3600.0  # seconds in which the first process has drawn them


@dataclass(frozen=True)
class Draw:
    """Which labels are drawn, and where they are kept.

    Attributes:
        text: as `--labels` has it.
        place: of the file of a published list, None if there is none.
        seed: of the draw.
        output: of the training.
        data: the dataset as the command names it.
    """

    text: str
    place: str | None
    seed: int
    output: str
    data: str

    def packed(self, index: Index, batch: int, division: Division | None) -> str:
        """Return the address of the labelled images: the dataset itself, or those that were drawn into the output.

        The first process draws them, once; the others wait.

        batch: of the training. division: of a sweep, None if there is none.

        Raises:
            UserError: they are fewer than a batch, or the output holds those of another dataset; nothing was written
            then.
        """
        labels = Labels.read(self.text, self.place)
        if labels.all:
            if division is not None:
                division.check(index, batch)
            return index.url
        seed = "" if labels.listed is not None else f"-seed{self.seed}"
        folder = f"{self.output.rstrip('/')}/{LABELLED}/{self.text.replace('%', 'pct')}{seed}"
        out = f"{folder}/train"
        if launched().rank:
            wait_for([Dataset(out)], _PATIENCE)
        if is_dataset(out, patience()):
            if not (launched().rank or launched().restarts):  # the first process of the job looks, once
                self._check_same(labels, index, folder, Index.load(out, patience()))
            self._check_batch(len(Index.head(out, patience())), batch)
            return out
        rows = tuple(labels.draw(index, self.seed))
        self._check_batch(len(rows), batch)
        if division is not None:
            division.check(_subset(index, rows), batch)
        pack(Subset(PackedSource(index), rows), out)
        note = {"data": self.data, "digest": index.digest}
        open_store(folder).write(_DRAWN, json.dumps(note, indent=1).encode())
        return out

    def _check_batch(self, count: int, batch: int) -> None:
        if count < batch:
            raise UserError(
                f"--labels {self.text} are {count} images, fewer than a batch of {batch}: take more labels, or "
                "lower --training.batch and --training.group."
            )

    def _check_same(self, labels: Labels, index: Index, folder: str, drawn: Index) -> None:
        """Refuse images that were drawn from another dataset, unless the draw from this one is the same."""
        note = _read(folder)
        if note.get("digest") == index.digest:
            return
        if _contents(drawn) == _contents(_subset(index, labels.draw(index, self.seed))):
            return
        first = note.get("data", "")
        whose = f"drawn from {first}" if first and first != self.data else "drawn from other data"
        raise UserError(
            f"{self.output} holds the images of --labels {self.text} that were {whose}, and {self.data} gives others. "
            f"To go on there, give {f'--data {first}' if first != self.data and first else 'that data'}; to train on "
            f"{self.data}, give another --output."
        )


def _subset(index: Index, rows: Sequence[int]) -> Index:
    return replace(index, samples=index.samples[list(rows)])


def _contents(index: Index) -> list[tuple[int, int, str]]:
    """Return checksum, size and class of each image, in ascending order."""
    names = [index.classes[label] if label >= 0 else "" for label in index.labels.tolist()]
    return sorted((int(row["crc32"]), int(row["size"]), name) for row, name in zip(index.samples, names, strict=True))


def _read(folder: str) -> dict[str, str]:
    """Return what is known of the draw in a folder; nothing of draws of older versions."""
    try:
        note = json.loads(open_store(folder, patience()).read(_DRAWN))
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return {}
    return note if isinstance(note, dict) else {}
