import io

import numpy as np
import pytest
from PIL import Image

from hardviews.tracking import figures
from hardviews.tracking.figures import (
    confusion_matrix,
    iou_histogram,
    learning_curves,
    least_overlap_share,
    margin_histogram,
)
from hardviews.tracking.gallery import Example, Tile, amplified, gallery
from hardviews.tracking.lives import life_of_the_run

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
