"""Judges a run while it trains: warns when a collapse begins, and keeps the verdict as a tag of the tracking run."""

from collections.abc import Mapping, Sequence

from hardviews.health.course import Course
from hardviews.health.verdict import Verdict, verdict
from hardviews.tracking.mlflow_run import Run
from hardviews.world import World

VERDICT, EVIDENCE = "hardviews.verdict", "hardviews.verdict.evidence"
"""Tags."""


class Watch:
    """Looks at the reports of a run as they come; only rank 0 prints and writes."""

    def __init__(self, run: Run, world: World) -> None:
        self._run, self._world = run, world
        self._course, self._seen = Course(), 0
        self._known = ""
        self._stopped = False  # the reason is reported by the code that stops

    def look(self, rows: Sequence[Mapping[str, float]]) -> None:
        """Judge a run that goes on by all its reports; reports since the last call are new."""
        if len(rows) > self._seen and self._world.leads:
            self._take(rows)
            self._tell(verdict(self._course, finished=False))

    def finish(self, rows: Sequence[Mapping[str, float]]) -> None:
        """Judge a run that was trained to its end."""
        if self._world.leads:
            self._take(rows)
            self._tell(verdict(self._course, finished=True), last=True)

    def diverged(self, what: str) -> None:
        """Keep the verdict on a run that stops for a number that is not finite; `what` names it."""
        self._stopped = True
        if self._world.leads:
            self._tell(verdict(self._course, finished=False, not_finite=what), last=True)

    def _take(self, rows: Sequence[Mapping[str, float]]) -> None:
        for row in rows[self._seen :]:
            self._course.add(row)
        self._seen = len(rows)

    def _tell(self, found: Verdict, last: bool = False) -> None:
        """Keep a new verdict, or the last one, and print an alarm once."""
        new = found.kind != self._known
        self._known = found.kind
        if new or last:
            self._run.set_tags({VERDICT: found.kind, EVIDENCE: found.text()})
        if new and found.alarming and not self._stopped:
            self._world.say(f"health, step {self._course.step}: {found.text()} `hardviews health` says more.")
