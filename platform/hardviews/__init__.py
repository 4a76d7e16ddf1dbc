"""Elastic pretraining of visual encoders on hard views."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hardviews import recipes as recipes
    from hardviews.interface.encoders import load as load
    from hardviews.interface.packing import pack as pack
    from hardviews.interface.runs import Run as Run
    from hardviews.interface.runs import finetune as finetune
    from hardviews.interface.runs import pretrain as pretrain
    from hardviews.interface.scoring import compare as compare
    from hardviews.interface.scoring import evaluate as evaluate
    from hardviews.own_loop.attack import attack as attack
    from hardviews.own_loop.hard_views import hard_views as hard_views

__version__ = "0.1.0"

# Imported when first used, so that `import hardviews` is quick and needs no torch.
_LAZY = {
    "pack": "hardviews.interface.packing",
    "pretrain": "hardviews.interface.runs",
    "finetune": "hardviews.interface.runs",
    "Run": "hardviews.interface.runs",
    "load": "hardviews.interface.encoders",
    "evaluate": "hardviews.interface.scoring",
    "compare": "hardviews.interface.scoring",
    "hard_views": "hardviews.own_loop.hard_views",
    "attack": "hardviews.own_loop.attack",
}
_MODULES = ("recipes",)
_WITHOUT_TORCH = ("pack",)
__all__ = [*_LAZY, *_MODULES]


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from hardviews.extras import in_one_sentence, need_torch

    if name not in _WITHOUT_TORCH:
        need_torch(f"{__name__}.{name}")
    with in_one_sentence(f"{__name__}.{name}"):
        if name in _MODULES:
            return import_module(f"{__name__}.{name}")
        return getattr(import_module(_LAZY[name]), name)


def __dir__() -> list[str]:
    """Return the public names, those that are not imported yet included."""
    own = {"Any", "TYPE_CHECKING", "import_module"}
    return sorted({*globals(), *__all__} - own)
