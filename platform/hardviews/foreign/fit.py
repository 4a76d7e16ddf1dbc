"""Weights of a file in the network that they are of: all that it needs, in its shapes, and nothing more of it."""

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import lru_cache

import torch
from torch import Tensor, nn

from hardviews.errors import UserError
from hardviews.foreign.find import Found
from hardviews.foreign.guess import guess, has_small_stem
from hardviews.models.backbones import Backbone
from hardviews.models.encoder import exported_state

_COUNTER = "num_batches_tracked"
_POSITIONS, _PATCHES = "pos_embed", "patch_embed.proj.weight"


@dataclass(frozen=True, eq=False)
class Fitted:
    """Weights that fit a network.

    Attributes:
        backbone: the network.
        image_size: pixels a side of the images of a transformer's position embeddings; None of other networks.
        state: its whole state dict, in single precision.
        filled: names that the file lacks, and that do not change features: counters of BatchNorm's batches.
        converted: number of weights by their precision in the file, of those that were not in single precision.
    """

    backbone: Backbone
    image_size: int | None
    state: Mapping[str, Tensor]
    filled: tuple[str, ...]
    converted: Mapping[str, int]


def fit(file: str, found: Found, wanted: Backbone | None) -> Fitted:
    """Return the weights of an encoder in a file as weights of a network.

    `wanted`: the network; None recognises it by the shapes.

    Raises:
        UserError: the network is not named and not clear, or weights are missing, too many, or of other shapes.
    """
    weights = exported_state(found.weights)
    backbone = guess(weights) if wanted is None else _stemmed(wanted, weights)
    if backbone is None:
        raise UserError(
            f"The shapes of the weights in {file} do not say which network they are of. Name it by --backbone, as timm "
            "does. Networks that timm lacks cannot be imported, for example ResNets of twice the width (w2, x2)."
        )
    backbone, image_size = _laid_out(file, backbone, weights)
    expected = shapes(backbone)
    _check(file, found, wanted, backbone, weights, expected)
    filled = tuple(name for name in expected if name not in weights)
    state = {
        name: weights[name].detach() if name in weights else torch.zeros((), dtype=torch.int64) for name in expected
    }
    broken = [name for name, value in state.items() if value.is_floating_point() and not value.isfinite().all()]
    if broken:
        raise UserError(f"{file} holds numbers that are not finite, in {found.names[broken[0]]}. It is damaged.")
    floats = [name for name, value in expected.items() if value.is_floating_point()]
    others = Counter(str(state[name].dtype).removeprefix("torch.") for name in floats)
    others.pop("float32", None)
    state |= {name: state[name].float() for name in floats}
    return Fitted(backbone, image_size, state, filled, dict(others))


def _stemmed(wanted: Backbone, weights: Mapping[str, Tensor]) -> Backbone:
    """Return a network by name with the stem of the file, if that is a ResNet's for small images."""
    first = shapes(wanted).get("conv1.weight")
    if has_small_stem(weights) and first is not None and tuple(first.shape) == (64, 3, 7, 7):
        return replace(wanted, small_stem=True)
    return wanted


@lru_cache(maxsize=16)
def shapes(backbone: Backbone) -> Mapping[str, Tensor]:
    """Return the state dict of a network without its numbers."""
    return _empty(backbone).state_dict()


def _empty(backbone: Backbone) -> nn.Module:
    with torch.device("meta"):
        return backbone.build()


def _laid_out(file: str, backbone: Backbone, weights: Mapping[str, Tensor]) -> tuple[Backbone, int | None]:
    """Return a transformer with as many position embeddings as the file has, and the size of the images for them.

    timm interpolates them for images of another size, so the file's own are kept.
    """
    network = _empty(backbone)
    patches, expected = getattr(network, "patch_embed", None), getattr(network, _POSITIONS, None)
    given, first = weights.get(_POSITIONS), weights.get(_PATCHES)
    if patches is None or expected is None or given is None or first is None or given.ndim != 3:
        return backbone, None
    side = int(first.shape[-1])
    before = expected.shape[1] - int(patches.num_patches)  # class token and registers
    grid = math.isqrt(max(0, given.shape[1] - before))
    if grid * grid + before != given.shape[1] or not grid:
        raise UserError(
            f"{file} has {given.shape[1]} position embeddings, which are not {before} and those of a square of "
            f"patches. Only square images are supported; or it is not of {backbone.name}."
        )
    size = grid * side
    same = given.shape[1] == expected.shape[1]
    return (backbone if same else replace(backbone, image_size=size)), size


def _check(
    file: str,
    found: Found,
    wanted: Backbone | None,
    backbone: Backbone,
    weights: Mapping[str, Tensor],
    expected: Mapping[str, Tensor],
) -> None:
    """Refuse weights that do not belong to the network."""
    missing = [name for name in expected if name not in weights and not name.endswith(_COUNTER)]
    wrong = [name for name in expected if name in weights and weights[name].shape != expected[name].shape]
    whole = [name for name, value in expected.items() if value.is_floating_point() and name in weights]
    whole = [name for name in whole if not weights[name].is_floating_point()]
    # A classifier has a name of its own; a further block or a further layer of one has that of the network's.
    parts = {name.partition(".")[0] for name in expected}
    further = sorted(name for name in weights if name not in expected and name.partition(".")[0] in parts)
    if not (missing or wrong or whole or further):
        return
    if missing:
        problem = f"lacks {missing[0]}{_and_more(missing)}"
    elif wrong:
        name = wrong[0]
        problem = (
            f"has {found.names[name]} of shape {tuple(weights[name].shape)} instead of {tuple(expected[name].shape)}"
            f"{_and_more(wrong)}"
        )
    elif whole:
        problem = f"has {found.names[whole[0]]} in whole numbers ({weights[whole[0]].dtype}), as quantised weights are"
    else:
        problem = f"holds {found.names[further[0]]}{_and_more(further)} that the network does not have"
    guessed = None if wanted is None else guess(weights)
    other = guessed is not None and (guessed.name, guessed.patch_size) != (backbone.name, backbone.patch_size)
    remedy = (
        f"Its shapes are those of {guessed.name}."
        if guessed and other
        else "Give --backbone with the network of the file."
    )
    raise UserError(f"The weights in {file} are not of {backbone.name}: the file {problem}. {remedy}")


def _and_more(names: list[str]) -> str:
    return f" and {len(names) - 1} more" if len(names) > 1 else ""
