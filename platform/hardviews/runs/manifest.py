"""The manifest of a checkpoint: its numbers, its ledger, and the files that make it whole.

It is written last and holds a checksum of its own: a folder without it was never finished. A manifest of an older
format is read through `MIGRATIONS`, one step at a time; CONTRIBUTING says how to change the format.
"""

import json
import re
import zlib
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from hardviews.errors import UserError
from hardviews.runs.ledger import Range, from_json

MANIFEST = "manifest.json"
CHECKPOINTS = "checkpoints"
"""Folder of a run."""

FORMAT = 3

Content = dict[str, Any]


def is_checkpoint(name: str) -> bool:
    """Return whether a folder of that name in a run's checkpoints is one, finished or not."""
    return re.fullmatch(r"step-\d+", name) is not None


def _from_2(content: Content) -> Content:
    """Leave out the place in the epoch: it follows from the number of samples, which now has this name."""
    progress = {key: value for key, value in content["progress"].items() if key not in ("epoch", "consumed")}
    progress["samples"] = progress.pop("progress")
    return {**content, "progress": progress}


MIGRATIONS: Mapping[int, Callable[[Content], Content]] = {2: _from_2}
"""Function by format: turns the content of a manifest into the next format."""


@dataclass(frozen=True)
class Progress:
    """The numbers of a checkpoint: the progress of the run, and its identity.

    Attributes:
        step: optimizer steps since the run began.
        samples: samples seen since the run began; the place in the epoch follows from it (`hardviews.clock.Calendar`).
        run_id: id of the tracking run.
        recipe: digest of the recipe.
        dataset: digest of the dataset.
        world: processes that trained together.
        life: number of the start of the run's training, from 1.
    """

    step: int
    samples: int
    run_id: str
    recipe: str
    dataset: str
    world: int
    life: int = 1


@dataclass(frozen=True)
class Manifest:
    """The description of a committed checkpoint; `files` holds size and checksum of each other file by name."""

    progress: Progress
    ranges: tuple[Range, ...]
    files: Mapping[str, Mapping[str, int]]

    def encode(self) -> bytes:
        """Return the manifest's bytes, with a checksum of their own."""
        content = {
            "format": FORMAT,
            "progress": asdict(self.progress),
            "ledger": [asdict(entry) for entry in self.ranges],
            "files": self.files,
        }
        return json.dumps(content | {"crc32": _own_checksum(content)}, indent=1).encode()

    @staticmethod
    def decode(data: bytes, name: str) -> "Manifest":
        """Read a manifest; `name` is for messages.

        Raises:
            UserError: it has another version.
            Damaged: the bytes are not a manifest, or were changed.
        """
        try:
            content = json.loads(data)
            written = content["format"]
            if written != FORMAT and written not in MIGRATIONS:
                raise UserError(
                    f"The checkpoint {name} has format {written}, this version reads {min(MIGRATIONS)} to {FORMAT}. "
                    "Resume it with the version that wrote it, or start with another output."
                )
            if content.pop("crc32") != _own_checksum(content):
                raise Damaged(f"{MANIFEST} contradicts its own checksum")
            for older in range(written, FORMAT):
                content = MIGRATIONS[older](content)
            return Manifest(Progress(**content["progress"]), from_json(content["ledger"]), dict(content["files"]))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise Damaged(f"{MANIFEST} is cut or not a manifest ({type(error).__name__})") from error


class Damaged(Exception):
    """A committed checkpoint was changed or damaged; the message is the damage."""


def _own_checksum(content: Mapping[str, Any]) -> int:
    return zlib.crc32(json.dumps(content, sort_keys=True).encode())
