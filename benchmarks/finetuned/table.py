"""The table of the comparison: means over seeds with intervals, and differences of two ways, seed by seed."""

import math
from collections.abc import Mapping, Sequence
from statistics import mean, stdev

from scipy.stats import t

from finetuned.run import LINEAR, TUNED, UNTRAINED, WAYS

CONFIDENCE = 0.95
PAIRS = ((TUNED, LINEAR), (TUNED, UNTRAINED), (LINEAR, UNTRAINED))


def table(rows: Sequence[Mapping]) -> str:
    """Return a Markdown table with a line for each number of labels, in the order of the rows."""
    header = ["labels", "images", "seeds", *WAYS, *(f"{one} minus {other}" for one, other in PAIRS)]
    lines = [f"| {' | '.join(header)} |", "|---" * len(header) + "|"]
    for labels in dict.fromkeys(row["labels"] for row in rows):
        mine = [row for row in rows if row["labels"] == labels]
        found = {way: {row["seed"]: row["top1"] for row in mine if row["way"] == way} for way in WAYS}
        seeds = sorted(set.intersection(*(set(scores) for scores in found.values())))
        cells = [labels, str(mine[0]["images"]), str(len(seeds))]
        cells += [interval([found[way][seed] for seed in seeds]) for way in WAYS]
        cells += [interval([found[one][seed] - found[other][seed] for seed in seeds], "+") for one, other in PAIRS]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def interval(values: Sequence[float], sign: str = "") -> str:
    """Return the mean and the half width of its interval by Student's distribution."""
    if not values:
        return "?"
    if len(values) == 1:
        return f"{values[0]:{sign}.1f} (one seed)"
    half = t.ppf(0.5 + CONFIDENCE / 2, len(values) - 1) * stdev(values) / math.sqrt(len(values))
    return f"{mean(values):{sign}.1f} +- {half:.1f}"
