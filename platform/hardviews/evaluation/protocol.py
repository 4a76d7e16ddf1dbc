"""What every evaluation of a frozen encoder has in common: data, features, baselines, and the record of
it.
"""

import hashlib
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Literal, Self

import torch
from torch import Tensor

from hardviews.checked import OPTION, at_least, require, within
from hardviews.data.index import Index, is_dataset
from hardviews.data.reader import Reader
from hardviews.errors import UserError
from hardviews.evaluation.features import Embed, Features, Preprocess, Source, embedding, extract
from hardviews.evaluation.waiting import wait_for_encoder
from hardviews.models.encoder import Encoder, load
from hardviews.runs.checkpoint import Checkpoints
from hardviews.runs.manifest import Damaged
from hardviews.runs.sweep import sweep
from hardviews.storage.store import check_writable
from hardviews.storage.url import check_given, check_here
from hardviews.tracking.failures import MissingRun
from hardviews.tracking.job import JOB, job_tags
from hardviews.tracking.mlflow_run import Run
from hardviews.tracking.settings import setting
from hardviews.tracking.spare import spare

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Evaluation:
    """Which encoder is evaluated, on what.

    Attributes:
        run: the output folder of a pretraining job, or an exported encoder's folder or file (path or URL).
        data: the folder with packed `train` and `test` datasets (path or URL), or its dataset `train`.
        train: the training dataset, instead of the one in `data`.
        test: the test dataset, instead of the one in `data`.
        baselines: score raw pixels and the same network with random weights too.
        resize: pixels of the shorter side; by default what the encoder was trained at.
        crop: pixels of the central crop; by default what the encoder was trained at.
        batch_size: images encoded at once.
        workers: threads that decode images; 0 is taken for 1.
        device: `auto` takes a GPU where there is one.
        seed: of the random weights and of what the protocol draws.
        project: folder of the tracking record, where MLFLOW_TRACKING_URI names no server.
        experiment: MLflow experiment that the evaluation is logged to.
        wait: seconds to wait for the encoder of a run that is still being trained.
    """

    run: str
    data: str | None = None
    train: str | None = None
    test: str | None = None
    baselines: bool = False
    resize: int | None = None
    crop: int | None = None
    batch_size: int = 256
    workers: int = 4
    device: Literal["auto", "cpu", "cuda"] = "auto"
    seed: int = 0
    project: str = ".hardviews"
    experiment: str = "hardviews"
    wait: float = 0.0

    def __post_init__(self) -> None:
        """Refuse sizes and counts that are none, and places and an experiment without a name."""
        check_given(run=self.run, data=self.data, train=self.train, test=self.test)
        check_here(project=self.project)
        require(
            self,
            OPTION,
            resize=at_least(1).or_none(),
            crop=at_least(1).or_none(),
            batch_size=at_least(1),
            workers=at_least(0),
            seed=within(0, 2**32 - 1),
            wait=at_least(0).note("seconds"),
        )
        if not self.experiment.strip():
            raise UserError("Evaluation: experiment is empty; give the name of an MLflow experiment, new or not.")

    def urls(self) -> tuple[str, str]:
        """The addresses of the training and the test dataset."""
        found = []
        for name, given in (("train", self.train), ("test", self.test)):
            if given is None and self.data is None:
                raise UserError(
                    f"Evaluation: no {name} data given. Give --data FOLDER (which holds packed `train` and "
                    f"`test` datasets) or --{name} URL."
                )
            found.append(given or f"{str(self.data).rstrip('/')}/{name}")
        return found[0], found[1]

    def located(self) -> Self:
        """Return the same evaluation with `data` naming the folder of the parts, if it names their `train`.

        Raises:
            UserError: the store does not answer, or `data` is a dataset of another name.
        """
        if self.data is None or (self.train is not None and self.test is not None):
            return self
        return replace(self, data=_folder_of_parts(self.data))


def _folder_of_parts(data: str) -> str:
    """Return the folder that holds the parts: `data`, or the folder above it if `data` is the part `train`.

    A training takes either as its data.
    """
    address = data.rstrip("/")
    folder, slash, name = address.rpartition("/")
    if not is_dataset(address) or is_dataset(f"{address}/train"):
        return address
    if name != "train":
        raise UserError(
            f"--data {data} is a packed dataset itself, and an evaluation needs two. Give them by --train and --test, "
            "or give --data the folder that holds them as `train` and `test`."
        )
    return folder if slash else "."


