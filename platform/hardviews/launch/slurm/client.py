"""Slurm's own programs, asked by this process: `sbatch`, `squeue`, `sacct`, `sinfo`, `scancel`, `scontrol`."""

import os
import subprocess
from collections.abc import Mapping, Sequence

from hardviews.errors import UserError

SECONDS = 60.0
"""That an answer of Slurm may take."""

_CONFIDENTIAL = ("SECRET", "PASSWORD", "PASSWD", "TOKEN", "ACCESS_KEY", "API_KEY", "PRIVATE_KEY")
_KEPT = ("SLURM_CONF", "SLURM_CLUSTERS")  # of the variables of a job that this process itself may run in


class Refused(Exception):
    """A program of Slurm has ended with an error; the message is its own."""


def slurm(program: str, *words: str, text: str | None = None, variables: Mapping[str, str] | None = None) -> str:
    """Run a program of Slurm; return what it prints.

    Args:
        program: its name.
        words: its arguments.
        text: its input.
        variables: its environment (default: ours).

    Raises:
        Refused: it ends with an error.
        UserError: it is not here, or Slurm does not answer.
    """
    try:
        done = subprocess.run(
            [program, *words], input=text or "", env=variables, capture_output=True, text=True, timeout=SECONDS
        )
    except FileNotFoundError as error:
        raise UserError(
            f"Slurm is not installed here: {program} is not on the PATH. Run torchx on a login node of the cluster."
        ) from error
    except (OSError, subprocess.TimeoutExpired) as error:
        why = f"within {SECONDS:.0f} s" if isinstance(error, subprocess.TimeoutExpired) else f"({error.strerror})"
        raise UserError(f"{program} does not answer {why}. Try again once Slurm is back: scontrol ping.") from error
    if done.returncode == 0:
        return done.stdout
    message = said(done.stderr, program)
    if unreachable(message):
        raise UserError(f"Slurm does not answer: {message}. Try again once it is back: scontrol ping.")
    raise Refused(message)


def said(text: str, program: str) -> str:
    """Return the message of a program without its own name before it."""
    lines = [line.removeprefix(f"{program}: ").removeprefix("error: ").strip() for line in text.splitlines()]
    return ". ".join(line.rstrip(".") for line in lines if line) or "no reason was given"


def unreachable(message: str) -> bool:
    """Return whether a message means that no controller of Slurm was reached, or none is configured."""
    return any(
        part in message
        for part in (
            "Unable to contact",
            "Could not establish a configuration source",
            "Connection refused",
            "timed out",
        )
    )


def confidential(name: str) -> bool:
    """Return whether the name of an environment variable is one of a credential."""
    return any(word in name.upper() for word in _CONFIDENTIAL) and not name.upper().endswith("_FILE")


def without_secrets(variables: Mapping[str, str] = os.environ) -> dict[str, str]:
    """Return the environment that a job gets of the one that submits it.

    Slurm keeps a copy of it, and shows it to administrators. Variables of a job that this process runs in would be
    taken for options of the new job.
    """
    return {
        name: value
        for name, value in variables.items()
        if not confidential(name) and (name in _KEPT or not name.startswith("SLURM_"))
    }


def rows(text: str, names: Sequence[str]) -> list[dict[str, str]]:
    """Read lines of values with `|` between them; the last value may hold some itself."""
    cut = [line.split("|", len(names) - 1) for line in text.splitlines() if line.strip()]
    return [dict(zip(names, values, strict=True)) for values in cut if len(values) == len(names)]
