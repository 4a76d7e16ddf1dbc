"""The header of a recipe: its command, hardware, hours and expected result.

The header is the docstring of the recipe's function, followed by the docstring of its file, which holds the common part
of a family. Both begin with a title. Lines of the form `key value` are facts, which the function's own replace:

    command   starts it; NAME stands for the recipe
    data      that it is meant for, where any would not do
    hardware  that it is meant for
    hours     that it takes there, and where the figure comes from (`time`, in minutes, if it is less than an hour)
    number    that was published, and where (`expected` where none was)
    open      what the publication leaves open, and what stands here instead
    differs   where the recipe departs from what was published, and why
"""

import inspect
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_ORDER = ("command", "data", "hardware", "hours", "time", "number", "expected", "open", "differs")
_FACT = re.compile(rf"({'|'.join(_ORDER)}) {{2,}}(\S.*)")


@dataclass(frozen=True)
class Header:
    """A recipe's header.

    `title` is its title, `facts` are the facts by key, `prose` are the other paragraphs. `file` is the file of the
    recipe.
    """

    title: str
    facts: dict[str, str]
    prose: str
    file: Path

    def text(self) -> str:
        """Return all of it, facts in columns."""
        width = max(map(len, self.facts), default=0)
        lines = [f"{key:{width}}  {value}" for key, value in self.facts.items()]
        return "\n".join([self.title, "", *lines, *(["", self.prose] if self.prose else [])])


def header(function: Callable[[], Any]) -> Header:
    """Read the header of a recipe's function, and the facts of the family's file."""
    module = inspect.getmodule(function)
    title, facts, prose = _read(inspect.getdoc(function) or function.__name__)
    _, shared, shared_prose = _read(inspect.getdoc(module) or "")
    both = {key: value.replace("NAME", function.__name__) for key, value in (shared | facts).items()}
    ordered = {key: both[key] for key in sorted(both, key=_ORDER.index)}
    text = "\n\n".join(part for part in (prose, shared_prose) if part)
    return Header(title, ordered, text, Path(inspect.getsourcefile(function) or ""))


def _read(document: str) -> tuple[str, dict[str, str], str]:
    """Return title, facts and prose of a docstring; a fact goes on in lines that are indented."""
    title, _, rest = document.strip().partition("\n\n")
    facts: dict[str, str] = {}
    prose: list[str] = []
    for paragraph in re.split(r"\n\s*\n", rest.strip()) if rest.strip() else []:
        lines = paragraph.splitlines()
        if not _FACT.fullmatch(lines[0]):
            prose.append(paragraph)
            continue
        key = ""
        for line in lines:
            if found := _FACT.fullmatch(line):
                key, facts[found[1]] = found[1], found[2]
            else:
                facts[key] += f" {line.strip()}"
    return " ".join(title.split()), facts, "\n\n".join(prose)