@dataclass(frozen=True, eq=False)
class Scores:
    """A protocol's metrics of one kind of features, and its predictions.

    headings: by metric, the heading of its column in a table; only test accuracies, in per cent, have one, and the
    other metrics are only logged. predictions_M: the predicted class of each test sample, for the confusion matrix;
    title: the title of that matrix.
    """

    metrics: Mapping[str, float]
    headings: Mapping[str, str]
    predictions_M: Tensor
    title: str


@dataclass(frozen=True)
class Result:
    """An evaluation's outcome: metrics by source of features, the encoder's digest, and the run it is logged
    to.

    headings: as those of `Scores`. logged: whether all of it arrived there; undelivered: if not, why, and what to do.
    """

    name: str
    metrics: Mapping[Source, Mapping[str, float]]
    headings: Mapping[str, str]
    digest: str
    run_id: str
    logged: bool = True
    undelivered: str = ""


Announce = Callable[[Result], None]


def silent(result: Result) -> None:
    """Announce nothing."""


Score = Callable[[Features, Features, int, torch.device], Scores]


def evaluate(config: Evaluation, name: str, score: Score, announce: Announce = silent) -> Result:
    """Extract features, score them, and log the outcome as a child of the pretraining run.

    announce: is called with the scores as soon as they are known: figures and the tracking come after it.

    Raises UserError for unlabelled or mismatched datasets, before anything is computed; and RuntimeError if
    an encoder's weight moved.
    """
    device = choose_device(config.device)
    check_writable("project", config.project)
    config = config.located()
    train_url, test_url = config.urls()
    wait_for_encoder(config.run, config.wait)
    encoder = load(config.run).to(device).to(memory_format=torch.channels_last)
    train = Index.load(train_url)
    check_labels(train)  # a dataset without labels has no test part, so this comes first
    test = Index.load(test_url)
    check_datasets(train, test)
    digest = encoder.digest
    sources: tuple[Source, ...] = ("pixels", "untrained", "pretrained") if config.baselines else ("pretrained",)
    preprocess = Preprocess.of(encoder.image_size, config.resize, config.crop)
    check_crop(encoder, preprocess.crop)
    outcome: dict[Source, Mapping[str, float]] = {}
    with _open_run(config, name, encoder) as run:
        run.use_store(sweep)
        run.log_params(config)
        run.set_tags(
            {
                "hardviews.encoder": digest,
                **_checkpoint(config.run, encoder),
                "hardviews.dataset.train": train.digest,
                "hardviews.dataset.test": test.digest,
            }
        )
        step = int(encoder.provenance.get("samples", 0))
        for source in sources:
            embed = embedding(source, encoder, config.seed)
            features = [_extract(config, index, embed, preprocess, f"{source}, {part}") for part, index in
                        (("train", train), ("test", test))]  # fmt: skip
            scores = score(features[0], features[1], len(train.classes), device)
            outcome[source] = scores.metrics
            prefix = "" if source == "pretrained" else f"{source}/"
            run.log_metrics({f"{prefix}{key}": value for key, value in scores.metrics.items()}, step)
        if encoder.digest != digest:
            raise RuntimeError("a weight of the frozen encoder moved during the evaluation")
        result = Result(name, outcome, scores.headings, digest, run.run_id)
        announce(result)
        # Of the last source, the pretrained encoder.
        _log_confusion(run, name, scores, features[1], train.classes)
    return replace(result, logged=run.unsent == 0, undelivered=run.undelivered)


def top(n: int, scores_ML: Tensor, labels_M: Tensor) -> float:
    """The share of samples, in per cent, whose label is among the n classes of highest score."""
    best_Mn = scores_ML.topk(min(n, scores_ML.shape[1]), dim=1).indices
    return 100.0 * (best_Mn == labels_M.to(best_Mn.device)[:, None]).any(1).double().mean().item()


def choose_device(wanted: Literal["auto", "cpu", "cuda"]) -> torch.device:
    """Return the device, the GPU if there is one and it is not forbidden; raises UserError if it is asked for
    in vain.
    """
    if wanted == "cuda" and not torch.cuda.is_available():
        raise UserError("Evaluation: device is `cuda`, and PyTorch sees no GPU here; give --device cpu or auto.")
    return torch.device("cuda" if wanted != "cpu" and torch.cuda.is_available() else "cpu")


