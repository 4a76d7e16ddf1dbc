"""The result of an examination, and its remedy."""

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

from hardviews.doctor.masking import masked
from hardviews.errors import UserError

State = Literal["ok", "missing", "warning", "skipped"]

# The end of a sentence: a full stop before a blank and a capital letter.
_SENTENCE = re.compile(r"(?<=[^.][.!?])\s+(?=[A-Z])")


@dataclass(frozen=True)
class Finding:
    """One line of the report.

    Attributes:
        what: name of the examined thing.
        state: `missing` is a failure, `warning` is not; a `skipped` thing was not examined.
        text: the finding.
        remedy: command or setting that helps, or that includes a skipped check; empty if there is nothing to do.
    """

    what: str
    state: State
    text: str
    remedy: str = ""

    def without_secrets(self) -> "Finding":
        """Return the finding with secrets replaced."""
        return Finding(self.what, self.state, masked(self.text), masked(self.remedy))

    def to_json(self) -> dict[str, str]:
        """Return the finding as an object for JSON."""
        return asdict(self)

    @staticmethod
    def from_json(entry: Mapping[str, Any]) -> "Finding":
        """Return the finding that `to_json` returned."""
        return Finding(entry["what"], entry["state"], entry["text"], entry["remedy"])


def ok(what: str, text: str) -> Finding:
    """Return a finding that needs no remedy."""
    return Finding(what, "ok", text)


def missing(what: str, text: str, remedy: str) -> Finding:
    """Return a finding about a needed thing that is missing."""
    return Finding(what, "missing", text, remedy)


def warning(what: str, text: str, remedy: str) -> Finding:
    """Return a finding about a thing that may cause problems."""
    return Finding(what, "warning", text, remedy)


def skipped(what: str, text: str, remedy: str = "") -> Finding:
    """Return a finding about a thing that was not examined; `remedy` is the option that includes it."""
    return Finding(what, "skipped", text, remedy)


def mistake(what: str, error: UserError) -> Finding:
    """Return a user's mistake as a finding: its first sentence is the finding, the others are the remedy."""
    text, *rest = _SENTENCE.split(" ".join(str(error).split()), maxsplit=1)
    return missing(what, text.rstrip("."), rest[0] if rest else "Correct it, and run hardviews doctor again.")
