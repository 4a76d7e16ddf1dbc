"""Reports of a run about itself: means, overlaps, history, pace, progress."""

import io
import json
import math
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from hardviews.batch import Selection, View
from hardviews.runs.history import History
from hardviews.train import display, pace
from hardviews.train.chosen_pairs import chosen_pairs
from hardviews.train.display import Display
from hardviews.train.meter import Meter
from hardviews.train.pace import Pace
from hardviews.views.augmentation import Normalisation
from hardviews.views.params import Column
from hardviews.views.pixels import Crops
from hardviews.views.plan import Pair, Slot

CPU = torch.device("cpu")


class Clock:
    """Time that passes on demand."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 100.0
        for module in (pace, display):
            monkeypatch.setattr(module.time, "monotonic", lambda: self.now)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


# Meter


@given(st.lists(st.lists(st.floats(-1e3, 1e3, width=32), min_size=1, max_size=5), min_size=1, max_size=4), st.data())
def test_a_meter_means_over_samples_also_through_a_checkpoint(portions: list[list[float]], data) -> None:
    cut = data.draw(st.integers(0, len(portions)))
    whole, first, second = Meter(CPU), Meter(CPU), Meter(CPU)
    for portion in portions:
        whole.add("x", torch.tensor(portion))
    for portion in portions[:cut]:
        first.add("x", torch.tensor(portion))
    second.from_tensors(first.to_tensors())
    for portion in portions[cut:]:
        second.add("x", torch.tensor(portion))
    flat = [value for portion in portions for value in portion]
    mean = whole.report()
    assert mean["x"] == pytest.approx(sum(flat) / len(flat), abs=1e-2)
    assert second.report() == mean, "a resume changed the sum"
    assert whole.report() == {}


def test_at_another_number_of_ranks_the_first_takes_all() -> None:
    meter = Meter(CPU)
    meter.from_tensors({"x": torch.tensor([[6.0, 2.0], [3.0, 1.0]], dtype=torch.float64)})
    assert meter.report() == {"x": 3.0}


# Chosen pairs


def selection(boxes: list[tuple[float, float, float, float]], table: list[list[int]], choice: list[int]) -> Selection:
    """One image, candidates with these boxes (top, left, height, width); the chosen assignment is the hardest."""
    views = {}
    for number, box in enumerate(boxes):
        rows = torch.zeros(1, len(Column))
        for column, value in zip((Column.TOP, Column.LEFT, Column.HEIGHT, Column.WIDTH), box, strict=True):
            rows[:, column] = value
        slot = Slot("view", number)
        pixels = Crops(torch.zeros(1, 3, 2, 2), Normalisation())
        views[slot] = View(slot, pixels, Normalisation(), rows=rows)
    slots = (Slot("view", 0), Slot("view", 1))
    hardness_AB = torch.zeros(len(table), len(choice))
    hardness_AB[choice, range(len(choice))] = 1.0
    return Selection(slots, torch.tensor(table), hardness_AB, torch.tensor(choice), views)


PAIRS = (Pair(Slot("view", 0), Slot("view", 1), 0.5), Pair(Slot("view", 1), Slot("view", 0), 0.5))
# The second box covers half of the first, the third lies apart, the fourth is the first again.
BOXES = [(0, 0, 10, 10), (0, 5, 10, 10), (50, 50, 10, 10), (0, 0, 10, 10)]
TABLE = [[0, 1], [0, 2], [0, 3]]


def test_overlap_of_the_chosen_and_of_the_others() -> None:
    seen = chosen_pairs(selection(BOXES, TABLE, [0]), PAIRS)
    assert seen.overlap.chosen.tolist() == pytest.approx([1 / 3])
    assert seen.overlap.passed_over.tolist() == pytest.approx([(0 + 1) / 2])
    assert seen.least.tolist() == [False] and seen.chance == pytest.approx(1 / 3)
    assert chosen_pairs(selection(BOXES, TABLE, [1]), PAIRS).least.tolist() == [True]


def test_of_ordered_pairs_both_orders_of_the_least_overlapping_one_count() -> None:
    ordered = [[a, b] for a in range(3) for b in range(3) if a != b]  # twice each: 1/3, 0 and 0
    seen = [chosen_pairs(selection(BOXES[:3], ordered, [choice]), PAIRS[:1]) for choice in range(len(ordered))]
    assert [bool(one.least) for one in seen if one] == [2 in pair for pair in ordered]
    assert all(one and float(one.chance) == pytest.approx(4 / 6) for one in seen)


def test_views_without_boxes_have_no_overlap() -> None:
    made = selection(BOXES, TABLE, [0])
    first = Slot("view", 0)
    views = {**made.views, first: View(first, made.views[first].source, Normalisation())}
    assert chosen_pairs(Selection(made.slots, made.table, made.hardness, made.choice, views), PAIRS) is None


def test_distances_of_the_chosen_and_of_the_others() -> None:
    """Two images of different sizes, three candidates each: sums by hand, image by image and pair by pair."""
    numbers = np.random.default_rng(0)
    rows_SBC = numbers.uniform(0.1, 1, (3, 2, len(Column)))
    rows_SBC[:, :, [Column.TOP, Column.LEFT, Column.HEIGHT, Column.WIDTH]] *= 30
    rows_SBC[:, :, Column.SOURCE_HEIGHT], rows_SBC[:, :, Column.SOURCE_WIDTH] = [60, 30], [80, 40]
    made = selection(BOXES[:3], [[0, 1], [0, 2], [1, 2]], [2, 0])
    views = {
        slot: View(slot, view.source, Normalisation(), rows=torch.from_numpy(rows_SBC[number]))
        for number, (slot, view) in enumerate(made.views.items())
    }
    seen = chosen_pairs(Selection(made.slots, made.table, made.hardness, made.choice, views), PAIRS)
    assert seen is not None

    def centre(a: np.ndarray, b: np.ndarray) -> float:
        down = a[Column.TOP] + a[Column.HEIGHT] / 2 - b[Column.TOP] - b[Column.HEIGHT] / 2
        right = a[Column.LEFT] + a[Column.WIDTH] / 2 - b[Column.LEFT] - b[Column.WIDTH] / 2
        return math.hypot(down, right) / math.hypot(a[Column.SOURCE_HEIGHT], a[Column.SOURCE_WIDTH])

    def colour(a: np.ndarray, b: np.ndarray) -> float:
        factors = (Column.BRIGHTNESS, Column.CONTRAST, Column.SATURATION, Column.HUE)
        return math.sqrt(sum((a[factor] - b[factor]) ** 2 for factor in factors))

    for formula, contrast in ((centre, seen.centre_distance), (colour, seen.colour_distance)):
        for image, choice in enumerate(made.choice.tolist()):
            of_pairs = [formula(rows_SBC[a, image], rows_SBC[b, image]) for a, b in made.table.tolist()]
            chosen = of_pairs.pop(choice)
            assert contrast.chosen[image] == pytest.approx(chosen)
            assert contrast.passed_over[image] == pytest.approx(sum(of_pairs) / 2)


# History


def test_history_takes_over_what_was_saved_and_forgets_the_rest(tmp_path: Path) -> None:
    history = History(str(tmp_path), b"", write=True)
    for step in range(1, 6):
        history.add({"step": step, "samples": 16 * step, "loss": 1 / step})
        if step == 3:
            saved = history.so_far()
    with history.path.open("a") as stream:
        stream.write('{"step": 6, "sam')  # killed while it wrote
    # A save beside the training later writes the state at its beginning.
    again = History(str(tmp_path), saved(), write=True)
    again.add({"step": 4, "samples": 64, "loss": 9.0})
    assert [json.loads(line)["loss"] for line in history.path.read_text().splitlines()] == [1, 1 / 2, 1 / 3, 9]
    assert again.curve("loss") == ([16, 32, 48, 64], [1, 1 / 2, 1 / 3, 9])
    assert again.curve("nothing") == ([], [])
    assert [path.name for path in tmp_path.iterdir()] == ["history.jsonl"]


def test_ranks_that_do_not_write_leave_the_file_alone(tmp_path: Path) -> None:
    History(str(tmp_path), b"", write=False).add({"step": 1})
    assert not list(tmp_path.iterdir())


# Pace


def test_pace_counts_what_was_done_since_the_last_report(clock: Clock) -> None:
    watch = Pace()
    with watch.waiting():
        clock.now += 1
    clock.now += 3
    watch.samples += 8
    assert watch.wait == 0.25
    stalls = {"checkpoint_stall": 0.0, "monitor_stall": 0.0}
    assert watch.report() == {"images_per_second": 2.0, "data_wait": 0.25, **stalls}
    with watch.saved():
        clock.now += 1
    with watch.measured():
        clock.now += 1
    # A shorter interval, as the last of a run: its own samples over its own time.
    watch.samples += 4
    assert watch.report() == {"images_per_second": 2.0, "data_wait": 0.0, "checkpoint_stall": 0.5, "monitor_stall": 0.5}


# Display


def test_a_log_gets_a_line_now_and_then_with_this_lifes_speed(clock: Clock, capsys: pytest.CaptureFixture) -> None:
    # Resumed at 600 of 1000 samples; 10 images a second from here on.
    with Display(1000, 600, show=True) as shown:
        for step in range(1, 41):
            clock.now += 1
            shown.update(600 + 10 * step, 2, 0.5, 0.25)
    lines = capsys.readouterr().err.splitlines()
    assert lines == [
        "epoch 3   63%  loss 0.5000  10 images/s  data wait 25%  ETA 0:37",
        "epoch 3   78%  loss 0.5000  10 images/s  data wait 25%  ETA 0:22",
        "epoch 3   93%  loss 0.5000  10 images/s  data wait 25%  ETA 0:07",
        "epoch 3  100%  loss 0.5000  10 images/s  data wait 25%  ETA 0:00",
    ]


def test_a_terminal_gets_a_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    screen = Terminal()
    monkeypatch.setattr(sys, "stderr", screen)
    monkeypatch.setenv("COLUMNS", "120")
    monkeypatch.setenv("TERM", "xterm")
    with Display(1000, 600, show=True) as shown:
        shown.update(800, 2, 0.5, 0.25)
    assert "80%  loss 0.5000" in screen.getvalue() and "data wait 25%" in screen.getvalue()


def test_only_one_rank_shows(capsys: pytest.CaptureFixture) -> None:
    with Display(10, 0, show=False) as shown:
        shown.update(10, 0, 0.0, 0.0)
    assert capsys.readouterr().err == ""
