"""Small views come from small copies of the canvas, and look as they would from the whole one."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from hardviews.views import augmentation as published
from hardviews.views import device, host
from hardviews.views.augmentation import Augmentation
from hardviews.views.halved import Halved
from hardviews.views.params import Column, draw
from hardviews.views.pixels import Canvas

SIDE = 512
KINDS = {
    "mocov2": published.mocov2(),
    "simclr": published.simclr(),
    "dino": published.dino_global2(),
    "solarised": replace(published.dino_global2(), solarise=1.0),
    "without colours": published.simclr().geometry,
}


def laid(photographs: list[np.ndarray], augmentation: Augmentation, n: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return canvases and rows of n views of every photograph, cut to odd sizes."""
    images = [image[: 301 + 7 * i, : 333 + 5 * i] for i, image in enumerate(photographs)]
    rows = [
        draw(augmentation, 1, 0, np.arange(n) + 10 * i, 0, *(np.full(n, side) for side in image.shape[:2]))
        for i, image in enumerate(images)
    ]
    canvas = np.stack([host.lay(image, SIDE, SIDE) for image in images]).repeat(n, axis=0)
    return torch.from_numpy(canvas), torch.from_numpy(np.concatenate(rows))


@pytest.mark.parametrize("kind", KINDS)
def test_a_small_view_is_nearly_that_of_the_whole_canvas(photographs, kind):
    augmentation = KINDS[kind]
    canvas, rows = laid(photographs, augmentation, 6)
    copies = Halved(canvas, rows)
    found = Canvas(canvas, rows, augmentation, copies).pixels(64)
    whole = device.render(canvas, rows, augmentation, 64)
    difference = 255 * (augmentation.normalisation.std[1] * (found - whole)).abs().mean((1, 2, 3))
    assert difference.max() > 0, "rendered from the whole canvas"
    assert difference.mean() < (4 if kind == "solarised" else 2.5)
    # Of another view of the same image it differs more, by far.
    other = device.render(canvas, rows.roll(1, 0), augmentation, 64)
    assert difference.mean() * 8 < 255 * (augmentation.normalisation.std[1] * (other - whole)).abs().mean()


def test_edges_of_images_do_not_darken():
    """An image of odd sides fills its last squares in part."""
    image = np.full((41, 83, 3), 200, np.uint8)
    rows = torch.zeros(1, len(Column))
    rows[0, Column.HEIGHT], rows[0, Column.WIDTH] = rows[0, Column.SOURCE_HEIGHT], rows[0, Column.SOURCE_WIDTH] = 41, 83
    rows[0, Column.BRIGHTNESS : Column.HUE] = 1
    augmentation = Augmentation(size=64, scale=(0.9, 1.0)).geometry
    canvas = torch.from_numpy(host.lay(image, 128, 128))[None]
    for size in (4, 8, 16):
        view = Canvas(canvas, rows, augmentation, Halved(canvas, rows)).pixels(size)
        grey = augmentation.normalisation.denormalise(view) * 255
        torch.testing.assert_close(grey, torch.full_like(grey, 200.0), atol=0.01, rtol=0)


def test_distribution_and_size_decide_which_copy_serves():
    canvas, rows = torch.zeros(2, 3, SIDE, SIDE, dtype=torch.uint8), torch.ones(2, len(Column))
    copies = Halved(canvas, rows)

    def times(augmentation: Augmentation, size: int) -> int:
        copy, found = copies.for_views(augmentation, size)
        assert copy.shape == (2, 3, SIDE // found, SIDE // found)
        return found

    assert times(published.dino_global1(), 64) == 4  # 128 pixels, twice the view
    assert times(published.mocov2(), 64) == 2  # crops of a fifth of the area
    assert times(published.simclr(), 64) == 2
    assert times(published.mocov2(), 112) == 2
    assert times(published.mocov2(), 128) == 1
    assert times(published.mocov2(), 224) == 1
    odd = Halved(torch.zeros(1, 3, 500, 500, dtype=torch.uint8), rows[:1])
    assert odd.for_views(published.dino_global1(), 16)[1] == 4


def test_rows_and_size_alone_decide_the_pixels(photographs):
    """Not the batch, nor which views were rendered before."""
    augmentation = published.mocov2()
    canvas, rows = laid(photographs, augmentation, 2)
    shared = Halved(canvas, rows)
    for size in (96, 32, 64):
        Canvas(canvas, rows.flip(0), augmentation, shared).pixels(size)
    together = Canvas(canvas, rows, augmentation, shared).pixels(64)
    for i in range(len(rows)):
        one = slice(i, i + 1)
        alone = Canvas(canvas[one], rows[one], augmentation, Halved(canvas[one], rows[one])).pixels(64)
        torch.testing.assert_close(together[one], alone, rtol=1e-5, atol=1e-5)


def test_full_size_views_are_rendered_from_the_whole_canvas(photographs):
    augmentation = published.dino_global1(48)
    canvas, rows = laid(photographs, augmentation, 1)
    view = Canvas(canvas, rows, augmentation, Halved(canvas, rows))
    for size in (None, 48, 64):
        assert torch.equal(view.pixels(size), device.render(canvas, rows, augmentation, size))


def test_a_copy_is_made_once(photographs, monkeypatch):
    augmentation = published.mocov2()
    canvas, rows = laid(photographs, augmentation, 1)
    made: list[int] = []
    shrunk = Halved._shrunk
    monkeypatch.setattr(Halved, "_shrunk", lambda self, times: made.append(times) or shrunk(self, times))
    copies = Halved(canvas, rows)
    first = Canvas(canvas, rows, augmentation, copies)
    views = [first, first.geometry(), first.pick([first, first], torch.zeros(len(rows), dtype=torch.int64))]
    for view in views:
        view.pixels(64)
    assert made == [2]
