"""One run of the comparison: a way to use some labels, and the accuracy that it reaches."""

from dataclasses import dataclass
from pathlib import Path

import torch

from hardviews.cli import main
from hardviews.data.index import Index
from hardviews.data.pack import pack
from hardviews.data.packed_source import PackedSource
from hardviews.data.source import Subset
from hardviews.evaluation.held_out import held_out
from hardviews.evaluation.probes.classify import Classify, evaluate_classify
from hardviews.evaluation.probes.linear import Linear, evaluate_linear

LINEAR, UNTRAINED, TUNED = WAYS = ("linear", "untrained", "fine-tuned")
"""A linear classifier on the frozen encoder; the network trained from random weights; the encoder trained further."""
RECIPE = "digits_finetune"

_PENALTIES = (1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0)  # wide enough that neither end is the best
_HELD_OUT = 0.3


@dataclass(frozen=True)
class Amount:
    """How many labels, and how long the network is trained on them.

    Attributes:
        labels: as `--labels` takes them.
        epochs: passes through these images.
        batch: images a step; there may not be more than there are labels.
    """

    labels: str
    epochs: int
    batch: int

    @property
    def name(self) -> str:
        """Name of a folder."""
        return self.labels.replace("%", "pct")

    @property
    def words(self) -> list[str]:
        """Return the settings of the recipe."""
        return ["--training.epochs", str(self.epochs), "--training.batch", str(self.batch)]


AMOUNTS = (Amount("2-per-class", 100, 16), Amount("10%", 50, 32), Amount("100%", 10, 32))


@dataclass(frozen=True)
class Places:
    """Places of the files: the dataset, the pretraining's output, and a folder for everything that is made."""

    shards: Path
    encoder: Path
    folder: Path


@dataclass(frozen=True)
class Job:
    """Which run: how many labels, a way to use them, and a seed of the draw and of the training."""

    amount: Amount
    way: str
    seed: int

    @property
    def name(self) -> str:
        """Name of its output and of its file of results."""
        return f"{self.amount.name}-{self.way}-{self.seed}"


def perform(job: Job, places: Places, settings: list[str]) -> dict[str, object]:
    """Use the labels that the seed draws, and return the accuracy on the test images, in per cent.

    settings: further ones of the recipe.
    """
    torch.set_num_threads(1)
    project = str(places.folder / "project")
    labelled = _drawn(job, places)
    if job.way == LINEAR:
        run = {"run": str(places.encoder), "data": str(labelled), "project": project}
        config = Linear(**run, baselines=False, penalties=_PENALTIES, seed=job.seed)
        top1 = evaluate_linear(config).metrics["pretrained"]["linear/top1"]
    else:
        output, seed = str(places.folder / "runs" / job.name), str(job.seed)
        words = ["--output", output, "--project", project, "--training.seed", seed, *job.amount.words, *settings]
        if job.way == UNTRAINED:
            main(["pretrain", RECIPE, "--data", str(labelled), *words])
        else:
            own = ["--data", str(places.shards), "--labels", job.amount.labels, "--labels-seed", seed]
            main(["finetune", str(places.encoder), "--recipe", RECIPE, *own, *words])
        scored = Classify(run=output, data=str(places.shards), project=project)
        top1 = evaluate_classify(scored).metrics["pretrained"]["classify/top1"]
    images = len(Index.load(str(labelled / "train")))
    return {"labels": job.amount.labels, "images": images, "way": job.way, "seed": job.seed, "top1": round(top1, 2)}


def without_test(shards: Path, out: Path) -> None:
    """Pack the training images anew, a part of them as the test part: settings are chosen there."""
    index = Index.load(str(shards / "train"))
    mask_N = held_out(index, share=_HELD_OUT)
    for part, chosen_N in (("train", ~mask_N), ("test", mask_N)):
        rows = tuple(chosen_N.nonzero().flatten().tolist())
        pack(Subset(PackedSource(index), rows), str(out / part), overwrite=True)


def _drawn(job: Job, places: Places) -> Path:
    """Return the dataset of the labels that a job uses: the part that `--labels` draws, packed once."""
    if job.amount.labels == "100%":
        return places.shards
    out = places.folder / "labels" / job.name
    words = ["--labels", job.amount.labels, "--seed", str(job.seed), "--out", str(out), "--overwrite"]
    main(["pack", "--source", str(places.shards), *words])
    return out
