"""A check that a dataset has the labels that a method trains on."""

from hardviews.data.index import Index
from hardviews.errors import UserError
from hardviews.methods.method import Method


def check_labels(method: Method, index: Index, whole: bool = True) -> None:
    """Refuse a dataset whose labels a method cannot train on; a method without labels accepts any dataset.

    If `whole` is set, the index has its tables. Without them only the classes are known.

    Raises:
        UserError: there are no labels, several labels for an image, labels of one class only, or more classes than the
            method distinguishes.
    """
    for setting, labelled in method.labelled_methods():
        _check(labelled, setting, index, whole)


def _check(method: Method, setting: str, index: Index, whole: bool) -> None:
    name, classes = type(method).__name__, len(index.classes)
    if index.multi_label:
        raise UserError(
            f"{name} needs images with one label each, and in {index.url} an image may have several. Train on another "
            "dataset."
        )
    if not classes or (whole and not (index.labels >= 0).any()):
        raise UserError(
            f"{name} trains on labels, and the dataset {index.url} has none. Pack images in class folders (hardviews "
            "pack --source FOLDER), or choose a self-supervised recipe."
        )
    if classes > method.classes:
        raise UserError(
            f"The dataset {index.url} has {classes} classes, more than the {method.classes} that {name} distinguishes: "
            f"set --{setting}.classes {classes}."
        )
    if classes == 1 or (whole and len(set(index.labels[index.labels >= 0].tolist())) == 1):
        raise UserError(
            f"{name} learns to distinguish classes, and all labels of {index.url} are of one class. Give images of two "
            "classes or more, or choose a self-supervised recipe."
        )
