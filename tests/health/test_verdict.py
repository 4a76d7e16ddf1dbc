"""The verdict on the metrics of real small runs (courses/, written by benchmarks/health.py), and on made-up ones."""

import json
import math
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hardviews.health.course import Course
from hardviews.health.verdict import verdict

COURSES = Path(__file__).parent / "courses"
HEALTHY = ("simsiam", "byol", "no_momentum", "dino", "moco", "swav", "deepcluster")
ALARMED = {"weight_decay": 66, "rate_50": 66}
"""Run, and the step by which an alarm must have been given."""
USEFUL = ("no_centre", "ibot")
"""Runs with signs of a collapse whose accuracy rises nevertheless."""


def rows(name: str) -> list[dict[str, float]]:
    return [json.loads(line) for line in (COURSES / f"{name}.jsonl").read_text().splitlines()]


def kinds(found: list[dict[str, float]]) -> list[tuple[int, str]]:
    """Return the verdict after every report of a run that goes on."""
    course, seen = Course(), []
    for row in found:
        course.add(row)
        seen.append((course.step, verdict(course, finished=False).kind))
    return seen


def made(**curves: list[float]) -> Course:
    """A run with these metrics, measured every ten steps from the start; `__` stands for a slash."""
    length = max(map(len, curves.values()))
    return Course(
        {"step": 10 * k, "samples": 10 * k}
        | {name.replace("__", "/"): values[k] for name, values in curves.items() if k < len(values)}
        for k in range(length)
    )


# Short runs


def test_one_measurement_that_rises_is_no_sign_of_a_collapse() -> None:
    """Of a run of nine steps whose k-NN accuracy, rank and spread rose, and few-shot accuracy fell by chance."""
    curves = {"health__rankme": [21.4, 26.7], "health__spread": [0.41, 0.64]}
    accuracies = {"online__knn_top1_k20": [20.3, 26.6], "online__fewshot_top1_k10": [24.3, 18.0]}
    assert verdict(made(**curves, **accuracies), finished=True).kind == "ok"
    assert verdict(made(health__rankme=[21.4, 26.7, 26.6, 26.7]), finished=True).kind == "collapsing"
    assert verdict(made(health__rankme=[21.4, 20.0]), finished=True).kind == "collapsing"


def test_features_that_labels_contract_are_no_sign_of_a_collapse() -> None:
    """Of a fine-tuning: it begins with a trained network, whose rank is not that of an untrained one."""
    curves = {"health__rankme": [32.2, 24.0, 20.0, 15.0], "health__spread": [0.74, 0.5, 0.4, 0.2]}
    labelled = {"accuracy__top1": [0.3, 0.6, 0.8, 0.9]}
    assert verdict(made(**curves), finished=True).kind != "ok"
    assert verdict(made(**curves, **labelled), finished=True).kind == "ok"
    flat = {**curves, "health__spread": [0.74, 0.3, 0.1, 0.01]}
    assert verdict(made(**flat, **labelled), finished=True).kind == "collapsed"


# Real runs


@pytest.mark.parametrize("name", HEALTHY)
def test_a_healthy_run_is_ok_and_never_gave_an_alarm(name: str) -> None:
    assert {kind for _, kind in kinds(rows(name))} == {"unfinished"}
    found = verdict(Course(rows(name)), finished=True)
    assert found.kind == "ok" and not found.alarming


@pytest.mark.parametrize("name", ALARMED)
def test_a_collapsed_run_gives_an_alarm_in_time_and_never_takes_it_back(name: str) -> None:
    seen = kinds(rows(name))
    first = next(step for step, kind in seen if kind != "unfinished")
    assert first <= ALARMED[name]
    assert {kind for step, kind in seen if step >= first} <= {"collapsing", "collapsed"}
    found = verdict(Course(rows(name)), finished=True)
    assert found.kind == "collapsed" and found.alarming
    assert all(any(char.isdigit() for char in sentence) for sentence in found.evidence)


@pytest.mark.parametrize("name", USEFUL)
def test_features_that_contract_while_the_accuracy_rises_are_ok_and_the_signs_are_said(name: str) -> None:
    assert {kind for _, kind in kinds(rows(name))} == {"unfinished"}
    found = verdict(Course(rows(name)), finished=True)
    assert found.kind == "ok" and found.evidence[0].startswith(
        "No collapse, since the accuracy online/knn_top1_k20 rose"
    )
    assert any("health/projector/spread) fell" in sentence for sentence in found.evidence[1:])


@pytest.mark.parametrize("name", USEFUL)
def test_the_same_features_are_collapsing_if_the_accuracy_only_stays_and_collapsed_if_it_falls(name: str) -> None:
    def judged(share: float) -> str:
        """Return the verdict if the last accuracy is this share of the highest one."""
        course = rows(name)
        measured = [row for row in course if "online/knn_top1_k20" in row]
        measured[-1]["online/knn_top1_k20"] = share * max(row["online/knn_top1_k20"] for row in measured)
        return verdict(Course(course), finished=True).kind

    assert [judged(share) for share in (1.0, 0.96, 0.8)] == ["ok", "collapsing", "collapsed"]


def test_an_accuracy_that_rises_outweighs_the_projector_but_not_the_features() -> None:
    accuracy = {"online__knn_top1_k20": [50, 55, 60, 65]}
    behind = made(health__projector__spread=[0.4, 0.3, 0.1, 0.02], **accuracy)
    assert verdict(behind, finished=False).kind == "unfinished"
    assert verdict(made(health__spread=[0.4, 0.3, 0.1, 0.02], **accuracy), finished=False).kind == "collapsed"


