"""Scores of the classifier that a training by labels left with its encoder: nothing is fitted.

Features are the same as in the other evaluations: of the central crop, float32, computed once by all processes.

Shape suffixes: M test samples, L classes of the classifier.
"""

from dataclasses import dataclass, replace
from functools import partial

import torch

from hardviews.data.address import is_unpacked
from hardviews.data.index import Index, is_dataset
from hardviews.data.on_the_fly import packed_part, packed_parts
from hardviews.errors import UserError
from hardviews.evaluation.checks import check_crop, check_labels, choose_device
from hardviews.evaluation.child_run import checkpoint_tags, open_run
from hardviews.evaluation.class_names import Matched, matched
from hardviews.evaluation.classifier_scores import NAME, calibration, interval, logits, measured
from hardviews.evaluation.features.extract import Features, extract
from hardviews.evaluation.features.sources import embedding
from hardviews.evaluation.mistakes import log_mistakes
from hardviews.evaluation.overlap import find_overlaps
from hardviews.evaluation.per_class import CLASSES, per_class
from hardviews.evaluation.record import (
    left_out,
    log_confusion,
    log_inputs,
    log_predictions,
    log_scores,
    origin,
    overlap_metrics,
    without_copies,
)
from hardviews.evaluation.result import Announce, Result, Scores, silent
from hardviews.evaluation.scoring import Scoring
from hardviews.models.classifier import Classifier
from hardviews.models.encoder import Encoder
from hardviews.runs.sweep import sweep
from hardviews.runs.waiting import Awaited, Dataset, EncoderOfRun, may_come, wait_for
from hardviews.storage.store import check_writable
from hardviews.tracking.mlflow_run import Run
from hardviews.world import World, joined


@dataclass(frozen=True)
class Classify(Scoring):
    """Which run's classifier is scored, on which data.

    Attributes:
        data: folder with a packed `test` dataset, or a packed dataset itself (path or URL); or a folder of class
            folders, a list file, or `torchvision:NAME?root=FOLDER`, whose test part is packed into the cache.
        test: the dataset to score on, as a whole, instead of `data`; all forms of `data` are taken.
        overlap: search for test images that are copies of training images: by their bytes, or fully, by their
            appearance; `auto` is full for sets of up to 200,000 images.
    """

    def url(self) -> str:
        """Return the address of the data that are scored, packed or not.

        Raises:
            UserError: no data are given.
        """
        if self.test is not None:
            return self.test
        if self.data is None:
            raise UserError(
                "Classify: no data given. Give --data FOLDER (with a packed `test` dataset in it, or packed itself, or "
                "with a folder for each class) or --test URL."
            )
        return self.data if is_unpacked(self.data) else f"{self.data.rstrip('/')}/test"

    def places_of_data(self) -> tuple[str, ...]:
        """Return the address of the data as they are now, packed or not."""
        return (self.url(),)

    def awaited(self) -> list[Awaited]:
        """Return the things that other jobs may still be making: the packed dataset, the encoder of a run."""
        found: list[Awaited] = []
        if self.test is not None or self.data is None:
            found += [Dataset(self.url())] if may_come(self.url()) else []
        elif may_come(self.data):
            found.append(Dataset(self.data, ("test",)))
        return [*found, EncoderOfRun(self.place, self.checkpoint is not None)] if self.waits else found

    def located(self) -> "Classify":
        """Return the same with `test` naming the dataset, if `data` is a packed dataset itself.

        The part `train` stands for its folder, as in the other evaluations.
        """
        if self.test is not None or self.data is None or is_unpacked(self.data):
            return self
        address = self.data.rstrip("/")
        folder, slash, name = address.rpartition("/")
        if not is_dataset(address) or is_dataset(f"{address}/test"):
            return self
        return replace(self, data=folder if slash else ".") if name == "train" else replace(self, test=address)

    def packed(self) -> str:
        """Return the address of the packed dataset; pack it into the cache if necessary.

        Raises:
            UserError: the data are not there, or have no labels.
        """
        if self.test is None and self.data is not None and is_unpacked(self.data):
            return packed_parts(self.data)[1]
        return packed_part(self.url(), "test")


