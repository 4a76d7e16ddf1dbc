"""What a run reads and where it writes, checked before anything is written."""

import tempfile
from dataclasses import dataclass
from pathlib import Path

from hardviews.data.index import Index
from hardviews.errors import UserError


@dataclass(frozen=True)
class Where:
    """What a pretraining run reads and where it writes.

    Attributes:
        data: URL of a packed dataset, or of a folder with one named `train`.
        output: folder for checkpoints and the encoder; a run that is there already goes on.
        project: folder of the tracking record, where MLFLOW_TRACKING_URI names no server.
        accept_changes: go on with the run in the output although settings of its recipe are others now.
    """

    data: str
    output: str
    project: str = ".hardviews"
    accept_changes: bool = False

    def check(self) -> None:
        """Refuse folders that cannot be written, without leaving anything there.

        Raises:
            UserError: naming the folder.
        """
        if "://" in self.output and not self.output.startswith("file://"):
            raise UserError(
                f"--output {self.output} is not a local path; this version keeps checkpoints on a local or shared disk."
            )
        for name, folder in (("output", self.output), ("project", self.project)):
            nearest = Path(folder).absolute()
            while not nearest.exists():
                nearest = nearest.parent
            try:
                # Permission bits do not tell: root, read-only mounts, full disks.
                tempfile.TemporaryFile(dir=nearest).close()
            except OSError as error:
                raise UserError(
                    f"--{name} {folder} cannot be written: {nearest} is not a folder that we may write to "
                    f"({error.strerror}). Give another one."
                ) from error


def open_dataset(data: str) -> Index:
    """Load the index at a URL, or of the `train` dataset in the folder at that URL.

    Raises:
        UserError: neither is a packed dataset.
    """
    inside = f"{data.rstrip('/')}/train"
    if "://" not in data and not Path(data, "index.json").exists() and Path(inside, "index.json").exists():
        return Index.load(inside)
    return Index.load(data)
