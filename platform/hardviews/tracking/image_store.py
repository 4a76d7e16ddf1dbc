"""Sends pictures with steps, and keeps few of them: MLflow's pages list all of them at once.

A run keeps 8 keys, and 12 steps of each. If there are more, the inner picture that is nearest to its neighbours is
removed. So the first and the last one stay, and the others are spread over the run.
"""

import logging
from collections.abc import Iterable
from pathlib import Path

from hardviews.tracking.image_files import FOLDER, parsed
from hardviews.tracking.journal import Record
from hardviews.tracking.scrub import brief
from hardviews.tracking.server import Server

MOST_KEYS, MOST_STEPS = 8, 12

logger = logging.getLogger(__name__)


def surplus(steps: Iterable[int], most: int = MOST_STEPS) -> int | None:
    """Return the step to remove so that the others are spread most evenly; None if there are few enough."""
    ordered = sorted(steps)
    if len(ordered) <= most:
        return None
    return min(zip(ordered, ordered[1:], ordered[2:], strict=False), key=lambda three: (three[2] - three[0], three))[1]


class ImageStore:
    """The pictures that a run has in the store of its artifacts."""

    def __init__(self, server: Server, run_id: str) -> None:
        """Open nothing: the store is read when a picture is sent."""
        self._server, self._run_id = server, run_id
        self._files: dict[str, dict[int, list[str]]] | None = None
        self._refused: set[str] = set()

    def send(self, record: Record, address: str) -> None:
        """Send a picture, unless the run has one of its key and step; MLflow's errors pass through.

        `record` has `source` (a folder with the files), `key` and `step`. `address` is the address of the run's
        artifacts.
        """
        key, step = str(record["key"]), int(record["step"])
        try:
            files = self._known()
            if step in files.get(key, {}) or not self._has_room(files, key):
                return
            steps = files.setdefault(key, {})
            going = surplus([*steps, step])
            if going == step:
                return
            if going is not None:
                if not self._remove(address, steps[going], key):
                    return
                del steps[going]
            self._server.client.log_artifacts(self._run_id, record["source"])
            folder = Path(record["source"]) / FOLDER
            steps[step] = [f"{FOLDER}/{file.name}" for file in folder.iterdir()]
        except Exception:
            self._files = None  # some of its files may exist
            raise

    def _known(self) -> dict[str, dict[int, list[str]]]:
        """Return the paths of the run's pictures by key and step."""
        if self._files is None:
            files: dict[str, dict[int, list[str]]] = {}
            for item in self._server.client.list_artifacts(self._run_id, FOLDER):
                if (place := parsed(item.path)) is not None:
                    files.setdefault(place[0], {}).setdefault(place[1], []).append(item.path)
            # A life may have ended between the two files of a picture: such a picture is sent again.
            self._files = {
                key: {step: paths for step, paths in steps.items() if len(paths) > 1} for key, steps in files.items()
            }
        return self._files

    def _has_room(self, files: dict[str, dict[int, list[str]]], key: str) -> bool:
        if key in files or len(files) < MOST_KEYS:
            return True
        self._warn(key, f"a run keeps pictures of {MOST_KEYS} keys")
        return False

    def _remove(self, address: str, paths: list[str], key: str) -> bool:
        """Remove files; return whether the store allowed it."""
        from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

        try:
            repository = get_artifact_repository(address, tracking_uri=self._server.uri)
            for path in paths:
                repository.delete_artifacts(path)  # type: ignore[no-untyped-call]
        except Exception as error:  # any error of any store
            self._warn(key, f"the store does not let us remove older ones ({brief(error)})")
            return False
        return True

    def _warn(self, key: str, reason: str) -> None:
        if key not in self._refused:
            logger.warning("tracking: no more pictures of %s are stored: %s", key, reason)
        self._refused.add(key)
