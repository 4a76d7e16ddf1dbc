"""The course of every evaluation of a frozen encoder: data, features, choice, test, and the record of it."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial

import torch

from hardviews.data.index import Index
from hardviews.evaluation.checks import check_crop, check_datasets, check_labels, choose_device
from hardviews.evaluation.child_run import checkpoint_tags, open_run
from hardviews.evaluation.evaluation import Evaluation
from hardviews.evaluation.features.crops import Images
from hardviews.evaluation.features.extract import Features, extract
from hardviews.evaluation.features.preprocess import Preprocess
from hardviews.evaluation.features.sources import Embedding, Source, embedding
from hardviews.evaluation.features.stages import check_stage, stages_of
from hardviews.evaluation.held_out import held_out, names_of
from hardviews.evaluation.mistakes import log_mistakes
from hardviews.evaluation.overlap import find_overlaps
from hardviews.evaluation.probe import Fitted, Peeks, PeeksEach, Task
from hardviews.evaluation.record import (
    dataset_use,
    held_out_use,
    left_out,
    log_confusion,
    log_held_out,
    log_inputs,
    log_predictions,
    log_scores,
    origin,
    overlap_metrics,
    without_copies,
)
from hardviews.evaluation.result import Announce, Result, Scores, silent
from hardviews.evaluation.scores import scored
from hardviews.foreign.record import sentence
from hardviews.runs.sweep import sweep
from hardviews.runs.waiting import wait_for
from hardviews.storage.store import check_writable
from hardviews.world import World, joined

Fit = Callable[[Task], Fitted]


def evaluate(config: Evaluation, name: str, fit: Fit, announce: Announce = silent) -> Result:
    """Fit a protocol on the training part, predict the test part once, and log the outcome.

    The record is a child of the pretraining run. announce: is called with the scores as soon as they are known: figures
    and the tracking come after it.

    Raises:
        UserError: unlabelled or mismatched datasets, before anything is computed. RuntimeError: a weight of the encoder
        moved.
    """
    with joined(partial(choose_device, config.device)) as world:
        return _evaluate(config, name, fit, announce, world)


def _evaluate(config: Evaluation, name: str, fit: Fit, announce: Announce, world: World) -> Result:
    check_writable("project", config.project)
    wait_for(config.awaited(), config.wait)
    config = config.located()
    encoder = config.open(config.project).to(world.device).to(memory_format=torch.channels_last)
    train_url, test_url = config.packed()
    train = Index.load(train_url)
    check_labels(train, config.takes_label_sets)  # a dataset without labels has no test part, so this comes first
    test = Index.load(test_url)
    check_datasets(train, test, config.takes_label_sets)
    config.check_data(train)
    digest = encoder.digest
    sources: tuple[Source, ...] = ("pixels", "untrained", "pretrained") if config.baselines else ("pretrained",)
    preprocess = config.preprocess(encoder.image_size, encoder.interpolation)
    check_crop(encoder, preprocess.crop)
    check_stage(encoder, config.stage)
    outcome: dict[Source, Scores] = {}
    peeks: dict[Source, Mapping[str, float]] = {}
    notes: dict[str, list[Source]] = {}
    label = config.label
    run, parent = open_run(config, name, encoder, test, world)
    with run:
        run.use_store(sweep)
        run.log_params(config.resolved())
        run.set_tags(
            {
                "hardviews.encoder": digest,
                **checkpoint_tags(config.place, encoder),
                **origin(encoder),
                "hardviews.dataset.train": train.digest,
                "hardviews.dataset.test": test.digest,
            }
        )
        step = int(encoder.provenance.get("samples", 0))
        held_out_N, names = held_out(train, config.seed, config.held_out), names_of(train)
        others = [dataset_use(train, "training")]
        if held_out_N.any():
            others.append(held_out_use(train, held_out_N, names))
        of_test = log_inputs(run, config.place, encoder, test, others)
        if config.chooses:
            log_held_out(run, held_out_N, names)
        for source in sources:
            kind = config.read(embedding(source, encoder, config.seed))
            features = partial(_features, config, kind, preprocess, world)
            images = Images(train, kind, preprocess, config.batch_size, config.workers)
            seen = Features.unread(train) if config.on_crops else features(train, "train")
            task = Task(seen, held_out_N, len(train.classes), world, names, images)
            fitted = fit(task)
            # The choice is made: from here on the test set may be looked at, once.
            tested = features(test, "test")
            scores = scored(name, fitted.predict(tested), tested.labels_N, fitted.choice, tested.sets_NL, label.name)
            outcome[source] = scores
            peeks[source] = _peeks(name, fitted, tested)  # after the scores, and never among them
            for remark in fitted.choice.remarks:
                notes.setdefault(remark, []).append(source)
        overlaps = find_overlaps(test, train, config.place, config.overlap, config.workers) if world.leads else []
        for source in reversed(sources):  # as the page shows them: the encoder's first
            scores = outcome[source] = without_copies(name, overlaps, outcome[source], tested.labels_N)
            prefix = "" if source == "pretrained" else f"{source}/"
            # A baseline's numbers are none of the encoder.
            about = of_test if source == "pretrained" else replace(of_test, model=None)
            values = {**scores.metrics, **peeks[source]}
            about.log(run, {f"{prefix}{key}": value for key, value in values.items()}, step)
        scores = outcome["pretrained"]
        of_test.log(run, overlap_metrics(overlaps), step)
        remarks = [words] if (words := sentence(encoder.provenance)) else []
        if config.stage is not None:
            remarks.append(f"Features are those of stage {config.stage} of {stages_of(encoder.network)}, pooled.")
        called = config.called(encoder)
        for remark, found in notes.items():
            rows = [called.removesuffix(" encoder") if source == "pretrained" else source for source in found]
            remarks.append(f"{', '.join(rows)}: {remark}")
        remarks += [remark for one in overlaps if (remark := one.remark())]
        remarks += [*left_out(train, "training"), *left_out(test, "test")]
        if encoder.digest != digest:
            raise RuntimeError("a weight of the frozen encoder moved during the evaluation")
        metrics = {source: scores.metrics for source, scores in outcome.items()}
        # Chance is unknown if an image may have several classes.
        classes = 0 if train.multi_label else len(train.classes)
        result = Result(name, metrics, scores.headings, digest, run.run_id, classes, tuple(remarks))
        result = replace(result, label=label.name, encoder=called)
        if world.leads:
            announce(result)
            # Of the last source, the pretrained encoder.
            if not train.multi_label:
                log_predictions(run, scores, tested.labels_N)
                log_confusion(run, name, scores.predictions_M, tested.labels_N, train.classes)
                log_mistakes(run, scores, task.train, tested, train, test, world)
            log_scores(run, parent, result, test, step)
    return replace(result, logged=run.unsent == 0, undelivered=run.undelivered)


def _peeks(name: str, fitted: Fitted, tested: Features) -> dict[str, float]:
    """Return the scores of the candidates that are the best on the test set itself, if the protocol has any."""
    found: dict[str, float] = {}
    if isinstance(fitted, Peeks):
        found[f"{name}/peek_best_top1"] = fitted.peek(tested)
    if isinstance(fitted, PeeksEach):
        found |= {f"{name}/peek_{key}": value for key, value in fitted.peeks(tested).items()}
    return found


def _features(
    config: Evaluation, kind: Embedding, preprocess: Preprocess, world: World, index: Index, part: str
) -> Features:
    title = f"{kind.source}, {part}"
    return extract(index, kind, preprocess, world, batch_size=config.batch_size, workers=config.workers, title=title)
