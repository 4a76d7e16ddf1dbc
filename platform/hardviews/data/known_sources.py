"""Where images come from before they are packed: a folder, a torchvision dataset, the handwritten digits."""

import inspect
import io
import re
import threading
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from hardviews.data.source import Item, Source, Split
from hardviews.errors import UserError, did_you_mean

CLASSIFICATION = (
    *("CIFAR10", "CIFAR100", "CLEVRClassification", "Caltech101", "Caltech256", "Country211", "DTD", "EuroSAT"),
    *("FER2013", "FGVCAircraft", "FakeData", "FashionMNIST", "Flowers102", "Food101", "GTSRB", "INaturalist"),
    *("ImageFolder", "ImageNet", "Imagenette", "KMNIST", "LFWPeople", "MNIST", "Omniglot", "OxfordIIITPet", "PCAM"),
    *("Places365", "QMNIST", "RenderedSST2", "SEMEION", "STL10", "SUN397", "SVHN", "StanfordCars", "USPS"),
)
"""Torchvision's datasets of images with one class label each, which need no other argument than their folder."""

_PARTS = {
    "CLEVRClassification": ("train", "val"),
    "ImageNet": ("train", "val"),
    "Imagenette": ("train", "val"),
    "OxfordIIITPet": ("trainval", "test"),
    "Places365": ("train-standard", "val"),
}
"""Torchvision's names of a dataset's training and test part, if they are not `train` and `test`."""


class TorchvisionDataset:
    """A torchvision classification dataset, its images re-encoded as PNG (lossless)."""

    def __init__(self, dataset: Any, name: str) -> None:
        self._dataset, self._name = dataset, name
        self._lock = threading.Lock()  # torchvision promises nothing about threads
        if len(dataset) and not isinstance(dataset[0][1], int | np.integer):
            raise UserError(
                f"torchvision's {name} has no class labels. Give a classification dataset, for example CIFAR10."
            )
        classes = getattr(dataset, "classes", None)
        if classes is None:
            labels = getattr(dataset, "targets", getattr(dataset, "labels", getattr(dataset, "_labels", None)))
            count = int(np.max(np.asarray(labels))) + 1 if labels is not None else getattr(dataset, "num_classes", 0)
            classes = [str(label) for label in range(max(0, int(count)))]
        # Some datasets list synonyms: ("tench", "Tinca tinca").
        self.classes = tuple(c if isinstance(c, str) else ", ".join(map(str, c)) for c in classes)

    def __len__(self) -> int:
        return len(self._dataset)

    def key(self, i: int) -> str:
        return f"{self._name.lower()}_{i:08d}"

    def read(self, i: int) -> Item:
        try:
            with self._lock:
                image, label = self._dataset[i]
            if not isinstance(image, Image.Image):
                image = Image.fromarray(np.asarray(image))
            data = _png(image)
        except (OSError, ValueError):
            raise
        except Exception as error:  # torchvision decodes here, and decoders raise errors of every type
            raise ValueError(f"{type(error).__name__}: {error}") from error
        return Item(self.key(i), data, "png", int(label), f"{self._name}[{i}]")


def torchvision_dataset(name: str, root: str, split: Split | None = None, download: bool = False) -> Source:
    """A dataset of torchvision by its class name, for example CIFAR10, from the folder that torchvision keeps
    it in.
    """
    kind = _torchvision_class(name)
    known = inspect.signature(kind).parameters
    arguments: dict[str, Any] = {"root": root} if "root" in known else {}
    if "download" in known:
        arguments["download"] = download
    if "train" in known:
        arguments["train"] = split != "test"
    elif "split" in known:
        train, test = _PARTS.get(name, ("train", "test"))
        arguments["split"] = test if split == "test" else train
    elif split is not None:
        raise UserError(f"torchvision's {name} has no train and test parts. Leave out the split, or use hold_out.")
    try:
        return TorchvisionDataset(kind(**arguments), name)
    except (RuntimeError, ValueError, OSError, TypeError) as error:
        # Torchvision advises its own argument.
        reason = re.sub(r"[.,;]?\s*you (can|may) (use|set) download=True[^.]*", "", str(error), flags=re.IGNORECASE)
        fetch = "add --download" if "download" in known and not download else "look there for files that are missing"
        raise UserError(
            f"torchvision's {name} could not be opened in {root!r}: {reason.rstrip('.')}. Put the dataset there, or "
            f"{fetch}."
        ) from error


def check_torchvision(name: str) -> None:
    """Refuse the name of a class of torchvision that is not a classification dataset.

    Raises:
        UserError: with the names that are supported.
    """
    _torchvision_class(name)


def has_test_part(name: str) -> bool:
    """Whether a torchvision dataset is divided into training and test images."""
    return bool({"train", "split"} & set(inspect.signature(_torchvision_class(name)).parameters))


def _torchvision_class(name: str) -> Any:
    from torchvision import datasets

    if name in CLASSIFICATION:
        return getattr(datasets, name)
    supported = f"Supported are {', '.join(CLASSIFICATION)}."
    if name in datasets.__all__:
        raise UserError(
            f"torchvision's {name} is not a classification dataset that torchvision opens by its folder alone. "
            f"{supported} To use its images without labels, give their folder as --source and leave out --torchvision."
        )
    raise UserError(f"torchvision has no dataset named {name!r}.{did_you_mean(name, CLASSIFICATION)} {supported}")


@dataclass(frozen=True)
class Digits:
    """Handwritten digits that ship with scikit-learn: 8x8 pixels, enlarged to `size` x `size` RGB PNGs."""

    pixels: Any
    labels: tuple[int, ...]
    numbers: tuple[int, ...]
    size: int

    classes = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")

    def __len__(self) -> int:
        return len(self.numbers)

    def key(self, i: int) -> str:
        return f"digit_{self.numbers[i]:04d}"

    def read(self, i: int) -> Item:
        image = Image.fromarray(self.pixels[i]).resize((self.size, self.size), Image.Resampling.BILINEAR)
        return Item(self.key(i), _png(image), "png", self.labels[i], f"load_digits()[{self.numbers[i]}]")


def digits(split: Split | None = None, size: int = 32) -> Source:
    """scikit-learn's 1,797 handwritten digits; every fifth image of each digit (355 in all) is the test part.

    The collection is ordered by writer and cycles through the digits: every fifth image of the whole would
    hold twice as many of some digits as of others.
    """
    from sklearn.datasets import load_digits

    bunch = load_digits()
    pixels = np.rint(bunch.images * (255.0 / 16.0)).astype(np.uint8)
    occurrence = np.array([np.sum(bunch.target[:i] == label) for i, label in enumerate(bunch.target)])
    tested = occurrence % 5 == 4
    numbers = np.flatnonzero(np.ones_like(tested) if split is None else tested == (split == "test"))
    return Digits(pixels[numbers], tuple(map(int, bunch.target[numbers])), tuple(map(int, numbers)), size)


def _png(image: Image.Image) -> bytes:
    stream = io.BytesIO()
    image.convert("RGB").save(stream, "PNG", compress_level=6)
    return stream.getvalue()
