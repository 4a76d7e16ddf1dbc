"""Which class of a dataset is which class of a classifier: by name, or by number if one side has no names.

Shape suffixes: L classes of the classifier, C classes of the dataset.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from hardviews.data.index import Index
from hardviews.errors import UserError
from hardviews.models.classifier import Classifier

_SHOWN = 5


@dataclass(frozen=True, eq=False)
class Matched:
    """The classes of a dataset among the classes of a classifier.

    numbers_C: the classifier's number of each class of the dataset. names: of the classifier's classes, for people.
    remarks: sentences, for example that the dataset lacks some classes.
    """

    numbers_C: Tensor
    names: tuple[str, ...]
    remarks: tuple[str, ...] = ()


def matched(classifier: Classifier, index: Index) -> Matched:
    """Match the classes of a dataset with the classes of a classifier.

    Raises:
        UserError: the classifier does not know a class of the dataset.
    """
    total, theirs = len(classifier), index.classes
    known = {name: number for number, name in enumerate(classifier.names)}
    missing = [name for name in theirs if name not in known]
    if missing and _by_number(classifier, theirs):
        names = theirs if _unnamed(classifier.names) else classifier.names
        remark = f"The {len(theirs)} classes are matched by number: on one side they have no names."
        return Matched(torch.arange(len(theirs)), _filled(names, total), (remark,))
    if missing and not classifier.names:
        raise UserError(
            f"Classify: the names of the classifier's {total} classes are not known, and the dataset at {index.url} "
            f"has {len(theirs)} classes, so they cannot be matched by number either. Pack images of all {total} "
            "classes, or score the encoder by hardviews linear."
        )
    if missing:
        raise UserError(
            f"Classify: the classifier does not know {len(missing)} of the {len(theirs)} classes of the dataset at "
            f"{index.url}: {_some(missing)}. It knows {_some(classifier.names)}. Classes are matched by name: pack "
            "images of these classes alone, or score the encoder by hardviews linear."
        )
    numbers_C = torch.tensor([known[name] for name in theirs])
    remarks: tuple[str, ...] = ()
    if len(theirs) < total:
        remarks = (f"The data have {len(theirs)} of the {total} classes; images are scored among all {total}.",)
    return Matched(numbers_C, _filled(classifier.names, total), remarks)


def _by_number(classifier: Classifier, theirs: Sequence[str]) -> bool:
    """Whether one side alone has no names, and both have as many classes."""
    count = len(classifier.names) or len(classifier)
    return count == len(theirs) and _unnamed(classifier.names) != _unnamed(theirs)


def _unnamed(names: Sequence[str]) -> bool:
    """Whether names are unknown: there are none, or they are the numbers of the classes."""
    return list(names) == [str(number) for number in range(len(names))]


def _filled(names: Sequence[str], total: int) -> tuple[str, ...]:
    """Return a name for each class."""
    return (*names, *(f"class {number}" for number in range(len(names), total)))


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more
