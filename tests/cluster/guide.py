"""docs/cluster.md as a script: the tests of the cluster run its commands, as they stand there."""

import os
import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

ROOT = Path(__file__).parents[2]
DOCUMENT = ROOT / "docs" / "cluster.md"
_BLOCKS = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def commands(text: str | None = None) -> list[str]:
    """The commands of the sh blocks from "The site" on."""
    text = DOCUMENT.read_text() if text is None else text
    told = text[text.index("\n## The site\n") :]
    return [line for language, block in _BLOCKS.findall(told) if language == "sh" for line in block.splitlines()]


def plain_blocks() -> list[str]:
    """Blocks that are shown but not run."""
    return [block for language, block in _BLOCKS.findall(DOCUMENT.read_text()) if language == "text"]


class Guide:
    """Runs commands of the document in a shell that has `environment`, and notes which were run."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._environment = dict(environment)
        self._left = commands()

    def run(self, beginning: str, timeout: float = 120, **variables: str) -> str:
        """Run the command that begins so; return its output.

        Later commands see the variables that it exports. `variables` stand in for some of the environment.
        """
        found = [command for command in commands() if command.startswith(beginning)]
        assert len(found) == 1, f"{len(found)} commands of {DOCUMENT.name} begin with {beginning!r}"
        self._left = [command for command in self._left if command != found[0]]
        command = found[0]
        assigned = re.match(r"export (\w+)=\$\((.*)\)$", command)
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", assigned[2] if assigned else command],
            cwd=ROOT,
            env=self.variables | variables,
            capture_output=True,
            text=True,
            timeout=timeout,
        )
        assert done.returncode == 0, f"$ {command}\n{done.stdout}{done.stderr}"
        if assigned:
            self._environment[assigned[1]] = done.stdout.strip()
        return done.stdout

    def value(self, name: str) -> str:
        """A variable that a command has exported."""
        return self._environment[name]

    @property
    def variables(self) -> dict[str, str]:
        """The environment of the next command."""
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        return {**os.environ, **self._environment, "PATH": path}

    def left(self) -> list[str]:
        """Commands that were not run, except for the exports of a site's own values."""
        return [command for command in self._left if not re.match(r"export (\w+=[^$]*|POD=.*)$", command)]


def torchxconfig(queue: str, image: str) -> str:
    """The document's .torchxconfig, for another queue and image."""
    (text,) = [block for block in plain_blocks() if "[kubernetes]" in block]
    made = text.replace("queue = hardviews\n", f"queue = {queue}\n")
    return made.replace("image = registry.example.org/hardviews:1\n", f"image = {image}\n")
