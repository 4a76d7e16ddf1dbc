"""The labelled images of a fine-tuning: drawn from the data once, and kept in the output.

In the output: `labelled/LABELS/train/`, a packed dataset, and `labelled/LABELS/drawn.json`, which names
the data of the draw.
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
"""Folder in the output with the drawn images."""
_DRAWN = "drawn.json"
_PATIENCE = 3600.0  # seconds that the other processes wait for the first one to draw


@dataclass(frozen=True)
class Draw:
    """The settings of a draw of labels.

    Attributes:
        text: value of `--labels`.
        place: address of the file with a published list, or None.
        seed: seed of the draw.
        output: output of the training.
        data: the dataset's name in the command.
    """

    text: str
    place: str | None
    seed: int
    output: str
    data: str

    def packed(self, index: Index, batch: int, division: Division | None) -> str:
        """Return the address of the labelled images: the dataset itself, or the images drawn into the output.

        The first process draws them once, and the others wait.

        batch: batch of the training. division: division of a sweep, or None.

        Raises:
            UserError: the images are fewer than a batch, or the output holds another dataset's. Nothing was written.
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
                f"--labels {self.text} gives {count} images, fewer than a batch of {batch}. Take more labels, or "
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
            f"{self.output} holds the images of --labels {self.text} {whose}, but {self.data} gives other images. "
            f"To continue there, give {f'--data {first}' if first != self.data and first else 'that data'}; to train "
            f"on {self.data}, give another --output."
        )


def _subset(index: Index, rows: Sequence[int]) -> Index:
    return replace(index, samples=index.samples[list(rows)])


def _contents(index: Index) -> list[tuple[int, int, str]]:
    """Return checksum, size and class of each image, in ascending order."""
    names = [index.classes[label] if label >= 0 else "" for label in index.labels.tolist()]
    return sorted((int(row["crc32"]), int(row["size"]), name) for row, name in zip(index.samples, names, strict=True))


def _read(folder: str) -> dict[str, str]:
    """Return the note on the draw in a folder; an empty one if an older version drew it."""
    try:
        note = json.loads(open_store(folder, patience()).read(_DRAWN))
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return {}
    return note if isinstance(note, dict) else {}
