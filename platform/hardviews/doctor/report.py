"""Writes findings for people, section by section as soon as they arrive, and for machines."""

import json
import textwrap
from collections.abc import Iterable

from hardviews import __version__
from hardviews.doctor.finding import Finding
from hardviews.doctor.isolation import Result

_WIDTH = 120
_STATE, _WHAT = 9, 18  # columns


def show(results: Iterable[Result]) -> list[Finding]:
    """Print each finding as soon as all earlier ones are printed; return all of them."""
    found: list[Finding] = []
    section = ""
    waiting: list[Finding] = []  # findings skipped for the same reason, printed as one line

    def flush() -> None:
        if waiting:
            text = waiting[0].text
            names = ", ".join(finding.what for finding in waiting)
            print(
                line(waiting[0] if len(waiting) == 1 else Finding("others", "skipped", f"{names}: {text}")), flush=True
            )
            waiting.clear()

    for probe, findings in results:
        if findings and probe.section != section:
            flush()
            print(f"{chr(10) if section else ''}{probe.section}", flush=True)
            section = probe.section
        for finding in findings:
            alone = finding.state != "skipped" or bool(finding.remedy)
            if alone or (waiting and waiting[0].text != finding.text):
                flush()
            if alone:
                print(line(finding), flush=True)
            else:
                waiting.append(finding)
        found += findings
    flush()
    print(f"\n{summary(found)}")
    return found


def line(finding: Finding) -> str:
    """Return a finding as a line, with its remedy below it."""
    start = f"  {finding.state:{_STATE}}{finding.what:{_WHAT}} "
    text = _wrapped(f"{start}{finding.text}", len(start))
    if not finding.remedy:
        return text
    return f"{text}\n{_wrapped(f'{chr(32) * len(start)}-> {finding.remedy}', len(start) + 3)}"


def _wrapped(text: str, indent: int) -> str:
    lines = textwrap.wrap(
        text,
        _WIDTH,
        subsequent_indent=" " * indent,
        break_long_words=False,
        break_on_hyphens=False,
        drop_whitespace=True,
        replace_whitespace=True,
    )
    return "\n".join(lines)


def summary(found: Iterable[Finding]) -> str:
    """Return the number of findings in each state, and the meaning for the user."""
    counts = {
        state: sum(finding.state == state for finding in found) for state in ("ok", "warning", "missing", "skipped")
    }
    words = ", ".join(f"{number} {state}" for state, number in counts.items() if number)
    return f"{words}. " + (
        "Something is missing: see the lines that begin with missing."
        if counts["missing"]
        else "Nothing that was checked is missing."
    )


def as_json(results: Iterable[Result]) -> str:
    """Return the findings as JSON, with the section and the probe of each."""
    return json.dumps(to_json(results), indent=1)


def to_json(results: Iterable[Result]) -> dict[str, object]:
    """Return the findings as an object for JSON."""
    rows = [
        {"section": probe.section, "probe": probe.name, **finding.to_json()}
        for probe, findings in results
        for finding in findings
    ]
    return {"hardviews": __version__, "ok": all(row["state"] != "missing" for row in rows), "findings": rows}
