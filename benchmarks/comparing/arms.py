"""The arms of the comparison: ways to choose and to harden views, and the methods that they train."""

from dataclasses import replace

from hardviews.methods.dino import DINOConfig
from hardviews.recipes.small import Small
from hardviews.strategies.adversarial import Adversarial
from hardviews.strategies.compose import Chain, Sum
from hardviews.strategies.cutmix import CutMix
from hardviews.strategies.hard_views import HardViews
from hardviews.strategies.in_turn import InTurn
from hardviews.strategies.least_overlap import LeastOverlap
from hardviews.strategies.more_views import MoreViews
from hardviews.strategies.predicted_views import PredictedViews
from hardviews.strategies.random_views import RandomViews
from hardviews.strategies.strategy import Clean, Strategy
from hardviews.train.monitor_config import MonitorConfig
from hardviews.train.recipe import Recipe
from hardviews.views.augmentation import Augmentation

METHODS = ("simsiam", "simclr", "moco", "dino")
PLAIN = "plain"
ARMS = (
    PLAIN,
    *("more", "random", "overlap", "predicted"),
    *("exact", "geometry", "cheap", "cheap_geometry"),
    *("adversarial", "cut", "hexa", "hexa_cheap", "exact_hexa"),
)
_N, _EPSILON = 4, 4 / 255


def strategy(arm: str, cheap: int, local_views: bool) -> Strategy:
    """Return the strategy of an arm.

    cheap: resolution at which the cheap arms score. local_views: whether the method has local views, which predict the
    targets of candidates.
    """
    cheaply = HardViews(_N, size=cheap, audit=20)
    if local_views:
        cheaply = replace(cheaply, score="targets", noise="training")
    attack = Adversarial(epsilon=_EPSILON, pairs="hard")
    cut = CutMix(pairs="hard")
    hexa = Sum((1.0, Clean()), (0.5, attack), (0.5, cut), average=True)
    in_turn = InTurn(replace(attack, gradient="clean"), cut)
    return {
        "plain": Clean(),
        "more": MoreViews(2),
        "random": RandomViews(_N),
        "overlap": LeastOverlap(_N, audit=20),
        "predicted": PredictedViews(_N, audit=20),
        "exact": HardViews(_N),
        "geometry": HardViews(_N, colours=False, audit=20),
        "cheap": cheaply,
        "cheap_geometry": replace(cheaply, colours=False),
        "adversarial": Sum((1.0, Clean()), (1.0, attack), average=True),
        "cut": Sum((1.0, Clean()), (1.0, cut), average=True),
        "hexa": hexa,
        "hexa_cheap": Sum((1.0, Clean()), (1.0, in_turn), average=True),
        "exact_hexa": Chain(HardViews(_N), hexa),
    }[arm]


def recipe(method: str, arm: str, size: int, cheap: int, batch: int, epochs: int, seed: int) -> Recipe:
    """Return the recipe of one run on small data."""
    small = Small(
        view=Augmentation(size=size, scale=(0.2, 1.0), sigma=(0.1, 1.0)),
        local=Augmentation(size=size // 2, scale=(0.05, 0.2), sigma=(0.1, 1.0)),
        patch=8,
        epochs=epochs,
        batch=batch,
    )
    if method == "dino":
        made = small.self_distilled(method, small.dino(), 3e-3)
    else:
        config = getattr(small, method)()
        made = small.convolutional(method, config, {"simclr": 0.3, "simsiam": 0.1, "moco": 0.1}[method])
    return replace(
        made,
        name=f"{method}-{arm}",
        strategy=strategy(arm, cheap, isinstance(made.method, DINOConfig)),
        training=replace(made.training, seed=seed, checkpoint_steps=0, checkpoint_seconds=120.0, log_steps=20),
        monitor=MonitorConfig(steps=0),
        experiment="evidence",
    )
