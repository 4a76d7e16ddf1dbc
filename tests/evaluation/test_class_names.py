"""Classes of a dataset are found among those of a classifier by name, or by number if one side has no names."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hardviews.data.index import SAMPLE, Index
from hardviews.errors import UserError
from hardviews.evaluation.class_names import Matched, matched
from hardviews.models.classifier import Classifier

ANIMALS = ("cat", "dog", "eel")


def match(names: tuple[str, ...], theirs: tuple[str, ...], total: int | None = None) -> Matched:
    """Match the classes of a made-up dataset with those of a classifier."""
    count = len(names) if total is None else total
    classifier = Classifier(torch.zeros(count, 2), torch.zeros(count), names)
    return matched(classifier, Index("shards/test", theirs, (), np.zeros(0, SAMPLE), 0, "digest"))


@settings(max_examples=100, deadline=None)
@given(st.lists(st.text(max_size=4), min_size=2, max_size=12, unique=True), st.data())
def test_a_class_has_the_number_of_its_name(names, data) -> None:
    theirs = data.draw(st.permutations(names))[: data.draw(st.integers(1, len(names)))]
    found = match(tuple(names), tuple(theirs))
    assert [names[number] for number in found.numbers_C.tolist()] == theirs
    assert found.names == tuple(names)
    assert len(found.remarks) == (len(theirs) < len(names))


def test_a_part_of_the_classes_is_said() -> None:
    assert match(ANIMALS, ("eel",)).remarks == ("The data have 1 of the 3 classes; images are scored among all 3.",)
    found = match(ANIMALS, ANIMALS, total=5)
    assert found.names == (*ANIMALS, "class 3", "class 4")
    assert found.remarks == ("The data have 3 of the 5 classes; images are scored among all 5.",)


@pytest.mark.parametrize(
    ("names", "theirs", "total"),
    [((), ANIMALS, 3), (ANIMALS, ("0", "1", "2"), 3), (("0", "1", "2"), ANIMALS, 3), (ANIMALS, ("0", "1", "2"), 9)],
)
def test_without_names_on_one_side_numbers_count(names, theirs, total) -> None:
    found = match(names, theirs, total)
    assert found.numbers_C.tolist() == [0, 1, 2] and "matched by number" in found.remarks[0]
    assert found.names[:3] == ANIMALS and len(found.names) == total


@pytest.mark.parametrize(
    ("names", "theirs", "words"),
    [
        (ANIMALS, ("cat", "fox"), "does not know 1 of the 2 classes of the dataset at shards/test: fox. It knows cat,"),
        (ANIMALS, ("x1", "x2", "x3"), "does not know 3 of the 3 classes .*: x1, x2, x3. It knows cat, dog, eel. Class"),
        (ANIMALS, tuple(f"n{k}" for k in range(9)), "n0, n1, n2, n3, n4 and 4 more"),
        (ANIMALS, ("0", "1"), "does not know 2 of the 2 classes"),
        (("0", "1"), ("0", "1", "2"), "does not know 1 of the 3 classes .*: 2"),
        ((), ("cat", "dog"), "names of the classifier's 3 classes are not known, and the dataset .* has 2 classes"),
    ],
)
def test_classes_that_the_classifier_does_not_know_are_named(names, theirs, words) -> None:
    with pytest.raises(UserError, match=words):
        match(names, theirs, len(names) or 3)
