"""A finding of the paper (Ferreira et al. 2025, section 5), on photographs that packages ship: hard pairs overlap less.

Chance is one in six: four views make six pairs.
"""

import io

import numpy as np
import pytest
import torch
from PIL import Image
from skimage import data as skimage_data
from sklearn.datasets import load_sample_images

from hardviews.clock import Clock
from hardviews.data.pack import pack
from hardviews.data.reader import Reader
from hardviews.data.shares import Portion
from hardviews.data.source import Item
from hardviews.methods.simclr import SimCLRConfig
from hardviews.methods.simsiam import SimSiamConfig
from hardviews.models.backbones import Backbone
from hardviews.optim.optimizer import Optimizer
from hardviews.optim.schedule import Schedule
from hardviews.strategies.hard_views import HardViews
from hardviews.train.chosen_pairs import chosen_pairs
from hardviews.train.loader import LoaderConfig, ShareDataset, load
from hardviews.train.recipe import Recipe, Training
from hardviews.train.trainer import Trainer
from hardviews.views.augmentation import Augmentation
from hardviews.world import World

TILE, BATCH = 96, 64
# A small network sees overlap late, under SimSiam later than under SimCLR.
EPOCHS = {"simsiam": 12, "simclr": 8}
CHANCE = 1 / 6
# Standard errors: a method without the mechanism would pass once in 30,000 times.
MARGIN = 4.0


class Tiles:
    """Photographs cut into squares, every 48 pixels."""

    classes = ()

    def __init__(self) -> None:
        photographs = [*load_sample_images().images, skimage_data.astronaut(), skimage_data.coffee()]
        photographs += [skimage_data.chelsea(), skimage_data.rocket()]
        self.tiles = [
            photograph[top : top + TILE, left : left + TILE]
            for photograph in photographs
            for top in range(0, photograph.shape[0] - TILE, 48)
            for left in range(0, photograph.shape[1] - TILE, 48)
        ]

    def __len__(self) -> int:
        return len(self.tiles)

    def key(self, i: int) -> str:
        return f"tile_{i:04d}"

    def read(self, i: int) -> Item:
        stream = io.BytesIO()
        Image.fromarray(np.ascontiguousarray(self.tiles[i])).save(stream, "JPEG", quality=92)
        return Item(self.key(i), stream.getvalue(), "jpg", -1, f"tile/{i}")


@pytest.fixture(scope="module")
def tiles(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("tiles") / "shards"
    assert len(pack(Tiles(), str(folder))) > 300
    return str(folder)


VIEW = Augmentation(size=32, scale=(0.2, 1.0), sigma=(0.1, 0.6))
METHODS = {
    "simsiam": SimSiamConfig(width=128, layers=2, bottleneck=32, view=VIEW),
    "simclr": SimCLRConfig(hidden=128, output=64, temperature=0.2, view=VIEW),
}


def measured(method: str, tiles: str, choose: str = "hardest") -> dict[str, torch.Tensor]:
    """Train a little; return the chosen, the other and the hit pairs of every image of the last half's steps (N,)."""
    epochs = EPOCHS[method]
    recipe = Recipe(
        "mechanism",
        METHODS[method],
        Backbone("test_resnet"),
        HardViews(4, choose=choose),
        Training(epochs, BATCH),
        Optimizer("momentum", learning_rate=0.2),
        Schedule(warmup=0.1),
        LoaderConfig(workers=0),
    )
    trainer = Trainer(recipe, World(0, 1, torch.device("cpu")))
    reader = Reader(tiles)
    per_epoch = len(reader) // BATCH
    portion = Portion(seed=0, epoch=0, global_batch=BATCH, group=recipe.training.group)
    raws = load(
        recipe.loader, ShareDataset(reader, trainer.objective.plan, portion, None, epochs), trainer.world.device
    )
    found = []
    for step, raw in enumerate(raws):
        epoch = step // per_epoch
        clock = Clock(0, epoch, step, step * BATCH, epochs * per_epoch * BATCH)
        report = trainer.step([raw], clock, False)
        assert report.taken
        if epoch >= epochs // 2:
            seen = chosen_pairs(report.losses.batch.selection, trainer.objective.pairs)
            assert seen is not None and (seen.chance >= CHANCE - 1e-6).all()  # more if pairs overlap equally
            found.append((seen.overlap.chosen, seen.overlap.passed_over, seen.least.float(), seen.chance))
    chosen, passed, least, chance = (torch.cat(parts) for parts in zip(*found, strict=True))
    return {"difference": passed - chosen, "least": least - chance}


def margin(values: torch.Tensor) -> float:
    """Return how many standard errors the mean lies above 0."""
    return float(values.mean() / (values.std() / len(values) ** 0.5))


@pytest.mark.laws
@pytest.mark.parametrize("method", METHODS)
def test_hard_pairs_overlap_less_than_those_passed_over(method: str, tiles: str) -> None:
    found = measured(method, tiles)
    print({name: (float(values.mean()), len(values)) for name, values in found.items()})
    print(margin(found["difference"]), margin(found["least"]))
    assert margin(found["difference"]) > MARGIN
    assert margin(found["least"]) > MARGIN


@pytest.mark.laws
def test_easy_pairs_do_not(tiles: str) -> None:
    """The fault that the test above must find: the easiest pair in place of the hardest."""
    found = measured("simclr", tiles, choose="easiest")
    print(margin(found["difference"]), margin(found["least"]))
    assert margin(found["difference"]) < -MARGIN
    assert margin(found["least"]) < 0
