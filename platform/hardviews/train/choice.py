"""The audits of the choice of views, for the page of a run and as a warning (`strategies/audit.py`)."""

from collections.abc import Mapping, Sequence

from hardviews.objective.objective import Objective
from hardviews.runs.history import History
from hardviews.strategies.audit import AGREEMENT, CORRELATION, RECOVERED
from hardviews.strategies.candidates import Candidates
from hardviews.train.composition import leaves
from hardviews.world import World

LEAST = 0.5
"""Share of the hardness that a choice should recover."""
PAUSE = 1000
"""Steps between two warnings."""


class ChoiceWatch:
    """Warns on rank 0 if a strategy recovers little of the hardness that exact scoring would recover."""

    def __init__(self, objective: Objective, world: World, rows: Sequence[Mapping[str, float]] = ()) -> None:
        """Skip the reports of earlier lives."""
        self._world, self._seen, self._warned = world, len(rows), -PAUSE
        guessing = [leaf for leaf in leaves(objective.strategy) if isinstance(leaf, Candidates)]
        self._remedy = next((leaf.remedy for leaf in guessing if leaf.guesses(leaf.plan(objective.own_plan))), "")

    def look(self, rows: Sequence[Mapping[str, float]]) -> None:
        """Judge by the new reports."""
        for row in rows[self._seen :]:
            recovered, step = row.get(RECOVERED, 1.0), int(row["step"])
            if recovered < LEAST and step >= self._warned + PAUSE:
                self._warned = step
                self._world.say(
                    f"selection, step {step}: the chosen views recover {100 * recovered:.0f} % of the hardness that "
                    f"exact scoring gains over chance. {self._remedy}"
                )
        self._seen = len(rows)


def audited(history: History) -> str | None:
    """Return a table of the first and the last audit for the page of a run, None if there was none."""
    samples, recovered = history.curve(RECOVERED)
    if not samples:
        return None
    rows = [
        ("hardness recovered", recovered),
        ("hardest pair chosen", history.curve(AGREEMENT)[1]),
        ("rank correlation", history.curve(CORRELATION)[1]),
    ]
    lines = [f"| {name} | {values[0]:.2f} | {values[-1]:.2f} |" for name, values in rows if values]
    return "\n".join(
        [
            "The choice of views, compared with exact scores of the same candidates; 1 is the same choice.",
            "",
            f"| | after {samples[0]:,.0f} samples | after {samples[-1]:,.0f} samples |",
            "|---|---|---|",
            *lines,
        ]
    )
