"""The encoder that is evaluated: a run's, a tracking run's, a checkpoint's, a file's, or any of timm."""

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import torch
from torch import Tensor

from hardviews.checked import OPTION, at_least, require
from hardviews.errors import UserError
from hardviews.foreign.contents import read
from hardviews.foreign.imported import Inputs, imported, inputs_of_timm
from hardviews.foreign.record import KEY, origin
from hardviews.models.backbones import Backbone
from hardviews.models.classifier import Classifier
from hardviews.models.encoder import Encoder, load, of_weights
from hardviews.runs.checkpoint import Checkpoints
from hardviews.runs.record import USUAL, Record
from hardviews.storage.scratch import scratch
from hardviews.storage.url import check_given
from hardviews.tracking.server import Server

NEWEST = "newest"
_TIMM = "timm:"


@dataclass(frozen=True)
class Subject:
    """Which encoder is evaluated: `run` or `encoder` names it.

    Attributes:
        run: the output of a pretraining or import (path or URL), the id of its MLflow run, or an exported encoder's
            folder or file.
        encoder: any encoder: `timm:NAME` for a network of timm, with the weights of the file `weights` or untrained; or
            what `run` takes.
        weights: a file with the weights of the timm network, as `hardviews import` reads it.
        image_size: pixels a side of the images that the timm network takes; by default its own.
        checkpoint: instead of the exported encoder, the one in a checkpoint of the run: `newest`, also while it trains.
    """

    run: str | None = None
    encoder: str | None = None
    weights: str | None = None
    image_size: int | None = None
    checkpoint: str | None = None

    def __post_init__(self) -> None:
        """Refuse none and two encoders, and options that say nothing of the one that is named."""
        check_given(run=self.run, encoder=self.encoder, weights=self.weights)
        require(self, OPTION, image_size=at_least(1).or_none())
        if (self.run is None) == (self.encoder is None):
            raise UserError(
                "Evaluation: name one encoder, by --run OUTPUT (of a pretraining) or by --encoder timm:NAME or FILE."
            )
        foreign = self.place.startswith(_TIMM)
        for name in ("weights", "image_size"):
            if getattr(self, name) is not None and not foreign:
                raise UserError(
                    f"Evaluation: --{name.replace('_', '-')} is for a network of timm, and {self.place} is none. Leave "
                    "it out, or name the network by --encoder timm:NAME."
                )
        if self.checkpoint is not None and (foreign or self.checkpoint not in (NEWEST, *_step(self.checkpoint))):
            raise UserError(
                f"Evaluation: --checkpoint {self.checkpoint} is no checkpoint of a run. Give `{NEWEST}`, or the name "
                "of a folder in the run's checkpoints, for example step-00000100."
            )

    @property
    def waits(self) -> bool:
        """Whether the encoder may come later: a run's, not one of timm or of a tracking run."""
        return not self.place.startswith(_TIMM) and not _is_run_id(self.place)

    @property
    def place(self) -> str:
        """The address or name of the encoder."""
        return str(self.encoder if self.run is None else self.run)

    def called(self, encoder: Encoder) -> str:
        """Return the encoder's name in tables; for a run it states the kind of training: `fine-tuned encoder`."""
        if self.run is not None:
            return f"{encoder.provenance.get('training', USUAL)} encoder"
        name = self.place.removeprefix(_TIMM).rstrip("/").rpartition("/")[2]
        if not self.place.startswith(_TIMM):
            return f"encoder {name}"
        return f"{name}, {'untrained' if self.weights is None else self.weights.rstrip('/').rpartition('/')[2]}"

    def open(self, project: str) -> Encoder:
        """Read the encoder. project: the folder of the tracking record, for runs that are named by their id.

        Raises:
            UserError: it is not there, is damaged, or is none.
        """
        if self.place.startswith(_TIMM):
            return _of_timm(self.place.removeprefix(_TIMM), self.weights, self.image_size)
        if self.checkpoint is not None:
            return _of_checkpoint(self.place, self.checkpoint)
        if _is_run_id(self.place):
            from hardviews.tracking.model import fetch_encoder  # imports mlflow, which takes seconds

            with scratch() as folder:
                return load(fetch_encoder(Server.connect(None, Path(project).absolute()), self.place, folder))
        return load(self.place)


def _is_run_id(place: str) -> bool:
    """Whether a place is the id of an MLflow run, and not a folder of such a name."""
    return bool(re.fullmatch(r"[0-9a-f]{32}", place)) and not os.path.exists(place)


def _step(name: str) -> list[str]:
    return [name] if re.fullmatch(r"step-\d+", name) else []


def _of_checkpoint(output: str, name: str) -> Encoder:
    record = Record.read(output)
    if record is None:
        raise UserError(f"There is no run at {output} (no run.json). Give the output of a pretraining.")
    if not record.encoder:
        raise UserError(
            f"The record of the run at {output} does not say which weights of a checkpoint are the encoder's: an older "
            "version wrote it. Go on with the training for a moment, which writes it, or evaluate the exported encoder."
        )
    checkpoints = Checkpoints(output)
    found = checkpoints.latest() if name == NEWEST else checkpoints.named(name)
    if found is None:
        raise UserError(f"The run at {output} has no checkpoint{'' if name == NEWEST else f' {name}'} yet.")
    progress, described = found.progress, record.encoder
    provenance = {"run_id": record.run_id, "recipe": record.recipe, "samples": progress.samples, "step": progress.step}
    provenance["training"] = record.training
    encoder = of_weights(described, _within(found.tensors, described["within"]), provenance)
    if "classifier" in described:
        head = described["classifier"]
        encoder.classifier = Classifier.of(_within(found.tensors, head["within"]), head["names"])
    return encoder


def _within(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """Return the tensors of one part of a checkpoint, by their names in it."""
    return {key[len(prefix) :]: value for key, value in tensors.items() if key.startswith(prefix)}


def _of_timm(name: str, weights: str | None, image_size: int | None) -> Encoder:
    """Build a network of timm; without weights it is untrained, with the random numbers of seed 0."""
    backbone = Backbone(name, image_size=image_size if Backbone(name).is_transformer else None)
    if weights is not None:
        one = imported(read(weights, "--weights "), None, None, backbone)
        usual = inputs_of_timm(name, image_size or one.fitted.image_size)
        about = origin(one, datetime.now(UTC).date().isoformat())
        return one.encoder(Inputs(usual.normalisation, usual.image_size), {"timm": name, KEY: about})
    inputs = inputs_of_timm(name, image_size)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        encoder = Encoder(
            backbone, inputs.normalisation, None, inputs.image_size, {"timm": name, "weights": "untrained"}
        )
    return encoder.eval()
