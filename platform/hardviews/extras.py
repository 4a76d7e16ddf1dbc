"""The packages of each extra, and the error if one of them is not installed.

`pip install hardviews` installs a client: it submits jobs, checks them, and packs images. `hardviews[train]` adds
training and evaluation. `hardviews[export]` adds further formats of `hardviews export` to `hardviews[train]`.
"""

import importlib.util
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, suppress

from hardviews.errors import UserError

TRAIN = "train"

PACKAGES: Mapping[str, tuple[str, ...]] = {
    TRAIN: (
        "torch",
        "torchvision",
        "timm",
        "mlflow",
        "boto3",
        "cv2",
        "sklearn",
        "scipy",
        "safetensors",
        "matplotlib",
        "prometheus_client",
        "pynvml",
    ),
    "export": ("onnx", "onnxscript", "onnxruntime", "transformers"),
}
"""Import names of the packages of each extra."""

STAND_IN = "a stand-in"
"""Origin of an empty module in place of one that is not installed: `hardviews.settings_only`."""


class MissingExtra(UserError, ImportError):
    """A needed package is not installed; the message names the extra that installs it."""

    def __init__(self, extra: str, what: str) -> None:
        super().__init__(f"{what}, which is not installed here: {install(extra)}")


def install(extra: str) -> str:
    """Return the command that installs an extra."""
    return f"pip install 'hardviews[{extra}]'"


def extra_of(module: str | None) -> str | None:
    """Return the extra that installs a module, or None."""
    package = (module or "").partition(".")[0]
    return next((extra for extra, names in PACKAGES.items() if package in names), None)


def missing(extra: str) -> list[str]:
    """Return the packages of an extra that are not installed."""
    return [name for name in PACKAGES[extra] if not _installed(name)]


def _installed(package: str) -> bool:
    spec = importlib.util.find_spec(package)
    return spec is not None and spec.origin != STAND_IN


def need_torch(what: str) -> None:
    """Refuse a command or function in an installation without torch.

    what: the beginning of the message, such as `hardviews knn`.

    Raises:
        MissingExtra: torch is not installed.
    """
    if not _installed("torch"):
        raise MissingExtra(TRAIN, f"{what} needs torch")


@contextmanager
def in_one_sentence(what: str) -> Iterator[None]:
    """Inside, an import of a missing package of an extra raises an error of one sentence.

    what: the beginning of the message, such as `hardviews export`.

    Raises:
        MissingExtra: in place of a ModuleNotFoundError.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        extra = extra_of(error.name)
        if extra is None:
            raise
        raise MissingExtra(extra, f"{what} needs {error.name}") from None


def left_to_the_job() -> AbstractContextManager[None]:
    """Inside, a check of settings ends early if it needs a package that is not installed; the job repeats the check."""
    return suppress(MissingExtra)