def check_labels(index: Index) -> None:
    """Raise UserError unless every sample of a dataset has a label."""
    if not index.labelled:
        raise UserError(
            f"Evaluation needs labels, and the dataset at {index.url} has samples without. Pack it from "
            "a folder of class folders, or evaluate on another one."
        )


def check_datasets(train: Index, test: Index) -> None:
    """Raise UserError unless both datasets have labels, of the same two or more classes, and differ."""
    for index in (train, test):
        check_labels(index)
    if train.classes != test.classes:
        different = sorted(set(train.classes) ^ set(test.classes))
        raise UserError(
            f"Evaluation: the datasets at {train.url} and {test.url} do not have the same classes in the "
            f"same order (different: {', '.join(different[:5]) or 'their order'}). Pack both from the same "
            "class folders."
        )
    if len(seen := set(train.labels.tolist())) < 2:
        name = train.classes[seen.pop()] if seen else "none"
        raise UserError(
            f"Evaluation: all images of the dataset at {train.url} are of one class, {name}. Accuracy would measure "
            "nothing, since there is nothing to tell apart. Pack a folder with two class folders or more."
        )
    if train.digest == test.digest:
        raise UserError(
            f"Evaluation: {train.url} and {test.url} hold the same dataset, so the test would be on its own "
            "training samples. Give a test dataset that was held out."
        )


def check_crop(encoder: Encoder, crop: int) -> None:
    """Raise UserError where the network cannot take images of that size; it is asked with an empty one."""
    if crop == encoder.image_size:
        return
    device = next(encoder.parameters()).device
    try:
        encoder.embed(torch.zeros(1, 3, crop, crop, dtype=torch.uint8, device=device))
    except (AssertionError, ValueError, RuntimeError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0].rstrip(".")
        raise UserError(
            f"Evaluation: {encoder.backbone.name} cannot take a crop of {crop} pixels ({reason}). Give another --crop, "
            f"or none: then it is {encoder.image_size}, as in the training."
        ) from error


def _checkpoint(run: str, encoder: Encoder) -> dict[str, str]:
    """The checkpoint that the encoder was exported from, by name and digest, where it is still there."""
    checkpoints = Checkpoints(run)
    for name in checkpoints.names():
        try:
            manifest = checkpoints.manifest(name)
        except Damaged:
            continue
        if manifest is not None and manifest.progress.samples == encoder.provenance.get("samples"):
            digest = hashlib.sha256(manifest.encode()).hexdigest()
            return {"hardviews.checkpoint": name, "hardviews.checkpoint.digest": digest}
    return {}


def _extract(config: Evaluation, index: Index, embed: Embed, preprocess: Preprocess, title: str) -> Features:
    reader = Reader(index)
    options = {"batch_size": config.batch_size, "workers": config.workers}
    try:
        return extract(reader.iterate_all(), len(index), embed, preprocess, title=title, **options)
    finally:
        reader.close()


def _open_run(config: Evaluation, name: str, encoder: Encoder) -> Run:
    parent = encoder.provenance.get("run_id")
    tags = {"hardviews.evaluation": name, **job_tags()}
    job = setting(JOB)
    # A job that is started again after its node was lost goes on in the run that it began.
    key = f"{job} {name} of {encoder.digest}" if job else None
    start = partial(Run.start, config.experiment, name, folder=config.project, key=key)
    try:
        return start(parent=parent, tags=tags)
    except MissingRun as error:
        logger.warning("%s The evaluation is logged as a run of its own.", error)
        return start(tags=tags | {"hardviews.pretraining_run": str(parent)})


def _log_confusion(run: Run, name: str, scores: Scores, test: Features, classes: tuple[str, ...]) -> None:
    path = f"figures/{name}_confusion.png"
    with spare(path):
        from hardviews.tracking.figures import confusion_matrix  # matplotlib takes a second to import

        count = len(classes)
        counts = torch.bincount(test.labels_N * count + scores.predictions_M, minlength=count * count)
        run.log_figure(confusion_matrix(counts.reshape(count, count).numpy(), classes, scores.title), path)
