"""The inputs of a run and its places to write to, checked before anything is written."""

import os
import uuid
from contextlib import suppress
from dataclasses import dataclass

import torch
import torch.distributed as dist

from hardviews.checked import OPTION, at_least, require
from hardviews.data.index import Index, check_apart, is_dataset
from hardviews.elastic.environment import launched
from hardviews.errors import UserError
from hardviews.models.encoder_files import IMPORT
from hardviews.storage.failures import Denied
from hardviews.storage.patience import TRAINING, usual
from hardviews.storage.store import check_writable, open_store
from hardviews.storage.url import check_given, check_here, lies_in

# Names in the output of a run.
_FOLDERS = ("checkpoints", "lives", "encoder")
_FILES = ("run.json", "history.jsonl")


@dataclass(frozen=True)
class Where:
    """The inputs of a pretraining run and its places to write to.

    Attributes:
        data: URL of a packed dataset, or of a folder with one named `train`.
        output: folder or URL (s3://BUCKET/PREFIX) for checkpoints and encoder; an existing run there goes on.
        project: folder of the tracking record, if MLFLOW_TRACKING_URI does not name a server.
        accept_changes: go on with the run in the output although settings of its recipe have changed.
        wait: seconds to wait for a dataset that is still being packed.
        init: encoder whose weights a new run begins with: a run's output, a file, or `timm:NAME`; None for random ones.
    """

    data: str
    output: str
    project: str = ".hardviews"
    accept_changes: bool = False
    wait: float = 0.0
    init: str | None = None

    def __post_init__(self) -> None:
        """Refuse places that are not named."""
        check_given(data=self.data, output=self.output, init=self.init)
        check_here(project=self.project)
        require(self, OPTION, wait=at_least(0).note("seconds"))

    def check(self) -> None:
        """Refuse places that cannot be written, or lie in a packed dataset; leave nothing there.

        Raises:
            UserError: a place is refused; the message names it.
        """
        for name, folder in self.written():
            check_writable(name, folder, patience())
        check_apart("output", self.output, patience())
        self._check_kinds()

    def _check_kinds(self) -> None:
        """Refuse an output in which a file has the name of a folder of the run, or a folder the name of a file."""
        store = open_store(self.output)
        with suppress(Denied):  # S3 denies a missing file to a caller that may not list
            if store.size(IMPORT) is not None:
                raise UserError(f"--output {self.output} holds imported weights. Give another folder to train into.")
        if store.path is None:
            return  # an object store has no folders
        for names, kind, right in ((_FOLDERS, "folder", os.path.isdir), (_FILES, "file", os.path.isfile)):
            for path in (os.path.join(store.path, name) for name in names):
                if os.path.lexists(path) and not right(path):
                    raise UserError(
                        f"--output {self.output}: {path} is not a {kind}, and a run needs a {kind} of this name. "
                        "Remove or rename it, or give another --output."
                    )

    def written(self) -> tuple[tuple[str, str], ...]:
        """Return the options that name a place to write to, and the places."""
        return ("output", self.output), ("project", self.project)

    def check_apart(self, dataset: str) -> None:
        """Refuse an output inside the packed dataset at a URL, or its test part, and the folder of both parts.

        An output inside that folder, beside the parts, is refused if `data` names the folder.

        Raises:
            UserError: the output is refused; the message names both.
        """
        folder, name = os.path.split(dataset.rstrip("/"))
        for part in (dataset, *([os.path.join(folder, "test")] if name == "train" else [])):
            if lies_in(self.output, part):
                raise UserError(
                    f"--output {self.output} lies in the packed dataset {part}, which holds nothing but its shards. "
                    "Give another folder."
                )
        named = lies_in(folder, self.data)  # `data` is the folder of both parts
        if name == "train" and lies_in(self.output, folder) and (named or lies_in(folder, self.output)):
            raise UserError(
                f"--output {self.output} lies in the folder of the dataset, {folder}, which holds nothing but its "
                "parts. Give a folder outside of it."
            )

    def check_shared(self, rank: int, world: int, device: torch.device) -> None:
        """Refuse a local output that the processes do not share; every rank calls this.

        Raises:
            UserError: on ranks that do not see rank 0's file there.
        """
        store = open_store(self.output)
        if world == 1 or not store.local:
            return
        probe = [f".shared-{uuid.uuid4().hex}"]
        dist.broadcast_object_list(probe, src=0, device=device)
        if rank == 0:
            store.write(probe[0], b"")
        dist.barrier()
        seen = store.size(probe[0]) is not None
        dist.barrier()
        if rank == 0:
            store.remove(probe[0])
        if not seen:
            raise UserError(
                f"--output {self.output} is a folder of each machine's own: rank {rank} does not see what rank 0 "
                "writes there, so another one could not go on with the run. Give a folder on a disk that all share, "
                "or an address in an object store (s3://BUCKET/PREFIX)."
            )


def open_dataset(data: str) -> Index:
    """Load the index at a URL, or of the `train` dataset in the folder at that URL.

    Raises:
        UserError: neither is a packed dataset.
    """
    inside = f"{data.rstrip('/')}/train"
    wait = patience()
    if not is_dataset(data, wait) and is_dataset(inside, wait):
        return Index.load(inside, wait)
    return Index.load(data, wait)


def patience() -> float:
    """Return the seconds that a start waits for a store: long if a job that ran already goes on."""
    return TRAINING if launched().restarts else usual()
