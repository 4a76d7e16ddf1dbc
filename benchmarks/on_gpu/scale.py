"""The sizes that the GPU benchmark measures at: those of the publications, or toys for a CPU."""

import re
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import torch

from hardviews.recipes import RECIPES, recipe_named
from hardviews.recipes.header import header
from hardviews.strategies.hard_views import HardViews
from hardviews.strategies.strategy import Clean, Strategy
from hardviews.train.precision import Precision
from hardviews.train.recipe import Recipe


@dataclass(frozen=True)
class Subject:
    """A recipe without hard views at the batch of one GPU, and the strategies that are compared with it."""

    title: str
    recipe: Recipe
    ways: Mapping[str, Strategy]

    def under(self, way: str) -> Recipe:
        """Return the recipe under one of the strategies."""
        return replace(self.recipe, strategy=self.ways[way])


@dataclass(frozen=True)
class Scale:
    """Sizes and durations of the measurements.

    Attributes:
        toy: whether networks are very small.
        device: to measure on.
        peak: operations in bfloat16 that the card makes per second; None if it is not known.
        side: of pictures before they are cropped, pixels.
        canvas: that pictures are laid on, pixels a side; as the loader's.
        sizes: of views, pixels: full size and local.
        views: images that are rendered and compared.
        seconds: that one strategy is timed for in a round.
        rounds: in alternation.
        until: `time.monotonic()` at which the running case is stopped.
    """

    toy: bool
    device: torch.device
    peak: float | None = None
    side: int = 500
    canvas: int = 512
    sizes: tuple[int, int] = (224, 96)
    views: int = 64
    seconds: float = 0.4
    rounds: int = 7
    until: float = field(default=float("inf"))

    @property
    def left(self) -> float:
        """Seconds that the running case has left."""
        return self.until - time.monotonic()

    @property
    def precision(self) -> Precision:
        """Device and number format of training steps."""
        return Precision("cpu", "float32") if self.toy else Precision("cuda", "bfloat16")

    def simsiam(self) -> Subject:
        """Return SimSiam."""
        if self.toy:
            return self._toy("SimSiam", "digits_simsiam", 8)
        return self._published("SimSiam R50", "simsiam_r50_100")

    def dino(self) -> Subject:
        """Return DINO on a ViT."""
        if self.toy:
            # A ViT of iBOT's recipe: that of DINO for digits trains a ResNet.
            subject = self._toy("DINO", "digits_dino", 8)
            recipe = replace(subject.recipe, backbone=recipe_named("digits_ibot").backbone)
            return replace(subject, recipe=replace(recipe, method=replace(recipe.method, batchnorm=False)))
        return self._published("DINO ViT-S/16", "dino_vits16_100")

    def moco(self) -> Subject:
        """Return MoCo-v2, with HEXA_MoCo among the strategies."""
        subject = self._toy("MoCo", "digits_moco", 8) if self.toy else self._published("MoCo-v2 R50", "mocov2_r50_200")
        strategies = {way: recipe_named(f"hexa_moco_r50_200{end}").strategy for way, end in _HEXA.items()}
        return replace(subject, ways={**subject.ways, **strategies})

    def _published(self, title: str, name: str) -> Subject:
        recipe = recipe_named(name)
        ways = {way: recipe_named(f"{name}{end}").strategy for way, end in _WAYS.items()}
        return self._subject(title, recipe, ways, recipe.training.batch // gpus_of(name))

    def _toy(self, title: str, name: str, batch: int) -> Subject:
        ways = {"plain": Clean(), "exact HVS": HardViews(4), "cheap HVS": HardViews(4, size=24)}
        return self._subject(title, recipe_named(name), ways, batch)

    def _subject(self, title: str, recipe: Recipe, ways: Mapping[str, Strategy], batch: int) -> Subject:
        training = replace(recipe.training, batch=batch, group=min(recipe.training.group, batch))
        loader = replace(recipe.loader, renderer="device", workers=0)
        plain = replace(recipe, strategy=Clean(), training=training, loader=loader, precision=self.precision)
        return Subject(title, plain, ways)


_WAYS = {"plain": "", "exact HVS": "_hvs", "cheap HVS": "_hvs_cheap"}
_HEXA = {"HEXA": "", "HEXA cheap": "_cheap", "HEXA turns": "_turns"}


def gpus_of(name: str) -> int:
    """Return the number of GPUs that a recipe's header names."""
    hardware = header(RECIPES[name]).facts["hardware"]
    found = re.match(r"(\d+) GPUs", hardware)
    assert found, f"{name}: {hardware}"
    return int(found[1])


def toy() -> Scale:
    """Return the scale for a CPU: it shows that every part works, and its figures mean nothing."""
    return Scale(True, torch.device("cpu"), None, 64, 64, (32, 16), 4, 0.0, 1)
