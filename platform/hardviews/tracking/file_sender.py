"""Sends the files of a run's spool: artifacts, images and models. Lines have a sender of their own (`sender.py`)."""

import logging
import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import unquote, urlsplit

from hardviews.errors import UserError
from hardviews.failures import Needs
from hardviews.tracking.failures import diagnose, is_absent
from hardviews.tracking.image_store import ImageStore
from hardviews.tracking.journal import Record
from hardviews.tracking.logged_model import log_model
from hardviews.tracking.scrub import scrub
from hardviews.tracking.sender import Away
from hardviews.tracking.server import Server
from hardviews.tracking.spool import Blocked
from hardviews.tracking.uri import is_on_this_machine

logger = logging.getLogger(__name__)


class FileSender:
    """Sends files and models to a run; each is removed when it was sent, so a missing one was sent."""

    def __init__(self, server: Server, run_id: str) -> None:
        self._server, self._run_id = server, run_id
        self._artifacts = ""
        self._plain_models = False
        self._images = ImageStore(server, run_id)

    def __call__(self, records: Sequence[Record]) -> None:
        """Send files; a file that cannot be stored does not delay the later ones.

        Raises:
            Away: the server, or the store of its artifacts, does not answer for now.
            Blocked: somebody must act, or other software is needed, before the rest can be sent.
        """
        blocked = None
        for record in records:
            if not is_there(record):
                continue
            try:
                self._check_place()
                if record["kind"] == "model":
                    self._send_model(record)
                elif record["kind"] == "image":
                    self._images.send(record, self._artifacts)
                else:
                    self._server.client.log_artifacts(self._run_id, record["source"])
            except Exception as error:
                remedy = diagnose(error, self._server.uri, self._artifacts)
                if remedy.needs is Needs.TIME:
                    raise Away(remedy.words) from error
                blocked = blocked or (self._advise(remedy.words), error)
                continue
            shutil.rmtree(record["source"], ignore_errors=True)
        if blocked is not None:
            raise Blocked(blocked[0]) from blocked[1]

    def _check_place(self) -> None:
        """Determine the place of the run's artifacts; refuse a folder of the server's machine."""
        if self._artifacts:
            return
        address = str(self._server.client.get_run(self._run_id).info.artifact_uri)
        path = _local_path(address)
        if path is not None and self._server.remote and not is_on_this_machine(self._server.uri):
            # ROOT/EXPERIMENT/RUN/artifacts: a disk that both machines share has the root.
            root = path.parents[2] if len(path.parents) > 2 else path
            if not root.is_dir():
                raise UserError(self._elsewhere(address))
        self._artifacts = address

    def _advise(self, words: str) -> str:
        if self._server.remote and _local_path(self._artifacts) is not None:
            words = f"{words.rstrip('.')}. {self._elsewhere(self._artifacts)}"
        return f"figures and models cannot be stored: {words}"

    def _elsewhere(self, address: str) -> str:
        return (
            f"The server keeps artifacts in {address}, a folder of its own machine: start it with `mlflow server "
            "--serve-artifacts`"
        )

    def _send_model(self, record: Record) -> None:
        """Register the folder as a logged model of the run; a repetition finds the model that was begun before.

        A server without logged models (MLflow 2, Azure) gets it as plain files of the run, which load in the same way.
        """
        if not self._plain_models:
            try:
                log_model(self._server.client, self._run_id, record)
                return
            except Exception as error:
                if not is_absent(error):
                    raise
                self._plain_models = True
                logger.warning(
                    "tracking: %s has no logged models: the encoder goes to the files of the run, %s/",
                    *(scrub(self._server.uri), record["name"]),
                )
        self._server.client.log_artifacts(self._run_id, record["source"], record["name"])
        self._server.client.set_tag(self._run_id, "hardviews.encoder", record["digest"])


def is_there(record: Record) -> bool:
    """Return whether the files of a record were not sent yet."""
    return os.path.isdir(record["source"])


def _local_path(address: str) -> Path | None:
    """Return the path of a folder on a disk, None for any other address."""
    parts = urlsplit(address)
    return Path(unquote(parts.path)) if parts.scheme in ("", "file") and parts.path else None