def evaluate_classify(config: Classify, announce: Announce = silent) -> Result:
    """Score the classifier of a run; log a child run of the training's run.

    Metrics: `classify/top1`, `classify/top5`, `classify/mean_class` and `classify/ece`, the expected calibration error,
    in per cent; `classify/nll`, the negative log-likelihood, in nats. announce: is called with the scores as soon as
    they are known.

    Raises:
        UserError: the run has no classifier, the data have no labels, or the classifier does not know one of them.
    """
    with joined(partial(choose_device, config.device)) as world:
        return _evaluate(config, announce, world)


def _evaluate(config: Classify, announce: Announce, world: World) -> Result:
    check_writable("project", config.project)
    wait_for(config.awaited(), config.wait)
    config = config.located()
    encoder = config.open(config.project).to(world.device).to(memory_format=torch.channels_last)
    classifier = classifier_of(encoder, config)
    test = Index.load(config.packed())
    check_labels(test)
    classes = matched(classifier, test)
    preprocess = config.preprocess(encoder.image_size, encoder.interpolation)
    check_crop(encoder, preprocess.crop)
    step = int(encoder.provenance.get("samples", 0))
    run, parent = open_run(config, NAME, encoder, test, world)
    with run:
        run.use_store(sweep)
        run.log_params(config)
        run.set_tags(
            {
                "hardviews.encoder": encoder.digest,
                "hardviews.classifier": classifier.digest,
                **checkpoint_tags(config.place, encoder),
                **origin(encoder),
                "hardviews.dataset.test": test.digest,
            }
        )
        about = log_inputs(run, config.place, encoder, test)
        kind = embedding("pretrained", encoder)
        batch, workers = config.batch_size, config.workers
        found = extract(test, kind, preprocess, world, batch_size=batch, workers=workers, title=f"features, {NAME}")
        tested = replace(found, labels_N=classes.numbers_C[found.labels_N])
        logits_ML = logits(classifier, tested.values_ND, world.device)
        scores = measured(logits_ML, tested.labels_N)
        overlaps = find_overlaps(test, None, config.place, config.overlap, config.workers) if world.leads else []
        scores = without_copies(NAME, overlaps, scores, tested.labels_N)
        about.log(run, {**scores.metrics, **overlap_metrics(overlaps)}, step)
        remarks = [interval(scores, tested.labels_N), *classes.remarks, calibration(scores)]
        remarks += [remark for one in overlaps if (remark := one.remark())]
        remarks += left_out(test, "test")
        each = per_class(scores.predictions_M, tested.labels_N, classes.names)
        result = Result(
            NAME,
            {"pretrained": scores.metrics},
            scores.headings,
            encoder.digest,
            run.run_id,
            len(classifier),
            tuple(remarks),
            encoder=config.called(encoder),
            per_class=each,
        )
        if world.leads:
            announce(result)
            log_predictions(run, scores, tested.labels_N)
            run.log_table([one.row() for one in each], CLASSES)
            _log_pictures(run, scores, tested, test, classes, world)
            log_scores(run, parent, result, test, step)
    return replace(result, logged=run.unsent == 0, undelivered=run.undelivered)


def classifier_of(encoder: Encoder, config: Classify) -> Classifier:
    """Return the classifier of an encoder.

    Raises:
        UserError: it has none.
    """
    if encoder.classifier is None:
        option = "--encoder" if config.run is None else "--run"
        raise UserError(
            f"Classify: the encoder of {config.place} has no classifier: it was not trained by labels, or its file was "
            "copied without classifier.safetensors. Fit a linear classifier to its features, and score that: hardviews "
            f"linear {option} {config.place} --data DATA"
        )
    return encoder.classifier


def _log_pictures(run: Run, scores: Scores, tested: Features, test: Index, classes: Matched, world: World) -> None:
    """Log the confusion matrix of all classes that are true or predicted somewhere, and the tables of mistakes."""
    seen_C = torch.cat((tested.labels_N, scores.predictions_M)).unique()
    rows_M, columns_M = (torch.searchsorted(seen_C, numbers) for numbers in (tested.labels_N, scores.predictions_M))
    log_confusion(run, NAME, columns_M, rows_M, [classes.names[number] for number in seen_C.tolist()])
    named = replace(test, classes=classes.names)  # predictions are numbers of the classifier's classes
    log_mistakes(run, scores, Features.unread(test), tested, test, named, world)
