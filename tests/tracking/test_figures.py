import io

import matplotlib
import numpy as np
import pytest
from fontTools.fontBuilder import FontBuilder
from fontTools.pens.ttGlyphPen import TTGlyphPen
from matplotlib import font_manager
from PIL import Image

from hardviews.tracking import drawing, figures
from hardviews.tracking.drawing import save_figure
from hardviews.tracking.examples import Example, Tile
from hardviews.tracking.figures import (
    confusion_matrix,
    iou_histogram,
    learning_curves,
    least_overlap_share,
    margin_histogram,
)
from hardviews.tracking.gallery import amplified, gallery
from hardviews.tracking.lives import life_of_the_run
from hardviews.tracking.text import drawable, encodable

rng = np.random.default_rng(0)


def drawn(figure):
    """The picture, which must not be blank, and every text on it."""
    stream = io.BytesIO()
    figure.savefig(stream)
    pixels = np.asarray(Image.open(stream).convert("L"))
    assert (pixels < 128).any()
    return pixels, [text.get_text() for text in figure.findobj(lambda artist: hasattr(artist, "get_text"))]


@pytest.mark.parametrize("points", [1, 5, 400])
def test_curves_show_every_metric_and_bear_gaps(points):
    values = rng.normal(size=points)
    values[points // 2] = np.nan
    _, texts = drawn(learning_curves({name: (range(points), values) for name in ("loss", "hardness", "rate", "wait")}))
    assert {"loss", "hardness", "rate", "wait", "samples seen"} <= set(texts)


def test_running_mean_is_the_mean_around_a_point():
    values = rng.normal(size=50)
    values[[3, 20]] = np.nan
    got = figures.running_mean(values, 7)
    for i, mean in enumerate(got):
        assert mean == pytest.approx(np.nanmean(values[max(0, i - 3) : i + 4]))


@pytest.mark.parametrize("points", [1, 4, 300])
def test_restarts_and_processes_stand_beside_the_loss(points):
    x = np.arange(points) * 32
    restarts = np.searchsorted([32, 64], x, side="right")
    figure = life_of_the_run((x, rng.normal(size=points)), restarts, 3.0 - restarts)
    _, texts = drawn(figure)
    total = min(points - 1, 2)
    assert f"Life of the run: {total} restart{'s' * (total != 1)}" in texts
    lines = [line.get_xdata()[0] for line in figure.axes[0].lines if line.get_linestyle() == "--"]
    assert lines == [16.0, 48.0][:total]
    assert figure.axes[1].get_ylim() == (0, 3.5)


def test_no_curve_at_all_is_an_empty_figure():
    assert learning_curves({}).axes == []


def test_histogram_gives_means_and_shares():
    figure = iou_histogram(rng.random(100) * 0.4, rng.random(500))
    _, texts = drawn(figure)
    assert any("chosen pairs: mean 0." in text and "n = 100" in text for text in texts)
    # The shares of each group add to 100 %.
    filled = [container for container in figure.axes[0].containers if len(container) == 25]
    assert [sum(bar.get_height() for bar in bars) for bars in filled] == pytest.approx([100.0] * len(filled))
    drawn(iou_histogram([], []))


@pytest.mark.parametrize("shift", [0, 20, -20])
def test_margins_show_the_boundary_and_who_is_beyond(shift):
    values = rng.normal(size=200) + shift
    with_gaps = np.append(values, [np.nan, np.inf])
    figure = margin_histogram({"clean": with_gaps, "adversarial": values - 1, "cutmix": values})
    _, texts = drawn(figure)
    wrong = 100 * (values < 0).mean()
    assert f"clean: median {np.median(values):.2f}, {wrong:.0f} % below 0 (n = 200)" in texts
    sides = {
        "own" if "own label \u2192" in text else "another" for text in texts if "\u2192" in text or "\u2190" in text
    }
    assert sides == {0: {"own", "another"}, 20: {"own"}, -20: {"another"}}[shift]
    axes = figure.axes[0]
    low, high = axes.get_xlim()
    assert low <= 0 <= high, "the boundary is not on the figure"
    filled = [container for container in axes.containers if len(container) > 1]
    edges = [bar.get_x() for bar in filled[0]]
    assert min(abs(edge) for edge in [*edges, high]) < 1e-9, "a bar lies across the boundary"
    assert [sum(bar.get_height() for bar in bars) for bars in filled] == pytest.approx([100.0] * 3)
    drawn(margin_histogram({}))


def test_chance_stands_in_the_figure():
    figure = least_overlap_share(range(100), rng.random(100) * 0.5, 1 / 6)
    _, texts = drawn(figure)
    assert "chance (16.7 %)" in texts
    assert figure.axes[0].get_ylim()[1] > 50 * 0.9


@pytest.mark.parametrize("classes", [2, 10, 100])
def test_confusion_matrix_is_readable(classes):
    counts = rng.integers(0, 5, (classes, classes)) + 20 * np.eye(classes, dtype=int)
    counts[0] = 0  # a class without test samples
    _, texts = drawn(confusion_matrix(counts, [f"class {i}" for i in range(classes)], "k-NN"))
    accuracy = 100 * np.trace(counts) / counts.sum()
    assert any(f"{accuracy:.1f} % correct" in text for text in texts)
    assert ("class 1" in texts) == (classes <= 20)


def tile(size, mark="", box=None):
    return Tile(rng.integers(0, 256, (size, size, 3), np.uint8), f"view {mark}", box, mark)


def example(height=60, width=80, **groups):
    return Example(rng.integers(0, 256, (height, width, 3), np.uint8), "name", **groups)


def test_gallery_shows_the_groups_it_is_given():
    clean = tile(32)
    attacked = Tile(clean.pixels ^ 4, "attacked")
    full = example(
        chosen=(tile(32, "1", (0, 0, 30, 40)), tile(32, "3", (10, 10, 30, 40))),
        passed_over=(tile(32, "2", (5, 5, 50, 60)),),
        attacked=((clean, attacked),),
        mixed=(tile(32),),
    )
    figure = gallery([full, example(chosen=(tile(32, "1"),))], "At 100 samples")
    _, texts = drawn(figure)
    for word in (
        "At 100 samples",
        "original",
        "chosen (hardest pair)",
        "passed over",
        "adversarial",
        "mixed",
        "view 2",
    ):
        assert word in texts
    assert "random views" not in texts
    assert "difference x 16" in texts
    # One picture a tile, on every row as many columns.
    assert sum(len(axes.images) for axes in figure.axes) == 8 + 2


@pytest.mark.parametrize("rows", [1, 6])
def test_gallery_of_random_views(rows):
    examples = [example(20 + 9 * row, 40, random=(tile(8, "1", (0, 0, 9, 9)), tile(8, "2"))) for row in range(rows)]
    _, texts = drawn(gallery(examples))
    assert "random views" in texts and "chosen (hardest pair)" not in texts


def test_difference_is_amplified_around_grey():
    clean = np.full((2, 2, 3), 100, np.uint8)
    attacked = clean + np.array([[[4], [0]], [[2], [1]]], np.uint8)
    assert amplified(clean, attacked, 8)[..., 0].tolist() == [[160, 128], [144, 136]]
    assert amplified(attacked, clean, 1000)[..., 0].tolist() == [[0, 128], [0, 0]]


ODD = ["$1_$5", "$5_$10", "$\\frac$", "$$", "a_b^c", "\\", "a\nb", "x\udce9", "\ud800", "\0", "\u202e", "", "x" * 500]
ODD += ["\u4e2d\u6587", "\u65e5\u672c\u8a9e", "\U0001f600", "\u05e9\u05dc\u05d5\u05dd", "\U0010fffd"]


@pytest.mark.parametrize("markup", [False, True])
def test_any_text_is_drawn_as_it_is(tmp_path, markup):
    # A user's matplotlibrc may turn markup on.
    with matplotlib.rc_context({"text.parse_math": True, "text.usetex": markup}):
        figure = confusion_matrix(np.eye(len(ODD), dtype=int), ODD, "$1_$5")
        save_figure(figure, tmp_path / "matrix.png")
        tile = Tile(np.zeros((8, 8, 3), np.uint8), "$", None, "$$")
        rows = [Example(np.zeros((8, 8, 3), np.uint8), name, random=(tile,)) for name in ODD]
        save_figure(gallery(rows, "$x_y$"), tmp_path / "gallery.png")
    assert (np.asarray(Image.open(tmp_path / "matrix.png").convert("L")) < 128).any()
    labels = [label.get_text() for label in figure.axes[0].get_yticklabels()]
    assert labels[:4] == ["$1_$5", "$5_$10", "$\\frac$", "$$"] and "x\\xe9" in labels and "a\\nb" in labels


def test_a_thousand_classes_are_a_figure_of_the_usual_size(tmp_path):
    figure = confusion_matrix(np.eye(1000, dtype=int), [f"${i}" for i in range(1000)], "k-NN")
    save_figure(figure, tmp_path / "matrix.png")
    assert max(Image.open(tmp_path / "matrix.png").size) < 2000


def font_of(path, family, chars):
    """Write a font file that has a square for each of some characters."""
    pen = TTGlyphPen(None)
    for step, point in enumerate(((100, 0), (100, 800), (900, 800), (900, 0))):
        (pen.lineTo if step else pen.moveTo)(point)
    pen.closePath()
    square = pen.glyph()
    names = [".notdef", *(f"u{ord(char):04x}" for char in chars)]
    builder = FontBuilder(1000)
    builder.setupGlyphOrder(names)
    builder.setupCharacterMap({ord(char): f"u{ord(char):04x}" for char in chars})
    builder.setupGlyf(dict.fromkeys(names, square))
    builder.setupHorizontalMetrics(dict.fromkeys(names, (1000, 100)))
    builder.setupHorizontalHeader(ascent=800, descent=-200)
    builder.setupNameTable({"familyName": family, "styleName": "Regular"})
    builder.setupOS2()
    builder.setupPost()
    builder.save(path)


def test_a_font_of_the_machine_is_taken_for_characters_that_the_usual_one_lacks(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(drawing, "_settled", {})
    classes = ["\u4e2d\u6587", "\u732b"]
    save_figure(confusion_matrix(np.eye(2, dtype=int), classes, "k-NN"), tmp_path / "boxes.png")
    assert "\u4e2d\u6587\u732b" in caplog.text and "apt install fonts-noto-cjk." in caplog.text
    caplog.clear()
    save_figure(confusion_matrix(np.eye(2, dtype=int), classes, "k-NN"), tmp_path / "boxes.png")
    assert not caplog.text  # once is enough
    font_of(tmp_path / "some.ttf", "Some Chinese", "\u4e2d\u6587")
    monkeypatch.setattr(font_manager.fontManager, "ttflist", list(font_manager.fontManager.ttflist))
    font_manager.fontManager.addfont(tmp_path / "some.ttf")
    monkeypatch.setattr(drawing, "_settled", {})
    figure = confusion_matrix(np.eye(2, dtype=int), classes, "k-NN")
    save_figure(figure, tmp_path / "chinese.png")
    assert "Some Chinese" in figure.axes[0].get_yticklabels()[0].get_fontfamily()
    assert "\u732b," in caplog.text and "\u4e2d" not in caplog.text


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_numbers_that_are_not_finite_cost_no_figure(tmp_path, value):
    bad, some = [value] * 40, [value, 0.5, value, *[0.25] * 40]
    steps = np.arange(len(some), dtype=float)
    for values in (np.array(bad), np.array(some)):
        x = steps[: len(values)]
        for figure in (
            learning_curves({"loss": (x, values), "empty": ([], [])}),
            iou_histogram(values, values),
            least_overlap_share(x, values, 1 / 6),
            margin_histogram({"clean": values, "mixed": values}),
            life_of_the_run((x, values), np.arange(len(x)), np.ones(len(x))),
        ):
            save_figure(figure, tmp_path / "figure.png")


def test_text_that_utf_8_cannot_hold_is_escaped():
    assert encodable("x\udce9 \u4e2d") == "x\\xe9 \u4e2d" and encodable("\ud800") == "\\ud800"
    assert drawable("x\udce9\t") == "x\\xe9\\t" and drawable("x" * 30) == "x" * 23 + "\u2026"
