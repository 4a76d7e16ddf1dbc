"""The record of an evaluation in MLflow: on its own page, and on the page of the training whose encoder it scores.

Shape suffixes: M test samples.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from hardviews.data.index import Index
from hardviews.evaluation.overlap import TRAINING_SET, Overlap
from hardviews.evaluation.predictions import FILE, to_csv
from hardviews.evaluation.report import markdown_rows
from hardviews.evaluation.result import Result, Scores
from hardviews.evaluation.scores import kind_of_headline
from hardviews.foreign.record import tags
from hardviews.models.encoder import Encoder
from hardviews.tracking.inputs import Context, DatasetUse, ModelUse
from hardviews.tracking.logged_model import encoder_facts
from hardviews.tracking.mlflow_run import Run
from hardviews.tracking.spare import spare

WITHOUT_COPIES = "top1_without_copies"
"""Metric: the accuracy on the test images that have no copy elsewhere."""


@dataclass(frozen=True)
class About:
    """The model and the data of an evaluation's numbers; a baseline has no model."""

    model: ModelUse | None
    dataset: DatasetUse

    def log(self, run: Run, values: Mapping[str, float], step: int) -> None:
        """Log numbers at a step (samples that the encoder was trained on)."""
        run.log_metrics(values, step, self.model, self.dataset)


def log_inputs(run: Run, place: str, encoder: Encoder, test: Index, others: Sequence[DatasetUse] = ()) -> About:
    """Log the data sets and the encoder that an evaluation reads; return the subject of its numbers.

    `place`: place of the encoder. `others`: data sets beside the test images.
    """
    used = dataset_use(test, "test")
    provenance = encoder.provenance
    step, trained = int(provenance.get("samples", 0)), str(provenance.get("run_id", ""))
    model = ModelUse(encoder.digest, step, place, trained, facts=encoder_facts(encoder))
    run.log_inputs([*others, used], [model])
    return About(model, used)


def origin(encoder: Encoder) -> dict[str, str]:
    """Return tags that lead from a score to its training: recipe, commit and data, or the file that was imported."""
    known = {"recipe": "recipe", "commit": "commit", "data": "dataset"}
    own = {f"hardviews.{tag}": str(encoder.provenance[key]) for key, tag in known.items() if key in encoder.provenance}
    return own | tags(encoder.provenance)


def held_out_use(train: Index, held_out_N: Tensor, names: Sequence[str]) -> DatasetUse:
    """Return the held-out part of a training set as a data set: its digest is of the names of its samples."""
    chosen = sorted(names[place] for place in held_out_N.nonzero()[:, 0].tolist())
    digest = hashlib.sha256("\n".join(chosen).encode()).hexdigest()
    name = f"{data_name(train)} held out"
    return DatasetUse(name, digest, train.url, len(chosen), len(train.classes), "validation")


def dataset_use(index: Index, context: Context) -> DatasetUse:
    """Return a data set as MLflow's pages name it."""
    return DatasetUse(data_name(index), index.digest, index.url, len(index), len(index.classes), context)


def data_name(index: Index) -> str:
    """Return the last two parts of a dataset's address, such as `shards/test`."""
    return "/".join(index.url.rstrip("/").split("/")[-2:])


def overlap_metrics(overlaps: Sequence[Overlap]) -> dict[str, float]:
    """Return how many test images have copies, by the data that hold the copies."""
    found: dict[str, float] = {}
    for one in overlaps:
        key = "overlap/train_test" if one.where == TRAINING_SET else "overlap/pretrain_test"
        found |= {key: float(one.same_M.sum()), f"{key}_alike": float(one.alike_M.sum())}
    return found