@pytest.mark.parametrize("name", HEALTHY)
def test_bounds_have_room_on_both_sides(name: str) -> None:
    """A healthy run whose features are shrunk to a tenth of their spread is not healthy: the bounds can fail."""
    shrunk = [
        {key: value / 20 if key.startswith("health/spread") and row["step"] else value for key, value in row.items()}
        for row in rows(name)
    ]
    assert verdict(Course(shrunk), finished=True).kind == "collapsed"


def test_without_measurements_the_spread_in_training_decides() -> None:
    def bare(name: str) -> Course:
        return Course({k: v for k, v in row.items() if "/" not in k} for row in rows(name))

    assert verdict(bare("weight_decay"), finished=True).kind == "collapsed"
    assert {verdict(bare(name), finished=True).kind for name in HEALTHY} == {"ok"}


def test_a_run_that_stopped_at_a_number_that_is_not_finite_has_diverged() -> None:
    found = verdict(Course(rows("rate_huge")), finished=False, not_finite="The loss is not finite at step 3.")
    assert found.kind == "diverged" and found.evidence == ("The loss is not finite at step 3.",)


def test_without_labels_two_signs_are_a_collapse() -> None:
    blind = [{k: v for k, v in row.items() if not k.startswith("online/")} for row in rows("ibot")]
    assert verdict(Course(blind), finished=True).kind == "collapsed"


# Made-up runs


def test_nothing_is_known_of_a_run_without_reports() -> None:
    found = verdict(Course(), finished=False)
    assert found.kind == "unfinished" and found.evidence == ("Nothing was measured yet.",)


def test_an_untrained_network_looks_collapsed_and_is_not_judged() -> None:
    low = {"health__spread": [0.01], "health__rankme": [1.5], "health__projector__spread": [0.02]}
    assert verdict(made(**low), finished=False).kind == "unfinished"


def test_a_slow_start_is_no_collapse_but_the_end_is_judged() -> None:
    course = made(health__spread=[0.02, 0.03, 0.04])
    assert verdict(course, finished=False).kind == "unfinished"
    assert verdict(course, finished=True).kind == "collapsed"


def test_a_loss_that_is_not_a_number_or_rises_has_diverged() -> None:
    found = verdict(made(loss=[5, 4, math.nan]), finished=False)
    assert found.kind == "diverged" and found.evidence == ("The loss is nan at step 20.",)
    found = verdict(made(loss=[5, 5, 5, 4, 4, 7, 9, 9, 9]), finished=False)
    assert found.kind == "diverged" and "rose from 5 to 9" in found.evidence[0]


def test_a_loss_that_rises_a_little_or_falls_below_zero_has_not() -> None:
    assert verdict(made(loss=[5, 5, 5, 4, 3, 5.2, 5.2, 5.2]), finished=False).kind == "unfinished"
    assert verdict(made(loss=[0.02, 0.0, 0.01, -0.3, -0.8, -0.9, -0.9]), finished=True).kind == "ok"


def test_a_rank_that_falls_is_a_beginning_and_a_second_sign_makes_it_certain() -> None:
    ranks = [5.0, 40, 42, 41, 20]
    found = verdict(made(health__rankme=ranks), finished=False)
    assert found.kind == "collapsing"
    assert found.evidence == ("The rank of the features (health/rankme) fell from 42 at step 20 to 20 at step 40.",)
    both = made(health__rankme=ranks, online__knn_top1_k20=[50, 55, 60, 55, 30])
    assert verdict(both, finished=False).kind == "collapsed"
    assert verdict(made(online__knn_top1_k20=[50, 55, 60, 55, 30]), finished=False).kind == "collapsing"


def test_accuracies_are_compared_with_those_of_the_untrained_network_alone() -> None:
    """A life that began later has not measured it."""
    course = Course({"step": 10 * k, "samples": k, "online/knn_top1_k20": 60 - 10 * k} for k in range(1, 6))
    assert verdict(course, finished=True).kind == "ok"


def test_an_accuracy_that_stays_at_zero_does_not_rise() -> None:
    course = made(health__spread=[0.5, 0.01], health__projector__spread=[0.5, 0.0], online__knn_top1_k20=[0.0, 0.0])
    assert verdict(course, finished=True).kind == "collapsed"


@settings(max_examples=200, deadline=None)
@given(
    st.lists(
        st.dictionaries(
            st.sampled_from(
                ["loss", "spread", "health/spread", "health/rankme", "health/projector/spread", "online/knn_top1_k20"]
            ),
            st.floats(-1e6, 1e6, allow_nan=False) | st.just(math.nan),
        ),
        max_size=40,
    ),
    st.booleans(),
)
def test_every_course_has_a_verdict_with_evidence(reports, finished) -> None:
    course = Course({"step": k, "samples": 4 * k, **report} for k, report in enumerate(reports))
    found = verdict(course, finished)
    assert found.evidence and all(sentence.endswith(".") for sentence in found.evidence)
    assert found.alarming or found.kind == ("ok" if finished else "unfinished")
    assert found.text().startswith(found.kind)


# Courses


def test_a_course_keeps_each_metric_by_itself() -> None:
    course = Course([{"step": 0, "samples": 0, "a": 1}, {"step": 5, "samples": 80, "b/x": 2, "a": 3}])
    assert [(point.step, point.value) for point in course.of("a")] == [(0, 1), (5, 3)]
    assert course.of("nothing") == [] and course.last("nothing") is None
    assert course.last("b/x").value == 2 and course.step == 5
    assert set(course.prefixed("b/")) == {"b/x"}
