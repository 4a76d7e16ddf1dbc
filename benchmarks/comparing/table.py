"""The table of a comparison: means over seeds, and differences to the plain arm, seed by seed, with intervals."""

import math
from collections import defaultdict
from statistics import mean, median, stdev

from scipy.stats import t

from comparing.arms import ARMS, PLAIN
from comparing.run import SCORES

_CONFIDENCE = 0.95


def table(rows: list[dict], budget: str) -> str:
    """Return a Markdown table for each method; an arm without results has no line, a losing one has its line."""
    found: dict[str, dict[str, dict[int, dict]]] = defaultdict(lambda: defaultdict(dict))
    for row in rows:
        if row["budget"] == budget or row["arm"] == PLAIN:
            found[row["method"]][row["arm"]][row["seed"]] = row
    lines = []
    for method, arms in found.items():
        lines += [f"**{method}**", "", _HEADER, "|---" * _HEADER.count("|") + "|"]
        lines[-1] = "|---|" + "---|" * (_HEADER.count("|") - 2)
        lines += [_line(arm, arms[arm], arms.get(PLAIN, {})) for arm in ARMS if arm in arms]
        lines.append("")
    return "\n".join(lines)


_TITLES = ("arm", "seeds", "epochs", "budget", "time", "recovered", *(f"{score} | minus plain" for score in SCORES))
_HEADER = f"| {' | '.join(_TITLES)} |"


def _line(arm: str, rows: dict[int, dict], plain: dict[int, dict]) -> str:
    some = next(iter(rows.values()))
    recovered = [row["recovered"] for row in rows.values() if row["recovered"] is not None]
    cells = [arm, str(len(rows)), str(some["epochs"]), f"{some['share']:.2f}"]
    cells += [_time(rows, plain), f"{100 * mean(recovered):.0f} %" if recovered else ""]
    for score in SCORES:
        cells.append(f"{mean(row[score] for row in rows.values()):.1f}")
        both = sorted(rows.keys() & plain.keys())
        cells.append("" if arm == PLAIN else paired([rows[seed][score] - plain[seed][score] for seed in both]))
    return "| " + " | ".join(cells) + " |"


def _time(rows: dict[int, dict], plain: dict[int, dict]) -> str:
    """Return the processor time of an arm's training over that of the plain arm: the median over the shared seeds.

    A run that was stopped in between has no time.
    """
    ratios = [
        row["epochs"] * row["seconds_per_epoch"] / (plain[seed]["epochs"] * plain[seed]["seconds_per_epoch"])
        for seed, row in rows.items()
        if row["seconds_per_epoch"] and seed in plain and plain[seed]["seconds_per_epoch"]
    ]
    return f"{median(ratios):.2f}" if ratios else ""


def paired(differences: list[float]) -> str:
    """Return the mean of differences and the half width of its interval, by Student's distribution."""
    if not differences:
        return "?"
    if len(differences) == 1:
        return f"{differences[0]:+.1f} (one seed)"
    count = len(differences)
    half = t.ppf(0.5 + _CONFIDENCE / 2, count - 1) * stdev(differences) / math.sqrt(count)
    return f"{mean(differences):+.1f} +- {half:.1f}"
