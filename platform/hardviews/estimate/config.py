"""The machines and the data set that an estimate assumes."""

from dataclasses import dataclass

from hardviews.checked import OPTION, above, at_least, require
from hardviews.estimate.gpus import gpu_named
from hardviews.models.backbones import Backbone

IMAGENET = 1_281_167
_BYTES = 147_897_477_120 / IMAGENET  # ILSVRC2012_img_train.tar
# By tests/estimate/test_published_hours.py: then the hours in the recipes' headers lie within a factor of 1.5.
_SHARE, _SHARE_OF_TRANSFORMERS = 0.05, 0.09


@dataclass(frozen=True)
class Estimate:
    """The machines and the data set that an estimate assumes.

    Attributes:
        gpu: model of the GPUs.
        gpus: number of GPUs.
        share: share of the GPU's peak that the training reaches; by default 0.05, and 0.09 for vision transformers.
            Published runs of the recipes reached about that on V100.
        images: number of images in the data set, by default ImageNet's.
        bytes_per_image: mean size of an image in the shards, by default of ImageNet's JPEG files.
        candidates: number of views among which hard ones are chosen.
        json: print the estimate as JSON.
    """

    gpu: str = "h100"
    gpus: int = 8
    share: float | None = None
    images: int = IMAGENET
    bytes_per_image: float = _BYTES
    candidates: int = 4
    json: bool = False

    def __post_init__(self) -> None:
        """Refuse machines and data sets that there cannot be."""
        gpu_named(self.gpu)
        require(
            self,
            OPTION,
            gpus=at_least(1),
            share=above(0, at_most=1).or_none(),
            images=at_least(1),
            bytes_per_image=above(0),
            candidates=at_least(1),
        )

    def share_for(self, backbone: Backbone) -> float:
        """Return the share of the peak that a network reaches."""
        if self.share is not None:
            return self.share
        return _SHARE_OF_TRANSFORMERS if backbone.is_transformer else _SHARE
