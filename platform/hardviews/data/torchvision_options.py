"""Options of torchvision's data sets, given as text: part, partition, version."""

import inspect
import re
from collections.abc import Mapping, Sequence
from typing import Any

from hardviews.data.source import Split
from hardviews.errors import UserError, did_you_mean

CLASSIFICATION = (
    *("CIFAR10", "CIFAR100", "CLEVRClassification", "Caltech101", "Caltech256", "Country211", "DTD", "EuroSAT"),
    *("FER2013", "FGVCAircraft", "FakeData", "FashionMNIST", "Flowers102", "Food101", "GTSRB", "INaturalist"),
    *("ImageFolder", "ImageNet", "Imagenette", "KMNIST", "LFWPeople", "MNIST", "Omniglot", "OxfordIIITPet", "PCAM"),
    *("Places365", "QMNIST", "RenderedSST2", "SEMEION", "STL10", "SUN397", "SVHN", "StanfordCars", "USPS"),
)
"""Torchvision's datasets of images with one class label each that need no argument but their folder."""

MULTI_LABEL = ("VOCDetection",)
"""Torchvision's datasets whose annotations yield classes of images; an image may have several."""

SUPPORTED = CLASSIFICATION + MULTI_LABEL

_PARTS = {
    "CLEVRClassification": ("train", "val"),
    "ImageNet": ("train", "val"),
    "Imagenette": ("train", "val"),
    "OxfordIIITPet": ("trainval", "test"),
    "Places365": ("train-standard", "val"),
    "VOCDetection": ("trainval", "test"),
}
"""Torchvision's names of the training and test part, if they are not `train` and `test`."""

_PART_PARAMETER = {"INaturalist": "version", "VOCDetection": "image_set"}
"""The parameter that names a part, if it is neither `train` nor `split`."""

_DEFAULTS = {"VOCDetection": {"year": "2007"}}
"""Options with another default than torchvision's: 2007 is the year with labels for testing."""

_NO_OPTIONS = frozenset(
    {"root", "download", "train", "transform", "target_transform", "transforms", "loader", "target_type"}
    | {"target_types", "is_valid_file", "allow_empty", "kwargs", "compat"}
)
"""Parameters that change the images, or that another option names."""

_BOOLEANS = {"yes": True, "true": True, "1": True, "no": False, "false": False, "0": False}


def torchvision_class(name: str) -> Any:
    """Return a class of torchvision by its name.

    Raises:
        UserError: it is not a classification dataset; the message lists the supported names.
    """
    from torchvision import datasets

    if name in SUPPORTED:
        return getattr(datasets, name)
    supported = f"Supported are {', '.join(SUPPORTED)}."
    if name in datasets.__all__:
        raise UserError(
            f"torchvision's {name} is not a classification dataset that torchvision opens by its folder alone. "
            f"{supported} To use its images without labels, give their folder as --source and leave out --torchvision."
        )
    raise UserError(f"torchvision has no dataset named {name!r}.{did_you_mean(name, SUPPORTED)} {supported}")


def check_torchvision(name: str) -> None:
    """Refuse the name of a class of torchvision that is not a classification dataset.

    Raises:
        UserError: the name is refused; the message lists the supported names.
    """
    torchvision_class(name)


def has_test_part(name: str) -> bool:
    """Whether a torchvision dataset is divided into training and test images."""
    return name in _PARTS or bool({"train", "split"} & set(_parameters(name)))


def read_options(texts: Sequence[str], option: str) -> dict[str, str]:
    """Return options given as `key=value`; `option` is the word before them, for the message.

    Raises:
        UserError: an option has another form.
    """
    found = {}
    for text in texts:
        key, sign, value = text.partition("=")
        if not sign or not re.fullmatch(r"[a-z_]+", key):
            raise UserError(f"{option} {text} is not an option. Write KEY=VALUE, for example partition=1.")
        found[key] = value
    return found


def for_test(name: str, options: Mapping[str, str], test_options: Mapping[str, str]) -> dict[str, str]:
    """Return the options of the test part: the training part's options except its name, and its own options."""
    names = _names_of_part(name)
    return {key: value for key, value in options.items() if key not in names} | dict(test_options)


def names_part(name: str, options: Mapping[str, str]) -> bool:
    """Return whether options name a part of a dataset."""
    return bool(_names_of_part(name) & set(options))


def arguments(name: str, split: Split | None, options: Mapping[str, str]) -> dict[str, dict[str, Any]]:
    """Return the arguments of a dataset's class for each part that is joined, by the part's name.

    `split` is our name of the part; `options` may name another one, or several, as in `train+val`.

    Raises:
        UserError: an option that the class does not have, or a value that it cannot have.
    """
    parameters = _parameters(name)
    given = {key: value for key, value in options.items() if key not in _names_of_part(name)}
    given = _DEFAULTS.get(name, {}) | given
    known = {key for key in parameters if key not in _NO_OPTIONS | {_part_parameter(name)}}
    for key in given:
        if key not in known:
            listed = ", ".join(sorted(known | _names_of_part(name))) or "none"
            raise UserError(
                f"torchvision's {name} has no option {key!r}.{did_you_mean(key, known)} Its options: {listed}."
            )
    shared = {key: _value(name, key, value, parameters[key].default) for key, value in given.items()}
    parts = next((options[key] for key in sorted(_names_of_part(name)) if key in options), None)
    if parts is None:
        return {"": shared | _default_part(name, split)}
    return {part: shared | _part(name, part) for part in parts.split("+")}


def _default_part(name: str, split: Split | None) -> dict[str, Any]:
    """Return the argument for our training or test part; all of a dataset without parts."""
    parameters = _parameters(name)
    if "train" in parameters:
        return {"train": split != "test"}
    if "split" in parameters or name in _PARTS:
        train, test = _PARTS.get(name, ("train", "test"))
        return {str(_part_parameter(name)): test if split == "test" else train}
    if split is not None:
        raise UserError(f"torchvision's {name} has no train and test parts. Leave out the split, or use hold_out.")
    return {}


def _part(name: str, part: str) -> dict[str, Any]:
    parameter = _part_parameter(name)
    if parameter == "train":
        if part not in ("train", "test"):
            raise UserError(f"torchvision's {name} has the parts train and test, and none named {part!r}.")
        return {"train": part == "train"}
    return {str(parameter): part}


def _part_parameter(name: str) -> str | None:
    parameters = _parameters(name)
    usual = "train" if "train" in parameters else "split" if "split" in parameters else None
    return _PART_PARAMETER.get(name, usual)


def _names_of_part(name: str) -> set[str]:
    """Return the options that name a part; `split` works for every dataset that has parts."""
    parameter = _part_parameter(name)
    return set() if parameter is None else {"split"} | ({parameter} - {"train"})


def _parameters(name: str) -> Mapping[str, inspect.Parameter]:
    return inspect.signature(torchvision_class(name)).parameters


def _value(name: str, key: str, text: str, default: Any) -> Any:
    """Return the value of a text, in the type of the parameter's default."""
    try:
        if isinstance(default, bool):
            return _BOOLEANS[text.lower()]
        if isinstance(default, tuple):
            return tuple(int(part) for part in text.split(","))
        if isinstance(default, int) or (default is None and text.isdecimal()):
            return int(text)
    except (KeyError, ValueError):
        kind = "yes or no" if isinstance(default, bool) else "whole numbers"
        raise UserError(f"torchvision's {name}: the option {key} is {text!r}; it takes {kind}.") from None
    return text
