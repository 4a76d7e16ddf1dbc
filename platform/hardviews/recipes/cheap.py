"""Recipes on hard views that are chosen cheaply: each differs from the exact one beside it in its strategy alone.

Candidates are scored at 64 pixels, at which a ResNet's last map is 2x2 and a ViT of patch 16 has 16 tokens. For DINO
and iBOT with small views, candidates are scored only as targets of the small views, whose encodings come from training.
Small views are then not chosen themselves.

SimSiam and SimCLR have twice as many candidates, at three quarters of that size, 48 pixels. The last map of a ResNet
is still 2x2. Many very small candidates find more of the hardness than few, at the same cost
(`benchmarks/recovered.py`). For MoCo this would cost more than a fifth of a step, and for other methods it is not
measured.
"""

from collections.abc import Callable
from dataclasses import replace

from hardviews.methods.dino import DINOConfig
from hardviews.methods.ibot import IBOTConfig
from hardviews.methods.method import MethodConfig
from hardviews.methods.simclr import SimCLRConfig
from hardviews.methods.simsiam import SimSiamConfig
from hardviews.recipes.header import header
from hardviews.strategies.compose import Chain
from hardviews.strategies.hard_views import HardViews
from hardviews.strategies.strategy import Strategy
from hardviews.train.recipe import Recipe

SIZE = 64
_MANY = SimSiamConfig | SimCLRConfig


def cheap(exact: Callable[[], Recipe], passes: float, exactly: float) -> Callable[[], Recipe]:
    """Return the recipe that chooses cheaply, with a header of its own.

    `passes` and `exactly` are the forward passes of a step of the cheap recipe and of the exact one.
    """
    name = f"{exact.__name__}_cheap"

    def recipe() -> Recipe:
        made = exact()
        return replace(made, name=name, strategy=cheaper(made.strategy, made.method))

    facts = header(exact).facts
    hours = facts["hours"].split(" ")[0]
    recipe.__name__ = recipe.__qualname__ = name
    recipe.__module__ = exact.__module__
    recipe.__doc__ = f"""{header(exact).title.rstrip(".")}; chosen cheaply.

    hardware  {facts["hardware"]}
    hours     {int(hours) * passes / exactly:.0f} ({hours} x {passes:g}/{exactly:g})
    number    not known (nobody has run it; {exact.__name__} is the published form)
    open      whether the accuracy is that of the exact choice; for all else see {exact.__name__}
    """
    return recipe


def cheaper(strategy: Strategy, method: MethodConfig, size: int = SIZE, maps: bool = True) -> Strategy:
    """Return a strategy whose hard views are chosen cheaply, scored at `size` pixels or a little less.

    `maps`: whether the network has a last map, of 2x2 cells at `size` pixels; if not, it has patches. If small views
    predict targets that a second network makes, global views are scored as targets alone.
    """
    if isinstance(strategy, Chain):
        return Chain(*(cheaper(link, method, size, maps) for link in strategy.links))
    if not isinstance(strategy, HardViews):
        return strategy
    if isinstance(method, DINOConfig | IBOTConfig) and method.locals > 0:
        return replace(strategy, size=size, score="targets", noise="training", local_candidates=None, limit=None)
    if maps and isinstance(method, _MANY):
        return replace(strategy, size=size * 3 // 4, candidates=2 * strategy.candidates)
    return replace(strategy, size=size)