def without_copies(name: str, overlaps: Sequence[Overlap], scores: Scores, labels_M: Tensor) -> Scores:
    """Return the scores with the accuracy, in per cent, on the test images that have no copy, if some have one."""
    clean_M = torch.ones(len(labels_M), dtype=torch.bool)
    for one in overlaps:
        clean_M &= ~torch.from_numpy(one.alike_M)
    if clean_M.all() or not clean_M.any() or f"{name}/top1" not in scores.metrics:
        return scores
    right_M = (scores.predictions_M == labels_M)[clean_M]
    key = f"{name}/{WITHOUT_COPIES}"
    metrics = {**scores.metrics, key: 100.0 * right_M.double().mean().item()}
    return replace(scores, metrics=metrics, headings={**scores.headings, key: "without\ncopies"})


def log_scores(run: Run, parent: str | None, result: Result, test: Index, samples: int) -> None:
    """Log the table in the description; on the run of the training too, with the headline: `eval/knn_top1`.

    `samples`: number of samples that the encoder was trained on.
    """
    run.set_note(as_markdown(result, test, samples))
    if parent is None:
        return
    above = run.other(parent)
    kind = kind_of_headline(result.name, result.metrics["pretrained"])
    headline = result.metrics["pretrained"][f"{result.name}/{kind}"]
    above.log_metrics({headline_name(result.name, test, kind, result.label): headline}, samples)
    title = f"{result.name} {result.label}".rstrip()
    above.set_section(f"{title} on {data_name(test)}", as_markdown(result, test, samples), first=True)


def headline_name(protocol: str, test: Index, kind: str = "top1", label: str = "") -> str:
    """Return the name of a headline on the training's run; transfer has one for each of its data sets.

    `label`: the name of the published protocol: `eval/linear_simsiam_changed_top1`.
    """
    protocol += "".join(f"_{word}" for word in label.replace(",", "").split())
    of_set = f"_{data_name(test).split('/')[0]}" if protocol == "transfer" else ""
    return f"eval/{protocol}{of_set}_{kind}"


def as_markdown(result: Result, test: Index, samples: int) -> str:
    """Return the table of an evaluation, as MLflow's pages show it."""
    lines = markdown_rows(result)
    notes = "".join(f"\n* {remark}" for remark in result.remarks)
    measure = "Mean average precision" if test.multi_label else "Top-1 accuracy"
    chosen = any(key.startswith(f"{result.name}/held_out_") for metrics in result.metrics.values() for key in metrics)
    how = "Settings were chosen on held-out training images." if chosen else "No setting was chosen."
    if result.name == "fewshot":
        how = "Settings were chosen by cross-validation on the shots."
    after = f", after {samples:,} samples" if samples else ""
    return (
        f"{measure} in per cent on {len(test):,} test images{after}. {how}\n\n" + "\n".join(lines) + f"\n{notes}"
    ).rstrip()


def log_held_out(run: Run, held_out_N: Tensor, names: Sequence[str]) -> None:
    """Log which training samples the settings were chosen on: place in the index, checksum and size."""
    places = held_out_N.nonzero()[:, 0].tolist()
    run.log_text("".join(f"{place} {names[place]}\n" for place in places), "splits/held_out.txt")


def log_predictions(run: Run, scores: Scores, labels_M: Tensor) -> None:
    """Log the prediction of every test sample."""
    run.log_text(to_csv(labels_M, scores.predictions_M), FILE)


def log_confusion(run: Run, name: str, predictions_M: Tensor, labels_M: Tensor, classes: Sequence[str]) -> None:
    """Log the confusion matrix of a protocol's predictions as a picture."""
    path = f"figures/{name}_confusion.png"
    with spare(path):
        from hardviews.tracking.figures import confusion_matrix  # matplotlib takes a second to import

        count = len(classes)
        counts = torch.bincount(labels_M * count + predictions_M, minlength=count * count)
        run.log_figure(confusion_matrix(counts.reshape(count, count).numpy(), classes, name), path)


def left_out(index: Index, part: str) -> list[str]:
    """Return a sentence that says how many images of a part could not be packed."""
    if not index.rejected:
        return []
    return [f"Images of the {part} part that could not be read: {index.rejected}, left out. `hardviews pack` says why."]
