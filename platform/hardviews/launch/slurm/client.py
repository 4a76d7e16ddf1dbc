"""Calls of Slurm's programs: `sbatch`, `squeue`, `sacct`, `sinfo`, `scancel`, `scontrol`."""

import os
import subprocess
from collections.abc import Mapping, Sequence

from hardviews.errors import UserError
from hardviews.launch.credentials import confidential

SECONDS = 60.0
"""Seconds that an answer of Slurm may take."""

_KEPT = ("SLURM_CONF", "SLURM_CLUSTERS")  # variables that are kept if this process itself runs in a job


class Refused(Exception):
    """A program of Slurm ended with an error; it wrote the message."""


def slurm(program: str, *words: str, text: str | None = None, variables: Mapping[str, str] | None = None) -> str:
    """Run a program of Slurm; return its output.

    Args:
        program: name of the program.
        words: arguments of the program.
        text: input of the program.
        variables: environment of the program; by default our environment.

    Raises:
        Refused: the program ends with an error.
        UserError: the program is not installed, or Slurm does not answer.
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
    """Return the message of a program without the program's name in front."""
    lines = [line.removeprefix(f"{program}: ").removeprefix("error: ").strip() for line in text.splitlines()]
    return ". ".join(line.rstrip(".") for line in lines if line) or "no reason was given"


def unreachable(message: str) -> bool:
    """Return whether a message means that no controller of Slurm was reached or is configured."""
    return any(
        part in message
        for part in (
            "Unable to contact",
            "Could not establish a configuration source",
            "Connection refused",
            "timed out",
        )
    )


def without_secrets(variables: Mapping[str, str] = os.environ) -> dict[str, str]:
    """Return the variables that a job gets from the environment of its submission.

    Slurm keeps a copy of the variables and shows it to administrators. If this process runs in a job, Slurm would take
    the variables of that job for options of the new job.
    """
    return {
        name: value
        for name, value in variables.items()
        if not confidential(name) and (name in _KEPT or not name.startswith("SLURM_"))
    }


def rows(text: str, names: Sequence[str]) -> list[dict[str, str]]:
    """Read lines of values with `|` between them; the last value may contain `|`."""
    cut = [line.split("|", len(names) - 1) for line in text.splitlines() if line.strip()]
    return [dict(zip(names, values, strict=True)) for values in cut if len(values) == len(names)]
