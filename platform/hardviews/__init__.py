"""Elastic pretraining of visual encoders on hard views."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hardviews.own_loop.attack import attack as attack
    from hardviews.own_loop.hard_views import hard_views as hard_views

__version__ = "0.1.0"

# Imported when first used, so that `import hardviews` is quick and needs no torch.
_LAZY = {"attack": "hardviews.own_loop.attack", "hard_views": "hardviews.own_loop.hard_views"}
__all__ = [*_LAZY]


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used."""
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_LAZY[name]), name)


def __dir__() -> list[str]:
    """Return the public names, those that are not imported yet included."""
    return sorted({*globals(), *_LAZY})
