"""The learning rates that a fine-tuning chooses from, by its recipe."""

from collections.abc import Mapping, Sequence
from itertools import product

from hardviews.train.recipe import Recipe

_PUBLISHED: Mapping[str, tuple[float, ...]] = {
    "finetune_byol_r50_50": (0.005, 0.01, 0.02, 0.05, 0.1),  # Grill et al. 2020, appendix C.1
}
_AROUND = (0.3, 1.0, 3.0)


def candidates(
    recipe: Recipe, rates: Sequence[float] | None = None, heads: Sequence[float] | None = None
) -> list[tuple[float, float]]:
    """Return pairs of `optimizer.learning_rate` and `optimizer.head_rate`, in ascending order.

    `rates`: rates to try, by default the choices of the recipe's publication, otherwise three around the recipe's own.
    `heads`: head rates to try, by default the recipe's own.
    """
    own = recipe.optimizer
    around = tuple(float(f"{factor * own.learning_rate:.3g}") for factor in _AROUND)
    return sorted(set(product(rates or _PUBLISHED.get(recipe.name, around), heads or (own.head_rate,))))
