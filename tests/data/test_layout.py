"""Layouts of folders of images, as people and downloads have them: recognised, or refused with the folders found."""

import pytest

from hardviews.data.layout import Layout, Tree, recognise
from hardviews.errors import UserError


def layout(*folders: str) -> Layout:
    """Recognise a folder with two images in each of these folders; "" is the folder itself."""
    paths = [f"{folder}/{i}.jpg".lstrip("/") for folder in folders for i in range(2)]
    return recognise(Tree(sorted(paths)), "photos")


def labelled(*parts: str) -> list[str]:
    return [f"{part}/{name}" for part in parts for name in ("cat", "dog")]


@pytest.mark.parametrize(
    ("train", "test"),
    [
        ("train", "test"),
        ("train", "val"),
        ("TRAIN", "TEST"),
        ("Train", "Val"),
        ("Training", "Testing"),
        ("training", "validation"),
        ("train", "valid"),
        ("train", "dev"),
        ("trainset", "testset"),
        ("training_set", "test_set"),
        ("TrainImages", "TestImages"),
        ("train2017", "val2017"),
        ("seg_train", "seg_test"),
        ("cars_train", "cars_test"),
        ("ILSVRC2012_img_train", "ILSVRC2012_img_val"),
        ("set/train", "set/test"),
        ("a/b/c/Training", "a/b/c/Testing"),
        ("images/train", "images/val"),
        ("train/train", "test/test"),
        ("train/images", "test/images"),
    ],
)
def test_parts(train, test):
    found = layout(*labelled(train, test))
    assert found.test is not None
    assert (found.train.folder, found.test.folder) == (train, test)
    assert found.train.classes == found.test.classes == ("cat", "dog")
    assert any(train in remark and test in remark for remark in found.remarks)


def test_the_validation_part_is_tested_on_if_the_test_part_has_no_labels():
    found = layout(*labelled("train", "val"), "test")
    assert found.test is not None and found.test.folder == "val"
    assert any("test (2 images without labels)" in remark for remark in found.remarks)


@pytest.mark.parametrize("unlabelled", [["test"], ["val/images"], ["test", "val"], ["test/test"]])
def test_a_test_part_without_labels_is_no_test_part(unlabelled):
    found = layout(*labelled("train"), *unlabelled)
    assert found.test is None and found.parts
    assert sum("images without labels" in remark for remark in found.remarks) == len(unlabelled)


def test_of_three_parts_one_is_left_out():
    found = layout(*labelled("train", "val", "test"), "extra")
    assert found.test is not None and found.test.folder == "test"
    assert any("left out: val (4 images)" in remark for remark in found.remarks)
    assert any("left out: extra (2 images)" in remark for remark in found.remarks)


def test_images_beside_the_parts_are_left_out():
    found = layout("", *labelled("train", "test"))
    assert found.test is not None
    assert any("2 images beside" in remark for remark in found.remarks)


def test_parts_without_labels():
    found = layout("train", "test")
    assert (found.train.folder, found.train.classes, found.test) == ("train", (), None)
    assert any("left out: test (2 images)" in remark for remark in found.remarks)
    found = layout("train", *labelled("test"))
    assert (found.train.classes, found.test) == ((), None)


@pytest.mark.parametrize("inner", ["train", "Training", "images", "JPEGImages", "PetImages", "a/b/c"])
def test_one_folder_around_the_classes(inner):
    found = layout(*labelled(inner))
    assert (found.train.folder, found.train.classes, found.test) == (inner, ("cat", "dog"), None)
    assert any(inner in remark for remark in found.remarks)


@pytest.mark.parametrize("inner", ["images", "train", "set/images", "JPEGImages"])
@pytest.mark.parametrize("beside", [[], ["labels"], ["masks"], ["annotations/trimaps", "SegmentationClass"]])
def test_a_folder_of_images_without_labels(inner, beside):
    if beside and inner == "train":
        return
    parent = inner.rpartition("/")[0]
    found = layout(inner, *(f"{parent}/{name}".lstrip("/") for name in beside))
    assert (found.train.folder, found.train.classes) == (inner, ())
    assert all(any(name.split("/")[0] in remark for remark in found.remarks) for name in beside)


def test_annotations_inside_the_parts():
    found = layout("train/images", "train/labels", "valid/images", "valid/labels")
    assert (found.train.folder, found.train.classes, found.test) == ("train/images", (), None)


@pytest.mark.parametrize(
    ("folders", "classes"),
    [
        (["cat", "dog"], ("cat", "dog")),
        (["cat"], ("cat",)),
        (["bus", "car", "train"], ("bus", "car", "train")),
        (["invalid", "valid"], ("invalid", "valid")),
        (["passenger train", "test tube"], ("passenger train", "test tube")),
        (["test tube"], ("test tube",)),
        (["mask", "no mask"], ("mask", "no mask")),
        (["data", "images"], ("data", "images")),
        (["cat/2019", "cat/2020", "dog"], ("cat", "dog")),
        (["cat/2019", "dog/2019", "dog/2020"], ("cat", "dog")),
    ],
)
def test_classes(folders, classes):
    found = layout(*folders)
    assert (found.train.folder, found.train.classes, found.test) == ("", classes, None)
    assert any("2019" in remark for remark in found.remarks) == any("/" in folder for folder in folders)


def test_a_flat_folder():
    found = layout("")
    assert (found.train.folder, found.train.classes, found.remarks) == ("", (), [])


@pytest.mark.parametrize(
    ("folders", "seen"),
    [
        (["", "cat", "dog"], r"class folders \(cat, dog\) and also 2 image"),
        (["train", "train/cat", *labelled("test")], r"class folders \(cat\) and also 2 image"),
        (labelled("test"), "none for training: the folders test.*--source photos/test"),
        (["val", "test"], "none for training: the folders test, val"),
        (labelled("set/Testing"), "none for training.*Testing"),
        (labelled("train", "Train", "test"), "two folders for one part of the data: Train and train"),
        (labelled("train", "val", "valid"), "two folders for one part of the data: val and valid"),
        (labelled("train", "extra"), "the folder train.*beside extra.*--source photos/train"),
        (labelled("train") + labelled("test")[:1] + ["test/bird"], "class 'bird' is in 'photos/test'"),
        (["images", "masks", "previews"], "images, masks, previews, and it is not clear.*--source photos/images"),
    ],
)
def test_unclear_layouts_are_refused(folders, seen):
    with pytest.raises(UserError, match=seen):
        layout(*folders)


def test_a_class_of_the_test_part_is_not_taken_for_a_folder_around_classes():
    found = layout(*labelled("train"), "test/cat/2019", "test/cat/2020")
    assert found.test is not None
    assert (found.test.folder, found.test.classes) == ("test", ("cat",))
