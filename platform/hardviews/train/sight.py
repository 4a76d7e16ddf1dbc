"""The content of a measurement of the representation, for its pictures.

Shape legend: M of all images, D features, P features of the projector.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

from hardviews.evaluation.monitoring.specimens import Specimens
from hardviews.models.encoder import Encoder


@dataclass(frozen=True, eq=False)
class Sight:
    """The images of a measurement, the network as it was, and its features.

    Attributes:
        specimens: the images.
        encoder: the exported network, as a copy in evaluation mode.
        values_MD: features of all images.
        projected_MP: features of the projector, if there is one.
        labels: labels of the labelled parts, by their names; None without labelled images.
    """

    specimens: Specimens
    encoder: Encoder
    values_MD: Tensor
    projected_MP: Tensor | None
    labels: Mapping[str, Tensor] | None

    def label(self, place: int) -> int:
        """Return the label of an image by its place among all images; -1 for unlabelled images."""
        for name, labels in (self.labels or {}).items():
            part = self.specimens.place(name)
            if part.start <= place < part.stop:
                return int(labels[place - part.start])
        return -1
