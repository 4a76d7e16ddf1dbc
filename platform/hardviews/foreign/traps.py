"""Weights whose names and shapes fit a network that computes something else, or that no network here takes."""

from hardviews.errors import UserError
from hardviews.foreign.find import Found

_PATCHES = "patch_embed.proj.weight"
_SMALL = 384  # width of a ViT-S


def check_traps(file: str, found: Found) -> None:
    """Refuse files whose features would differ from the features of their own code.

    Raises:
        UserError: saying why.
    """
    weights = found.weights
    momentum = found.place.prefix in ("base_encoder.", "momentum_encoder.")
    if momentum and _PATCHES in weights and len(weights[_PATCHES]) == _SMALL:
        raise UserError(
            f"{file} is a ViT-S of MoCo v3, which has 12 heads in a block. timm's ViT-S has 6, with weights of the "
            "same shapes: it would compute other features, so the file is refused. ViT-B of MoCo v3 can be imported."
        )
    first = weights.get("conv1.weight", weights.get(_PATCHES))
    if first is not None and first.ndim == 4 and first.shape[1] != 3:
        raise UserError(
            f"The encoder in {file} ({found.names[_first(found)]}) takes images of {first.shape[1]} colour "
            "channel(s), not of red, green and blue. Encoders of CMC and of colourisation see channels of another "
            "colour space, and cannot be evaluated here."
        )


def _first(found: Found) -> str:
    return "conv1.weight" if "conv1.weight" in found.weights else _PATCHES
