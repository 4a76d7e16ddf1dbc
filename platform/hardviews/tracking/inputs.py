"""The inputs of a run in MLflow: data sets, and the encoder that an evaluation scores."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from hardviews.tracking.logged_model import record_model
from hardviews.tracking.scrub import scrub

if TYPE_CHECKING:
    from mlflow.entities import DatasetInput
    from mlflow.tracking import MlflowClient

Context = Literal["training", "validation", "test"]
# MLflow's limits: characters of a data set's digest, and of its name.
_LONGEST_DIGEST, _LONGEST_NAME = 36, 500
_DIGITS = 32


@dataclass(frozen=True)
class DatasetUse:
    """A data set, and its role in a run.

    Attributes:
        name: readable name, such as `imagenet-1k/val`.
        digest: hexadecimal SHA-256 of the data set.
        url: its address, or path on this machine.
        samples: number of samples.
        classes: number of classes, 0 if its samples have no labels.
        context: its role in the run.
    """

    name: str
    digest: str
    url: str
    samples: int
    classes: int
    context: Context

    @property
    def short_digest(self) -> str:
        """Return the first 32 characters of the digest: MLflow keeps 36."""
        return self.digest[:_DIGITS]

    def to_record(self) -> dict[str, Any]:
        """Return what a spool holds of it."""
        profile = {"num_rows": self.samples, "n": self.samples, "classes": self.classes, "digest": self.digest}
        return {
            "name": scrub(self.name)[:_LONGEST_NAME],
            "digest": self.short_digest,
            "url": scrub(self.url if "://" in self.url else Path(self.url).absolute().as_uri()),
            "profile": profile,
            "context": self.context,
        }


@dataclass(frozen=True)
class ModelUse:
    """An encoder that a run scores.

    Attributes:
        digest: digest of its weights.
        step: number of samples that it was trained on.
        address: address of its weights.
        run: id of the run that trained it, empty if unknown.
        name: name of the logged model, if the weights are not stored as one yet.
        facts: facts about the encoder, as in `logged_model.encoder_facts`.
    """

    digest: str
    step: int
    address: str
    run: str = ""
    name: str = "checkpoint"
    facts: Mapping[str, str] = field(default_factory=dict)

    def to_record(self) -> dict[str, Any]:
        """Return what a spool holds of it."""
        address = scrub(self.address)
        return {
            "digest": self.digest,
            "step": self.step,
            "address": address,
            "run": self.run,
            "name": self.name,
            "facts": dict(self.facts),
        }


def send_inputs(client: "MlflowClient", run_id: str, record: Mapping[str, Any]) -> None:
    """Send a run's inputs to MLflow; existing inputs stay unchanged. MLflow's errors pass through."""
    from mlflow.entities import LoggedModelInput

    found = [record_model(client, run_id, model) for model in record["models"]]
    models = [LoggedModelInput(model) for model in found if model is not None]
    # One context a request: MLflow takes the first of several inputs of one data set in a request.
    for entry in record["datasets"]:
        client.log_inputs(run_id, datasets=[_entity(entry)])
    if models:
        client.log_inputs(run_id, models=models)


def _entity(entry: Mapping[str, Any]) -> "DatasetInput":
    from mlflow.entities import Dataset, DatasetInput, InputTag

    url = str(entry["url"])
    kinds = {"file": ("local", "uri"), "s3": ("s3", "uri")}
    # MLflow's pages link to addresses of the type `http`, with any scheme.
    kind, key = kinds.get(url.partition("://")[0], ("http", "url"))
    dataset = Dataset(
        name=entry["name"],
        digest=entry["digest"],
        source_type=kind,
        source=json.dumps({key: url}),
        profile=json.dumps(entry["profile"]),
    )
    return DatasetInput(dataset, [InputTag("mlflow.data.context", entry["context"])])
