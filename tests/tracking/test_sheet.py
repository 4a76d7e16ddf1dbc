"""Sheets of small pictures, and figures of features."""

import numpy as np
from PIL import Image

from hardviews.tracking.drawing import save_figure
from hardviews.tracking.feature_figures import heat, spectra
from hardviews.tracking.sheet import Framed, sheet

RED, BLUE = (np.full((8, 8, 3), colour, np.uint8) for colour in ((200, 0, 0), (0, 0, 200)))


def test_tiles_stand_in_rows_and_groups_and_frames_are_around_them():
    made = np.asarray(sheet([[[Framed(RED)], [Framed(BLUE, "#009E73"), Framed(RED)]], [[Framed(BLUE)]]]))
    rows = {tuple(colour) for colour in made[60, :].tolist()}
    assert rows == {(255, 255, 255), (200, 0, 0), (0, 0, 200), (0, 0x9E, 0x73)}
    white = (made[60] == 255).all(1)
    starts = np.flatnonzero(~white[1:] & white[:-1]) + 1
    ends = np.flatnonzero(white[1:] & ~white[:-1]) + 1
    gaps = (starts[1:] - ends[:-1]).tolist()
    assert len(starts) == 3 and gaps[0] > 3 * gaps[1], "groups stand apart"
    frame = (made[60] == (0, 0x9E, 0x73)).all(1).sum()
    assert frame == 8 and (made[..., 2] == 200).any(1).sum() > 100, "the second row is there"


def test_small_pictures_keep_their_pixels_when_enlarged():
    pixels = np.zeros((2, 2, 3), np.uint8)
    pixels[0, 0] = 255
    made = np.asarray(sheet([[[Framed(pixels)]]]))[6:-6, 6:-6, 0]
    assert set(np.unique(made)) == {0, 255} and made.mean() == 255 / 4


def test_a_map_is_black_at_zero_and_palest_at_its_highest():
    shown = heat(np.array([[0.0, 0.1], [0.2, 0.4]])).astype(int).sum(2)
    assert shown[0, 0] < 10 and shown[1, 1] == shown.max() and shown[0, 1] < shown[1, 0]
    assert heat(np.zeros((2, 2))).max() < 10


def test_spectra_have_one_axis_in_every_picture_and_labels_without_markup(tmp_path):
    figures = [spectra({"features": [0.5, 0.1, 1e-30]}), spectra({"features": [0.9] * 200, "projector": [1e-4] * 3})]
    assert len({figure.axes[0].get_ylim() for figure in figures}) == 1
    save_figure(figures[1], tmp_path / "x.png")
    labels = [label.get_text() for label in figures[1].axes[0].get_xticklabels()]
    assert "100" in labels and not any("$" in label or "\\" in label for label in labels)
    assert Image.open(tmp_path / "x.png").width > 400
    assert [line.get_label() for line in figures[1].axes[0].lines] == ["features", "projector"]
