"""The distribution of views, and the published ones."""

import functools
from dataclasses import dataclass, field, replace
from typing import Literal

import torch

from hardviews.checked import above, at_least, each, finite, interval, one_of, require, within

Interval = tuple[float, float]
Triple = tuple[float, float, float]


# Copied to a device once: every such copy waits for it.
@functools.cache
def _channels(values: tuple[float, ...], device: torch.device) -> torch.Tensor:
    with torch.inference_mode(False):
        return torch.tensor(values, dtype=torch.float32, device=device).reshape(3, 1, 1)


@dataclass(frozen=True)
class Normalisation:
    """Mean and deviation per channel (red, green, blue) of pixels in [0, 1]; ImageNet's by default."""

    mean: Triple = (0.485, 0.456, 0.406)
    std: Triple = (0.229, 0.224, 0.225)

    def __post_init__(self) -> None:
        require(self, "normalisation", mean=each(finite()), std=each(above(0)))

    def normalise(self, images: torch.Tensor) -> torch.Tensor:
        """Return normalised float32 of uint8, or float in [0, 1], (..., 3, H, W); the memory format is kept."""
        unit = images.to(torch.float32) / 255 if images.dtype == torch.uint8 else images
        mean, std = _channels(tuple(self.mean), images.device), _channels(tuple(self.std), images.device)
        return (unit - mean) / std

    def denormalise(self, pixels: torch.Tensor) -> torch.Tensor:
        """Return normalised pixels (..., 3, H, W) back in [0, 1], not clamped."""
        return pixels * _channels(tuple(self.std), pixels.device) + _channels(tuple(self.mean), pixels.device)

    def low(self, like: torch.Tensor) -> torch.Tensor:
        """Return the normalised value of a black pixel, (3, 1, 1), on the device of `like`."""
        return self.normalise(torch.zeros(3, 1, 1, device=like.device))

    def high(self, like: torch.Tensor) -> torch.Tensor:
        """Return the normalised value of a white pixel, (3, 1, 1), on the device of `like`."""
        return self.normalise(torch.ones(3, 1, 1, device=like.device))

    def radius(self, epsilon: float, like: torch.Tensor) -> torch.Tensor:
        """Return the distance epsilon of pixels in [0, 1] for normalised pixels: epsilon / std, (3, 1, 1)."""
        return epsilon / _channels(tuple(self.std), like.device)


@dataclass(frozen=True)
class Jitter:
    """Colour jitter in random order.

    Attributes:
        brightness: x of the factors in [1 - x, 1 + x], cut at 0.
        contrast: the same for contrast.
        saturation: the same for saturation.
        hue: x of the shifts in [-x, x] turns of the colour circle.
        probability: probability that a view is jittered at all.
    """

    brightness: float = 0.4
    contrast: float = 0.4
    saturation: float = 0.4
    hue: float = 0.1
    probability: float = 0.8

    def __post_init__(self) -> None:
        require(
            self,
            "jitter",
            brightness=at_least(0),
            contrast=at_least(0),
            saturation=at_least(0),
            hue=within(0, 0.5).note("half a turn of the colour circle"),
            probability=within(0, 1),
        )


@dataclass(frozen=True)
class Augmentation:
    """The distribution of one kind of view: a random resized crop, flip, colours, blur and solarisation.

    Attributes:
        size: side of the square view in pixels.
        scale: the crop's area as a share of the image's, smallest and largest.
        ratio: the crop's width over its height, log-uniform.
        interpolation: interpolation of the resize, antialiased.
        flip: probability of a flip.
        jitter: jitter of colours.
        grayscale: probability of grayscale.
        blur: probability of a blur.
        sigma: range of the deviation of the Gaussian blur, in pixels of the view.
        solarise: probability of a solarisation.
        threshold: smallest uint8 value that solarisation inverts.
        normalisation: mean and deviation per channel.
    """

    size: int = 224
    scale: Interval = (0.2, 1.0)
    ratio: Interval = (3 / 4, 4 / 3)
    interpolation: Literal["bilinear", "bicubic"] = "bilinear"
    flip: float = 0.5
    jitter: Jitter = field(default_factory=Jitter)
    grayscale: float = 0.2
    blur: float = 0.5
    sigma: Interval = (0.1, 2.0)
    solarise: float = 0.0
    threshold: int = 128
    normalisation: Normalisation = field(default_factory=Normalisation)

    def __post_init__(self) -> None:
        require(
            self,
            "augmentation",
            size=at_least(1),
            scale=interval(above(0, at_most=1)).note("shares of the image's area"),
            ratio=interval(above(0)),
            interpolation=one_of("bilinear", "bicubic"),
            flip=within(0, 1),
            grayscale=within(0, 1),
            blur=within(0, 1),
            sigma=interval(above(0)),
            solarise=within(0, 1),
            threshold=within(0, 256),
        )

    @property
    def geometry(self) -> "Augmentation":
        """Return the same crops and flips without jitter, grayscale, blur and solarisation."""
        return replace(self, jitter=Jitter(0, 0, 0, 0, 0), grayscale=0, blur=0, solarise=0)


