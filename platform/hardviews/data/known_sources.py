"""Where images come from before they are packed: a folder, a torchvision dataset, the handwritten digits."""

import inspect
import io
import threading
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from hardviews.data.source import Item, Source, Split
from hardviews.errors import UserError


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
        # ImageNet and a few others name their held-out part "val".
        arguments["split"] = "val" if split == "test" and name in ("ImageNet", "Places365") else split or "train"
    elif split is not None:
        raise UserError(f"torchvision's {name} has no train and test parts. Leave out the split, or use hold_out.")
    try:
        return TorchvisionDataset(kind(**arguments), name)
    except (RuntimeError, ValueError, OSError, TypeError) as error:
        raise UserError(
            f"torchvision's {name} could not be opened in {root!r}: {str(error).rstrip('.')}. Put the "
            "dataset there, or ask for its download where it has one."
        ) from error


def has_test_part(name: str) -> bool:
    """Whether a torchvision dataset is divided into training and test images."""
    return bool({"train", "split"} & set(inspect.signature(_torchvision_class(name)).parameters))


def _torchvision_class(name: str) -> Any:
    from torchvision import datasets

    kind = getattr(datasets, name, None)
    if not (inspect.isclass(kind) and name in datasets.__all__):
        near = [n for n in datasets.__all__ if n.lower().startswith(name.lower()[:3])]
        hint = f" Did you mean {', '.join(near)}?" if near else ""
        raise UserError(f"torchvision has no dataset named {name!r}.{hint}")
    return kind


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
