"""The contract of an export format, and the formats' common checks.

Shape suffixes: B images, C channels, H rows, W columns, D features.
"""

import importlib.util
from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from torch import Tensor

from hardviews.errors import UserError
from hardviews.models.encoder import Encoder


@dataclass(frozen=True)
class Subject:
    """The encoder that is exported, and its licence.

    Attributes:
        encoder: in eval mode, on the CPU.
        license: licence of the weights, as a tag of the Hugging Face Hub, for example `apache-2.0`.
    """

    encoder: Encoder
    license: str = "unknown"


class Format(ABC):
    """One way to hand an encoder to another library.

    Attributes:
        name: the word on the command line.
        packages: names of the modules that this format needs from the extra `export`.
        bound: largest relative difference of features that is admitted, see `comparison.difference`.
        has_card: whether the model card is a part of it.
    """

    name: ClassVar[str]
    packages: ClassVar[tuple[str, ...]] = ()
    bound: ClassVar[float] = 1e-6
    has_card: ClassVar[bool] = False

    @abstractmethod
    def misfit(self, encoder: Encoder) -> str:
        """Return why the format cannot express the encoder, as a clause without a full stop; empty if it can."""

    @abstractmethod
    def write(self, subject: Subject, folder: Path) -> None:
        """Write the format's files into an empty folder."""

    @abstractmethod
    def features(self, encoder: Encoder, folder: Path, images_BCHW: Tensor) -> Tensor:
        """Load the files as a user would, and return features (B, D) of uint8 images.

        `encoder`: only its sizes are used, never its weights.
        """

    @abstractmethod
    def loading(self, encoder: Encoder, folder: str) -> str:
        """Return the lines of Python that load the export in a folder, whose name may stand between double quotes."""


def check_packages(form: Format) -> None:
    """Refuse a format whose packages are not installed.

    Raises:
        UserError: something is missing; the message names it and the way to install it.
    """
    missing = [name for name in form.packages if importlib.util.find_spec(name) is None]
    if missing:
        raise UserError(
            f"--format {form.name} needs {', '.join(missing)}, which {'is' if len(missing) == 1 else 'are'} not "
            "installed. Install the extra: pip install 'hardviews[export]'"
        )
