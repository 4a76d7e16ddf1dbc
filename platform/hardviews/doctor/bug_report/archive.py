"""The file of a bug report: texts of bounded size, each without secrets, in a zip that appears whole or not at all."""

import io
import os
import zipfile
from pathlib import Path

from hardviews.doctor.masking import masked
from hardviews.errors import UserError
from hardviews.storage.store import open_store

LARGEST = 5_000_000
"""Bytes of all texts together, before they are compressed."""

_STAMP = (2000, 1, 1, 0, 0, 0)  # date of all files inside, so that equal texts give an equal archive


class Archive:
    """Texts by name, and notes on missing or shortened texts."""

    def __init__(self) -> None:
        self._texts: dict[str, bytes] = {}
        self.notes: list[str] = []

    @property
    def sizes(self) -> dict[str, int]:
        """Bytes of each text, in the order in which they were added."""
        return {name: len(data) for name, data in self._texts.items()}

    def note(self, text: str) -> None:
        """Note that a thing is missing or shortened."""
        self.notes.append(masked(text, personal=True))

    def add(self, name: str, text: str, most: int = 400_000, end: bool = True) -> None:
        """Add a text without its secrets; a longer one keeps its end, or else its beginning.

        Args:
            name: name in the archive.
            text: the text with its secrets.
            most: largest number of bytes.
            end: whether a text that is too long keeps its end.
        """
        name = masked(name, personal=True)
        data = masked(text, personal=True).encode(errors="replace")
        room = min(most, LARGEST - sum(map(len, self._texts.values())) - 20_000)  # the rest is for the notes
        if len(data) > room:
            if room < 1000:
                self.note(f"{name} was left out: the report has its largest size")
                return
            kept = data[-room:].partition(b"\n")[2] if end else data[:room].rpartition(b"\n")[0]
            kept = kept or (data[-room:] if end else data[:room])
            self.note(f"{name} has {len(kept)} of {len(data)} bytes, its {'end' if end else 'beginning'}")
            data = kept.decode(errors="ignore").encode()
        self._texts[name] = data

    @staticmethod
    def check(path: Path) -> None:
        """Refuse a file that exists, and a folder that does not exist.

        Raises:
            UserError: one of these.
        """
        if os.path.lexists(path):
            raise UserError(f"{path} exists already. Give another --output, or remove it.")
        if not path.parent.is_dir():
            raise UserError(f"--output {path}: there is no folder {path.parent}. Create it, or give another --output.")

    def write(self, path: Path) -> None:
        """Write the archive; only its owner may read it.

        Raises:
            UserError: the file exists, or its folder cannot be written.
        """
        self.check(path)
        notes = "".join(f"{text}\n" for text in self.notes)[:20_000] or "nothing was missing or shortened\n"
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as zipped:
            for name, data in {**self._texts, "notes.txt": notes.encode()}.items():
                zipped.writestr(zipfile.ZipInfo(name, _STAMP), data, zipfile.ZIP_DEFLATED)
        try:
            open_store(str(path.parent)).write(path.name, buffer.getvalue(), new=True)
        except FileExistsError as error:
            raise UserError(f"{path} exists already. Give another --output, or remove it.") from error
        path.chmod(0o600)
