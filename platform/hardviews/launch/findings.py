"""Findings about a job before it runs, and the form of a list of mistakes."""

from collections.abc import Sequence
from dataclasses import dataclass, field


@dataclass
class Findings:
    """Sentences about a job.

    Attributes:
        mistakes: reasons of its refusal, each with its remedy.
        remarks: sentences without a refusal.
        unchecked: things that could not be checked, each with the reason.
        checked: things that were checked.
    """

    mistakes: list[str] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)
    unchecked: list[str] = field(default_factory=list)
    checked: list[str] = field(default_factory=list)

    def add(self, other: "Findings") -> None:
        """Append the new sentences of another check of the same job."""
        for mine, theirs in (
            (self.mistakes, other.mistakes),
            (self.remarks, other.remarks),
            (self.unchecked, other.unchecked),
            (self.checked, other.checked),
        ):
            mine += [text for text in dict.fromkeys(theirs) if text not in mine]


def listed(mistakes: Sequence[str], heading: str) -> str:
    """Return one mistake as it is, and several as a numbered list below a heading that begins with their number.

    Args:
        mistakes: at least one.
        heading: text after "N things are wrong".
    """
    if len(mistakes) == 1:
        return mistakes[0]
    lines = "".join(f"\n  {number}. {text}" for number, text in enumerate(mistakes, 1))
    return f"{len(mistakes)} things are wrong{heading}:{lines}"
