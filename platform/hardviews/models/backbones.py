"""Backbones: timm networks by name, without their classifier, with stems for small images.

Shape suffixes: B images, D features.
"""

import difflib
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal

import timm
import torch
from timm.models import is_model_in_modules
from torch import nn

from hardviews.checked import at_least, require
from hardviews.errors import UserError
from hardviews.extras import left_to_the_job

# timm modules whose networks accept `img_size`, `patch_size` and `dynamic_img_size`.
_TRANSFORMERS = ("vision_transformer", "deit", "eva")
# The patch of a transformer with a small stem: 64 tokens for a 32x32 image.
_SMALL_PATCH = 4


@dataclass(frozen=True)
class Backbone:
    """The network that encodes an image.

    Attributes:
        name: name of a timm model, e.g. `resnet50` or `vit_small_patch16_224`.
        small_stem: stem for images of about 32 to 64 pixels. A ResNet's first convolution keeps the resolution (3x3,
            stride 1), and its max-pool is removed (SimCLR, appendix B.9). A transformer's patch becomes 4 pixels,
            unless `patch_size` is set.
        drop_path: rate of stochastic depth, 0 to 1.
        image_size: pixels a side for which a transformer's position embeddings are laid out; other sizes
            interpolate them.
        patch_size: pixels a side of a transformer's patch; None keeps the one in the name.
        init: initialisation of a transformer's linear layers: normal with deviation 0.02, as in timm, DINO and iBOT, or
            Xavier's uniform (ViT, Dosovitskiy et al. 2021). With the latter, features of narrow networks differ between
            images from the first step.
        zero_residual: whether a ResNet's residual branches begin at zero (Goyal et al. 2017, section 5.1), as in timm.
    """

    name: str = "resnet50"
    small_stem: bool = False
    drop_path: float = 0.0
    image_size: int | None = None
    patch_size: int | None = None
    init: Literal["normal", "xavier"] = "normal"
    zero_residual: bool = True

    def __post_init__(self) -> None:
        require(
            self,
            "backbone",
            drop_path=at_least(0, below=1),
            image_size=at_least(1).note("pixels").or_none(),
            patch_size=at_least(1).note("pixels").or_none(),
        )
        with left_to_the_job():
            self._check_network()

    def _check_network(self) -> None:
        if not timm.is_model(self.name):
            raise UserError(_unknown(self.name))
        if not self.is_transformer:
            for field in ("image_size", "patch_size"):
                if getattr(self, field) is not None:
                    raise UserError(
                        f"Backbone: {field} is given, but {self.name} is no vision transformer that takes it (ViT, "
                        f"DeiT or EVA): remove {field}."
                    )
            if self.init != "normal":
                raise UserError(f"Backbone: init={self.init} is for vision transformers, and {self.name} is none.")
        elif self.image_size is not None and self.image_size < self._patch:
            raise UserError(
                f"Backbone: image_size is {self.image_size}, smaller than a patch of {self._patch} pixels: choose "
                f"{self._patch} or more, or set a smaller patch_size."
            )

    @property
    def _patch(self) -> int:
        """Pixels a side of a transformer's patch; 1 if unknown."""
        if self.patch_size is not None or self.small_stem:
            return self.patch_size or _SMALL_PATCH
        return _patch_of(self.name)

    @property
    def is_transformer(self) -> bool:
        """Whether the network is a vision transformer with patches and position embeddings."""
        return bool(is_model_in_modules(self.name.split(".")[0], _TRANSFORMERS))

    @property
    def num_features(self) -> int:
        """D: the width of the features that the built network returns."""
        return _num_features(self)

    def build(self, only_size: int | None = None) -> nn.Module:
        """Return the randomly initialised network that maps images (B, 3, H, W) to features (B, D).

        Its state dict has the keys of `timm.create_model(name, num_classes=0)`. `only_size` is the side in pixels of
        the only images for a transformer: its position embeddings have this size, and are never interpolated.

        Raises:
            UserError: the network does not support the configuration.
        """
        options: dict[str, Any] = {}
        if self.drop_path:
            options["drop_path_rate"] = self.drop_path
        if not self.zero_residual:
            options["zero_init_last"] = False
        if self.is_transformer:
            options["dynamic_img_size"] = only_size is None
            if only_size is not None or self.image_size is not None:
                options["img_size"] = only_size or self.image_size
            if self.patch_size is not None or self.small_stem:
                options["patch_size"] = self._patch
            if self.init == "xavier":
                options["weight_init"] = "jax"
        try:
            network: nn.Module = timm.create_model(self.name, pretrained=False, num_classes=0, **options)
        except TypeError as error:
            raise UserError(
                f"Backbone: {self.name} does not take one of {sorted(options)} ({error}); leave it at its "
                f"default or choose another network."
            ) from error
        # Some networks drop features before the missing classifier, by a function that only this attribute switches
        # off. Otherwise targets and attacks would not be functions of the pixels.
        if hasattr(network, "drop_rate"):
            network.drop_rate = 0.0  # type: ignore[assignment]
        if self.small_stem and not self.is_transformer:
            _shrink_stem(network, self.name)
        return network


def _shrink_stem(network: nn.Module, name: str) -> None:
    """Make a ResNet's stem keep the resolution: 3x3 stride 1 for 7x7 stride 2, and no max-pool."""
    if not isinstance(network, timm.models.resnet.ResNet):
        raise UserError(
            f"Backbone: small_stem is for ResNets and vision transformers, and {name} is neither; set "
            f"small_stem=False or choose e.g. resnet18."
        )
    first: nn.Module = network.conv1
    if isinstance(first, nn.Conv2d):
        small = nn.Conv2d(first.in_channels, first.out_channels, 3, 1, 1, bias=first.bias is not None)
        nn.init.kaiming_normal_(small.weight, mode="fan_out", nonlinearity="relu")
        network.register_module("conv1", small)
    elif isinstance(first, nn.Sequential) and isinstance(first[0], nn.Conv2d):
        # Deep stems (the `d` and `t` networks) are 3x3 convolutions already: the first one strides.
        first[0].stride = (1, 1)
    network.register_module("maxpool", nn.Identity())


def _unknown(name: str) -> str:
    """Return the message that timm has no such network, with similar names."""
    close = difflib.get_close_matches(name, timm.list_models(), n=5, cutoff=0.5)
    hint = (
        f"Close: {', '.join(close)}."
        if close
        else "List them with: python -c 'import timm; print(timm.list_models())'."
    )
    return f"Backbone: timm has no network named {name!r}. {hint}"


@lru_cache(maxsize=64)
def _patch_of(name: str) -> int:
    """Return the patch of a transformer in timm, built on the meta device like in `_num_features`."""
    with torch.device("meta"):
        network: Any = timm.create_model(name, pretrained=False)
    side = getattr(getattr(network, "patch_embed", None), "patch_size", 1)
    return int(side[0] if isinstance(side, tuple) else side)


@lru_cache(maxsize=64)
def _num_features(backbone: Backbone) -> int:
    # On the meta device no memory is taken and no random number is drawn.
    with torch.device("meta"):
        network: Any = backbone.build()
    # Some networks (MobileNet, EfficientNet's heads) widen after the last stage.
    return int(getattr(network, "head_hidden_size", None) or network.num_features)
