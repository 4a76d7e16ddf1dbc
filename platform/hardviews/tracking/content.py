"""The content of a run, as records for its spools: nothing here waits for a server."""

import json
import math
import os
import shutil
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hardviews.errors import UserError
from hardviews.failures import of_machine
from hardviews.storage.failures import DiskFailure
from hardviews.tracking.flatten import flatten
from hardviews.tracking.image_files import LOGGED_IMAGES, write_picture, write_table
from hardviews.tracking.inputs import DatasetUse, ModelUse
from hardviews.tracking.logged_model import encoder_facts
from hardviews.tracking.notes import NOTE, fitted
from hardviews.tracking.other_run import OtherRun
from hardviews.tracking.scrub import scrub, scrub_item
from hardviews.tracking.spare import spare

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from hardviews.models.encoder import Encoder


class Content(ABC):
    """The calls that log something; a run brings the records to its store."""

    def log_params(self, config: Any) -> None:
        """Log a configuration (dataclass or mapping), flattened.

        MLflow keeps the first value of a parameter for ever; a later one becomes the tag `hardviews.resumed.NAME`.
        """
        self._put("params", values=flatten(config))

    def log_metrics(
        self,
        values: Mapping[str, Any],
        step: int,
        model: ModelUse | None = None,
        dataset: DatasetUse | None = None,
    ) -> None:
        """Log numbers at a step (samples seen).

        If the server has reached a metric's step already, by an earlier life, the number is left out. An infinite
        number is left out too, because it would ruin the axis of a chart. `model` and `dataset` are the measured model
        and its data; log both as inputs, too.
        """
        numbers = {key: float(value) for key, value in values.items()}
        numbers = {key: number for key, number in numbers.items() if not math.isinf(number)}
        about: dict[str, Any] = {}
        if model is not None:
            about["model"] = model.to_record()
        if dataset is not None:
            about["dataset"] = [dataset.name, dataset.short_digest]
        if numbers:
            self._put("metrics", values=numbers, step=int(step), **about)

    def log_inputs(self, datasets: Sequence[DatasetUse] = (), models: Sequence[ModelUse] = ()) -> None:
        """Log the inputs of the run: data sets, and the encoders that it scores."""
        self._put(
            "inputs",
            datasets=[dataset.to_record() for dataset in datasets],
            models=[model.to_record() for model in models],
        )

    def log_figure(self, figure: "Figure", path: str) -> None:
        """Log a matplotlib figure as an image, e.g. at `figures/curves.png`; one that fails is left out."""
        with spare(path):
            from hardviews.tracking.drawing import save_figure  # matplotlib takes a second to import

            self._log_file(path, partial(save_figure, figure))

    def log_image(self, picture: Any, key: str, step: int) -> None:
        """Log a picture for a step (samples seen): MLflow shows the pictures of a key with a slider over steps.

        A run keeps 8 keys and 12 steps of each; the others are thinned out evenly. `picture` is as in `write_picture`.
        A picture that fails is left out.
        """
        with spare(f"the picture {key}"):
            milliseconds = time.time_ns() // 1_000_000
            self._log_folder(
                key, lambda folder: write_picture(picture, folder, key, step, milliseconds), "image", key=key, step=step
            )
            self.set_tags({LOGGED_IMAGES: "True"})

    def log_table(self, rows: Sequence[Mapping[str, Any]], path: str) -> None:
        """Log rows as a table that MLflow shows, e.g. at `tables/scores.json`; pictures become thumbnails.

        Raises:
            UserError: as in `write_table`.
        """
        _check_inside(path)
        self._log_folder(path, lambda folder: write_table(rows, folder, path))
        self._put("table", path=path)

    def log_text(self, text: str, path: str) -> None:
        """Log a text file, e.g. at `recipe.json`; passwords in it are hidden."""
        self._log_file(path, lambda file: file.write_text(scrub(text), encoding="utf-8"))

    def log_dict(self, values: Mapping[str, Any], path: str) -> None:
        """Log a mapping as a JSON file."""
        self.log_text(json.dumps(values, indent=1, sort_keys=True, default=str), path)

    def log_artifact(self, source: str | os.PathLike[str], path: str | None = None) -> None:
        """Log a copy of a local file, under its own name or at `path`."""
        self._log_file(path or Path(source).name, partial(shutil.copyfile, source))

    def set_tags(self, tags: Mapping[str, str]) -> None:
        """Set tags, over those of the same name."""
        self._put("tags", values={key: scrub_item(key, str(value)) for key, value in tags.items()})

    def set_note(self, markdown: str) -> None:
        """Write the whole description, which the run's page shows first; at most 7900 characters are kept."""
        self._put("tags", values={NOTE: fitted(markdown)})

    def set_section(self, title: str, body: str, first: bool = False) -> None:
        """Write one section of the description, and leave the others as they are.

        `title` is `notes.HEAD` for the text before the first section, the verdict. `body` is Markdown without titles.
        An empty one removes the section; `notes.EXPERIMENT` in it becomes the experiment's id. With `first` a new
        section comes before the others.
        """
        self._put("section", title=title, body=body, first=first)

    def other(self, run_id: str) -> OtherRun:
        """Return another run, for additions through the spool of this one."""
        return OtherRun(run_id, self._put)

    def log_encoder(self, encoder: "Encoder", name: str = "encoder", step: int = 0) -> None:
        """Log the exported encoder as an MLflow model with a signature (see `model.py`)."""
        from hardviews.tracking.model import write_model  # imports mlflow, which takes seconds

        try:
            folder = self._new_folder()
            write_model(encoder, folder / name)
        except (OSError, DiskFailure) as error:
            self._leave_out(name, error)
            return
        self._upload(
            "model",
            source=str(folder / name),
            name=name,
            digest=encoder.digest,
            step=step,
            facts=encoder_facts(encoder),
        )

    @abstractmethod
    def _put(self, kind: str, **content: Any) -> None:
        """Put a record into the spool of lines."""

    @abstractmethod
    def _upload(self, kind: str, **content: Any) -> None:
        """Put a record into the spool of files; `source` is their folder."""

    @abstractmethod
    def _new_folder(self) -> Path:
        """Make an empty folder beside the spool."""

    @abstractmethod
    def _leave_out(self, path: str, error: Exception) -> None:
        """Go on without a file that the disk of the spool cannot hold."""

    def _log_file(self, path: str, write: Callable[[Path], object]) -> None:
        """Write a file beside the spool, and queue it; if the disk fails, it is left out."""
        _check_inside(path)

        def at_its_path(folder: Path) -> None:
            file = folder / path
            file.parent.mkdir(parents=True, exist_ok=True)
            write(file)

        self._log_folder(path, at_its_path)

    def _log_folder(self, path: str, write: Callable[[Path], object], kind: str = "artifacts", **content: Any) -> None:
        folder = None
        try:
            folder = self._new_folder()
            write(folder)
        except BaseException as error:
            if folder is not None:
                shutil.rmtree(folder, ignore_errors=True)
            if not isinstance(error, OSError) or of_machine(error, path) is None:
                raise
            self._leave_out(path, error)
        else:
            self._upload(kind, source=str(folder), **content)


def _check_inside(path: str) -> None:
    if Path(path).is_absolute() or ".." in Path(path).parts:
        raise UserError(f"An artifact's path must lie inside the run, and {path!r} does not.")
