"""A file of weights as an encoder, with the account of everything in the file."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import timm

from hardviews.foreign.contents import Contents
from hardviews.foreign.find import Found, find
from hardviews.foreign.fit import Fitted, fit, shapes
from hardviews.foreign.left_over import Group, left_over
from hardviews.foreign.traps import check_traps
from hardviews.models.backbones import Backbone
from hardviews.models.encoder import Encoder, Interpolation
from hardviews.views.augmentation import Normalisation

_SIDE = 224  # pixels a side of the images, of networks that do not say
_SMALL_SIDE = 32  # of those with a stem for small images
_FACTS = ("epoch", "arch")


@dataclass(frozen=True, eq=False)
class Imported:
    """An encoder in a file.

    Attributes:
        contents: contents of the file.
        found: place of the encoder.
        fitted: its weights.
        groups: everything else in the file.
    """

    contents: Contents
    found: Found
    fitted: Fitted
    groups: tuple[Group, ...]

    @property
    def facts(self) -> Mapping[str, Any]:
        """The file's facts about its training: epoch and architecture, if present."""
        held = self.contents.held
        return {name: held[name] for name in _FACTS if isinstance(held.get(name), int | str)}

    def encoder(self, inputs: "Inputs", provenance: Mapping[str, Any]) -> Encoder:
        """Return the encoder with images as its input has them."""
        fitted = self.fitted
        encoder = Encoder(
            fitted.backbone, inputs.normalisation, None, inputs.image_size, provenance, inputs.interpolation
        )
        encoder.network.load_state_dict(dict(fitted.state))
        return encoder.eval()


@dataclass(frozen=True)
class Inputs:
    """The images that an encoder takes: their normalisation, pixels a side, and the filter that resizes them."""

    normalisation: Normalisation
    image_size: int
    interpolation: Interpolation = "bicubic"


def imported(contents: Contents, layout: str | None, part: str | None, backbone: Backbone | None) -> Imported:
    """Return the encoder in a file.

    `layout`, `part`, `backbone`: None for those that the file's names and shapes determine.

    Raises:
        UserError: there is none, or it does not fit the network.
    """
    found = find(contents, layout, part, () if backbone is None else shapes(backbone))
    check_traps(contents.file, found)
    fitted = fit(contents.file, found, backbone)
    return Imported(contents, found, fitted, tuple(left_over(contents, found, fitted.state)))


def usual_inputs(one: Imported) -> Inputs:
    """Return the images that a file's encoder was trained on, as far as its layout and its network determine them.

    They are those of the layout; if the network is named with timm's tag of its weights, those of timm.
    """
    name, size = one.fitted.backbone.name, one.fitted.image_size
    side = _SMALL_SIDE if one.fitted.backbone.small_stem else _SIDE
    if "." in name:
        return inputs_of_timm(name, size)
    return Inputs(one.found.layout.normalisation, size or side)


def inputs_of_timm(name: str, image_size: int | None = None) -> Inputs:
    """Return the images for which timm has weights of a network. image_size: instead of timm's."""
    usual = timm.get_pretrained_cfg(name)
    if usual is None:
        return Inputs(Normalisation(), image_size or _SIDE)
    (red, green, blue), (red_std, green_std, blue_std) = usual.mean, usual.std
    normalisation = Normalisation((red, green, blue), (red_std, green_std, blue_std))
    filter_: Interpolation = "bilinear" if usual.interpolation == "bilinear" else "bicubic"
    return Inputs(normalisation, image_size or int(usual.input_size[-1]), filter_)
