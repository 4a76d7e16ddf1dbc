"""The command that started a training, as words: for the record, and to be typed again."""

import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace

# Options that name a place.
_PLACES = ("data", "output", "project", "accept-changes", "no-accept-changes")
# Options of a fine-tuning that are not settings of its recipe; the run's page shows them in words.
_TUNING = ("run", "recipe", "labels", "labels-seed", "labels-list", "sweep", "rates", "head-rates", "hold-out", "wait")
_LONGEST_LINE = 80


@dataclass(frozen=True)
class CommandLine:
    """The words after `hardviews pretrain RECIPE` or `hardviews finetune`; none if a program called the training.

    Attributes:
        recipe: name of the recipe.
        words: the options and their values.
        given: whether the words are known.
        begin: the words before them.
    """

    recipe: str
    words: tuple[str, ...] = ()
    given: bool = False
    begin: tuple[str, ...] = ()

    @staticmethod
    def of_this_process(recipe: str, words: Sequence[str] = ()) -> "CommandLine":
        """Find the words on the command line of the process, or in `words`."""
        argv = list(words or sys.argv)
        for place in range(1, len(argv) - 1):
            if argv[place] == "pretrain" and argv[place + 1] == recipe:
                return CommandLine(recipe, tuple(argv[place + 2 :]), True)
            if argv[place] == "finetune" and recipe in argv[place + 1 :]:
                own = 2 if argv[place + 1].startswith("--") else 3
                begin = ("hardviews", *argv[place : place + own - 1])
                return CommandLine(recipe, tuple(argv[place + own - 1 :]), True, begin)
        return CommandLine(recipe)

    def of_encoder(self, place: str) -> "CommandLine":
        """Return the command of a fine-tuning with another name of its encoder."""
        words = list(self.words)
        for number, word in enumerate(words):
            if word == "--run" and number + 1 < len(words):
                words[number + 1] = place
            elif word.startswith("--run="):
                words[number] = f"--run={place}"
        begin = (*self.begin[:2], place) if len(self.begin) > 2 else self.begin
        return replace(self, words=tuple(words), begin=begin)

    @property
    def source(self) -> str:
        """Return the command without its options."""
        return " ".join(self._begin)

    @property
    def _begin(self) -> tuple[str, ...]:
        return self.begin or ("hardviews", "pretrain", self.recipe)

    def text(self) -> str:
        """Return the whole command, to be typed in a shell."""
        return shlex.join([*self._begin, *self.words])

    def changes(self) -> dict[str, str]:
        """Return the settings that the words change, with their values."""
        found: dict[str, list[str]] = {}
        name = ""
        for word in self.words:
            if word.startswith("--"):
                name, equals, value = word[2:].partition("=")
                found[name] = [value] if equals else []
            elif name:
                found[name].append(word)
        hidden = {*_PLACES, *(_TUNING if self.begin else ())}
        return {key.replace("-", "_"): " ".join(values) or "yes" for key, values in found.items() if key not in hidden}

    def again(self, data: str, output: str) -> str:
        """Return a command that trains by the same recipe and settings, from these data into this output."""
        changes = [words for name, words in _options(self.words) if name not in _PLACES]
        return in_lines([self._begin, ["--data", data], ["--output", output], *changes])


def in_lines(groups: Sequence[Sequence[str]]) -> str:
    """Return the words of a command for a shell, in lines of at most 80 characters; a group of words is not cut.

    A longer line would push the rest of MLflow's page out of sight.
    """
    lines = [""]
    for text in map(shlex.join, groups):
        if lines[-1] and len(lines[-1]) + len(text) + 3 > _LONGEST_LINE:
            lines.append("")
        lines[-1] += (" " if lines[-1] else "") + text
    return " \\\n  ".join(lines)


def _options(words: Sequence[str]) -> list[tuple[str, list[str]]]:
    """Return options by name, each with all of its words."""
    found: list[tuple[str, list[str]]] = []
    for word in words:
        if word.startswith("--"):
            found.append((word[2:].partition("=")[0], [word]))
        elif found:
            found[-1][1].append(word)
    return found