_DINO_JITTER = Jitter(0.4, 0.4, 0.2, 0.1)


def supervised(size: int = 224) -> Augmentation:
    """Return crops and flips alone (He et al. 2016; Goyal et al. 2017, section 5.1)."""
    return Augmentation(size=size, scale=(0.08, 1.0)).geometry


def simclr(size: int = 224) -> Augmentation:
    """Return SimCLR's views (Chen et al. 2020, arXiv 2002.05709, appendix A), colour strength 1, bicubic."""
    return Augmentation(size=size, scale=(0.08, 1.0), interpolation="bicubic", jitter=Jitter(0.8, 0.8, 0.8, 0.2))


def mocov2(size: int = 224) -> Augmentation:
    """Return MoCo v2's "aug+" (Chen et al. 2020, arXiv 2003.04297), which SimSiam uses too (arXiv 2011.10566)."""
    return Augmentation(size=size)


def dino_global1(size: int = 224, scale: Interval = (0.4, 1.0)) -> Augmentation:
    """Return DINO's first global view (Caron et al. 2021, arXiv 2104.14294): always blurred."""
    return Augmentation(size=size, scale=scale, interpolation="bicubic", jitter=_DINO_JITTER, blur=1.0)


def dino_global2(size: int = 224, scale: Interval = (0.4, 1.0)) -> Augmentation:
    """Return DINO's second global view (arXiv 2104.14294): seldom blurred, sometimes solarised."""
    return Augmentation(size=size, scale=scale, interpolation="bicubic", jitter=_DINO_JITTER, blur=0.1, solarise=0.2)


def dino_local(size: int = 96, scale: Interval = (0.05, 0.4)) -> Augmentation:
    """Return DINO's small local views (arXiv 2104.14294), blurred half of the time."""
    return Augmentation(size=size, scale=scale, interpolation="bicubic", jitter=_DINO_JITTER, blur=0.5)


def byol_first(size: int = 224, scale: Interval = (0.08, 1.0)) -> Augmentation:
    """Return BYOL's first view (Grill et al. 2020, arXiv 2006.07733, appendix B, table 6): always blurred."""
    return Augmentation(size=size, scale=scale, interpolation="bicubic", jitter=_DINO_JITTER, blur=1.0)


def byol_second(size: int = 224, scale: Interval = (0.08, 1.0)) -> Augmentation:
    """Return BYOL's second view (arXiv 2006.07733, appendix B, table 6): seldom blurred, sometimes solarised."""
    return Augmentation(size=size, scale=scale, interpolation="bicubic", jitter=_DINO_JITTER, blur=0.1, solarise=0.2)


def swav_global(size: int = 224, scale: Interval = (0.14, 1.0)) -> Augmentation:
    """Return SwAV's full-size views (Caron et al. 2020, arXiv 2006.09882, appendix A): SimCLR's colours."""
    return Augmentation(size=size, scale=scale, jitter=Jitter(0.8, 0.8, 0.8, 0.2))


def swav_local(size: int = 96, scale: Interval = (0.05, 0.14)) -> Augmentation:
    """Return SwAV's small views (arXiv 2006.09882, appendix A): the same colours, crops below the large ones."""
    return Augmentation(size=size, scale=scale, jitter=Jitter(0.8, 0.8, 0.8, 0.2))
