"""Encoders as MLflow's logged models: with weights at the end of a training, as a record of a checkpoint otherwise.

A model is found by the digest of its weights. Only the last encoder is stored with its weights. A checkpoint that is
evaluated gets a record that points to its address: checkpoints are saved every minute, and most of them are removed.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from hardviews.tracking.failures import is_absent

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient

    from hardviews.models.encoder import Encoder

DIGEST, ADDRESS = "digest", "hardviews.address"
_TYPE = "hardviews encoder"


def log_model(client: "MlflowClient", run_id: str, record: Mapping[str, Any]) -> None:
    """Store a folder as a logged model of a run; a repetition finds the model that was begun before.

    `record` has `source` (the folder), `name`, `digest` of the weights, `step`, and `facts`. MLflow's errors pass
    through.
    """
    from mlflow.entities import LoggedModelOutput, LoggedModelStatus

    experiment = str(client.get_run(run_id).info.experiment_id)
    mine = f"source_run_id = '{run_id}' AND name = '{record['name']}'"
    begun = client.search_logged_models([experiment], filter_string=mine)
    # A record without weights may have the same digest, if that checkpoint was evaluated before the training ended.
    of_digest = [model for model in begun if model.tags.get(DIGEST) == record["digest"]]
    model = next((model for model in of_digest if ADDRESS not in model.tags), None)
    if model is not None and model.status == LoggedModelStatus.READY:
        return
    if model is None:
        tags = {DIGEST: record["digest"]}
        model = client.create_logged_model(
            experiment,
            name=record["name"],
            source_run_id=run_id,
            tags=tags,
            params={"samples": str(record["step"]), **record.get("facts", {})},
            model_type=_TYPE,
        )
    client.log_model_artifacts(model.model_id, record["source"])
    client.log_outputs(run_id, [LoggedModelOutput(model.model_id, record["step"])])
    client.set_tag(run_id, "hardviews.encoder", record["digest"])
    client.finalize_logged_model(model.model_id, LoggedModelStatus.READY)


def encoder_facts(encoder: "Encoder") -> dict[str, str]:
    """Return a logged model's facts of its encoder: network, image size; classes, recipe, commit, data if known."""
    facts = {"backbone": encoder.backbone.name, "image_size": str(encoder.image_size)}
    if encoder.classifier is not None:
        facts["classes"] = str(len(encoder.classifier))
    known = {key: str(encoder.provenance[key]) for key in ("recipe", "commit", "data") if key in encoder.provenance}
    return facts | known


def find_model(client: "MlflowClient", experiment: str, digest: str) -> str | None:
    """Return the id of the logged model with these weights in an experiment, None if there is none.

    A model with weights is preferred to a record without. MLflow's errors pass through.
    """
    found = client.search_logged_models([experiment], filter_string=f"tags.{DIGEST} = '{digest}'")
    ordered = sorted(found, key=lambda model: ADDRESS in model.tags)
    return str(ordered[0].model_id) if ordered else None


def record_model(client: "MlflowClient", run_id: str, model: Mapping[str, Any]) -> str | None:
    """Return the id of the logged model with these weights; make a record of it, without weights, if there is none.

    `run_id` is the id of the run that uses it. `model` has `digest`, `name`, `step`, `address` of the weights, and
    `run`, the training's id, empty if unknown. Return None for a server without logged models; its other errors pass
    through.
    """
    try:
        return _record_model(client, str(client.get_run(run_id).info.experiment_id), model)
    except Exception as error:
        if not is_absent(error):
            raise
        return None


def _record_model(client: "MlflowClient", experiment: str, model: Mapping[str, Any]) -> str:
    from mlflow.entities import LoggedModelOutput, LoggedModelStatus

    found = find_model(client, experiment, model["digest"])
    if found is not None:
        return found
    run_id = model["run"] or None
    made = client.create_logged_model(
        *(experiment, model["name"], run_id),
        tags={DIGEST: model["digest"], ADDRESS: model["address"]},
        params={"samples": str(model["step"]), **model.get("facts", {})},
        model_type=_TYPE,
    )
    if run_id:
        client.log_outputs(run_id, [LoggedModelOutput(made.model_id, model["step"])])
    client.finalize_logged_model(made.model_id, LoggedModelStatus.READY)
    return str(made.model_id)
