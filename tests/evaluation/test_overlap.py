import io
from dataclasses import dataclass, field

import numpy as np
import pytest
from PIL import Image
from skimage import data

from hardviews.data.pack import pack
from hardviews.data.source import Item
from hardviews.evaluation import overlap
from hardviews.evaluation.overlap import Overlap, find_overlaps, hashes
from hardviews.runs.record import Record


def picture(number):
    """A tile of a photograph."""
    whole = (data.astronaut(), data.coffee(), data.rocket())[number % 3]
    row, column = divmod(number // 3, 4)
    return Image.fromarray(np.ascontiguousarray(whole[90 * row : 90 * row + 90, 100 * column : 100 * column + 100]))


def encoded(image, kind="png", **options):
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


@dataclass
class Pictures:
    images: list[bytes]
    classes: tuple[str, ...] = field(default=("a", "b"))

    def __len__(self):
        return len(self.images)

    def key(self, i):
        return f"key{i}"

    def read(self, i):
        kind = "jpg" if self.images[i][:2] == b"\xff\xd8" else "png"
        return Item(f"key{i}", self.images[i], kind, i % 2, f"picture {i}")


@pytest.fixture
def sets(tmp_path):
    """Training, test and pretraining data, with planted copies."""
    train = [encoded(picture(number)) for number in range(0, 12)]
    test = [encoded(picture(number)) for number in range(12, 24)]
    test += [train[2], train[5]]  # the same bytes
    test += [encoded(picture(7), "jpeg", quality=70)]
    test += [encoded(picture(6).transpose(Image.Transpose.FLIP_LEFT_RIGHT).resize((80, 80)), "jpeg", quality=90)]
    pretraining = [encoded(picture(number)) for number in range(24, 30)] + [test[0]]
    parts = {"train": train, "test": test, "pretraining": pretraining}
    return {name: pack(Pictures(images), str(tmp_path / name), progress=False) for name, images in parts.items()}


def counts(found):
    return {one.where: (int(one.same_M.sum()), int(one.alike_M.sum())) for one in found}


def test_planted_copies_are_found(sets, tmp_path):
    Record("run", "recipe", {}, sets["pretraining"].digest, data=f"{tmp_path}/pretraining").write(f"{tmp_path}/run")
    found = find_overlaps(sets["test"], sets["train"], f"{tmp_path}/run", "auto", 2)
    assert counts(found) == {"the training set": (2, 4), "the pretraining data": (1, 1)}
    assert found[0].remark() == (
        "2 of 16 test images are copies of an image in the training set, and 2 more look like one."
    )


def test_bytes_alone_need_no_picture(sets, tmp_path, monkeypatch):
    monkeypatch.setattr(overlap, "decode", lambda *_: pytest.fail("decoded"))
    assert counts(find_overlaps(sets["test"], sets["train"], "nowhere", "bytes", 2)) == {"the training set": (2, 2)}
    assert find_overlaps(sets["test"], sets["train"], "nowhere", "off", 2) == []
    monkeypatch.setattr(overlap, "_MOST", 5)
    assert counts(find_overlaps(sets["test"], sets["train"], "nowhere", "auto", 2)) == {"the training set": (2, 2)}


def test_pictures_are_decoded_once(sets, monkeypatch):
    first = hashes(sets["test"], 2).copy()
    overlap._loaded.cache_clear()
    monkeypatch.setattr(overlap, "decode", lambda *_: pytest.fail("decoded again"))
    assert np.array_equal(hashes(sets["test"], 2), first)


def test_sets_without_copies_have_no_remark(sets):
    (found,) = find_overlaps(sets["pretraining"], sets["train"], "nowhere", "full", 2)
    assert found.remark() == ""


def test_images_that_only_look_alike_are_not_called_copies():
    nothing, one = np.zeros(3, bool), np.array([True, False, False])
    assert (
        Overlap("the training set", nothing, one).remark()
        == "1 of 3 test images look like an image in the training set."
    )
