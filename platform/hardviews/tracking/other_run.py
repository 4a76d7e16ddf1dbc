"""Additions to another run: an evaluation adds its scores to the training that it scored.

They go through the spool of the run that adds them. So they wait for a server that is away, and are sent by the next
process if this one is killed. To send them twice has no effect.
"""

import math
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from hardviews.tracking.failures import code
from hardviews.tracking.journal import Record
from hardviews.tracking.notes import NOTE, fitted, send_section
from hardviews.tracking.scrub import brief, scrub_item
from hardviews.tracking.spool import Rejected

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient


class OtherRun:
    """A run to which another one adds tags, metrics and a part of the description."""

    def __init__(self, run_id: str, put: Callable[..., None]) -> None:
        """Add to the run of this id; `put(kind, **content)` puts a record into a spool."""
        self.run_id = run_id
        self._put = put

    def set_tags(self, tags: Mapping[str, str]) -> None:
        """Set tags, over those of the same name."""
        self._add("tags", values={key: scrub_item(key, str(value)) for key, value in tags.items()})

    def log_metrics(self, values: Mapping[str, Any], step: int) -> None:
        """Log numbers at a step (samples seen); existing values of this step are left out."""
        numbers = {key: float(value) for key, value in values.items()}
        self._add("metrics", values={key: x for key, x in numbers.items() if math.isfinite(x)}, step=int(step))

    def set_note(self, markdown: str) -> None:
        """Replace the whole description."""
        self._add("tags", values={NOTE: fitted(markdown)})

    def set_section(self, title: str, body: str, first: bool = False) -> None:
        """Write one section of the description; see `Content.set_section`."""
        self._add("section", title=title, body=body, first=first)

    def _add(self, kind: str, **content: Any) -> None:
        self._put("other", run=self.run_id, what=kind, **content)


def send_to_other(client: "MlflowClient", record: Record) -> None:
    """Send a record to the run that it names.

    Raises:
        Rejected: the run does not exist. MLflow's other errors pass through.
    """
    try:
        _send(client, record)
    except Exception as error:
        if code(error) in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
            raise Rejected(f"nothing can be added to the run {record['run']}: {brief(error)}") from error
        raise


def _send(client: "MlflowClient", record: Record) -> None:
    from mlflow.entities import Metric, RunTag

    run_id = record["run"]
    if record["what"] == "section":
        send_section(client, run_id, record["title"], record["body"], record["first"])
    elif record["what"] == "tags":
        client.log_batch(run_id, tags=[RunTag(key, value) for key, value in record["values"].items()])
    else:
        step = record["step"]
        held = client.get_run(run_id).data.metrics
        new = {}
        for key, value in record["values"].items():
            history = client.get_metric_history(run_id, key) if key in held else []
            if not any(point.step == step and point.value == value for point in history):
                new[key] = value
        client.log_batch(run_id, metrics=[Metric(key, value, record["time"], step) for key, value in new.items()])
