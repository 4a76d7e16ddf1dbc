"""The tool that submits a job, as far as the checks of the job depend on it."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Submitter:
    """A tool that submits jobs.

    Attributes:
        digits: characters that it adds to the name of a job, so that every job has a name of its own.
        makes: objects that it makes together with the job, as KIND/NAME: `secrets/store`.
        release: of Helm, which ends the jobs of a release that it replaces; empty for other tools.
    """

    digits: int
    makes: frozenset[str] = frozenset()
    release: str = ""


TORCHX = Submitter(digits=14)
