"""The images of an epoch, and the remark on those that sit out."""

from pathlib import Path

import pytest

from hardviews.data.index import Index
from hardviews.data.pack import pack
from hardviews.data.reader import Reader
from hardviews.train.epoch import epoch_samples, left_out
from hardviews.train.recipe import Training
from tests.data.helpers import Noise


@pytest.mark.parametrize(
    ("images", "batch", "group", "processes", "remark"),
    [
        (50, 32, 8, 1, "An epoch has 32 of 50 images, in whole batches of 32. --training.batch 24 uses 48."),
        (50, 32, 8, 4, "An epoch has 32 of 50 images, in whole batches of 32."),
        (48, 32, 8, 1, "An epoch has 32 of 48 images, in whole batches of 32. --training.batch 24 uses all."),
        (50, 45, 45, 1, ""),  # a tenth, not more
    ],
)
def test_images_that_sit_out_are_reported(
    tmp_path: Path, images: int, batch: int, group: int, processes: int, remark: str
) -> None:
    pack(Noise(images), str(tmp_path))
    reader = Reader(Index.load(str(tmp_path)))
    training = Training(batch=batch, group=group)
    assert left_out(reader, training, processes) == remark
    if "--training.batch" in remark:
        better = int(remark.split("--training.batch ")[1].split()[0])
        assert epoch_samples(reader, Training(batch=better, group=group)) > epoch_samples(reader, training)
