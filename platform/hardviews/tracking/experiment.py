"""MLflow's view of the experiment: as training, judged by the loss, with a list of the useful columns.

Older versions of MLflow choose their menus by the kind of the experiment. From 3.17 on a switch of the browser chooses
them, or the address of a page; without either, MLflow shows the menus for language models.
"""

import json
import logging
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING

from hardviews.tracking.metric_groups import LOSS
from hardviews.tracking.scrub import brief

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient

logger = logging.getLogger(__name__)

VIEW = "hardviews"
"""Key of the saved view of the list of runs, as in `?viewStateShareKey=hardviews`."""

TRAINING_MENUS = "workflowType=machine_learning"
"""Part of the address of a page that opens the menus for training."""

_VIEW_TAG = f"mlflow.sharedViewState.{VIEW}"
_SCORES = (
    *("metrics.`eval/linear_top1`", "metrics.`eval/knn_top1`", "metrics.`eval/classify_top1`"),
    f"metrics.`{LOSS}`",
)
_COLUMNS = (
    *("tags.`hardviews.verdict`", *_SCORES, "attributes.`Dataset`", "attributes.`Duration`"),
    *("params.`training.epochs`", "params.`training.batch`", "tags.`hardviews.output`"),
)
# MLflow's table: a box, the name, and the time of a run come first. Widths in pixels of columns that differ.
_ORDER = ("0", "attributes.`Run Name`", *_SCORES, "runDateAndNestInfo", "duration", "attributes.`Dataset`")
_WIDTHS = {"attributes.`Run Name`": 300, "attributes.`Dataset`": 180}
_KIND = {
    "mlflow.experimentKind": "custom_model_development",
    "mlflow.experiment.primaryMetric.name": LOSS,
    "mlflow.experiment.primaryMetric.greaterIsBetter": "False",
}
# Marks that the experiment has these tags: later changes by people stay.
_DONE = {"hardviews.experiment": "1"}


def experiment_tags() -> dict[str, str]:
    """Return the tags of a new experiment."""
    now = int(time.time() * 1000)
    state = json.dumps({"selectedColumns": _COLUMNS, "columnOrder": _ORDER, "columnWidths": _WIDTHS})
    view = {"name": "Pretraining", "createdAt": now, "updatedAt": now, "state": state}
    return {**_KIND, _VIEW_TAG: json.dumps(view), **_DONE}


def complete(client: "MlflowClient", experiment: str, tags: Mapping[str, str]) -> None:
    """Add the missing tags, once, to an experiment that somebody else or an older version made.

    `tags` are its present tags. If the server refuses, nothing is done: the pages are plainer then.
    """
    if _DONE.items() <= tags.items():
        return
    try:
        for key, value in experiment_tags().items():
            if key not in tags:
                client.set_experiment_tag(experiment, key, value)
    except Exception as error:  # any error of a server: a run does not depend on it
        logger.debug("tracking: the experiment's pages stay as they are (%s)", brief(error))
