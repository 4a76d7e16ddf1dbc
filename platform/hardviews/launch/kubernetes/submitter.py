"""The properties of the tool that submits a job, for the checks of the job."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Submitter:
    """A tool that submits jobs.

    Attributes:
        digits: characters that it adds to the name of a job, so that every job has a name of its own.
        makes: objects that it makes together with the job, as KIND/NAME: `secrets/store`.
        release: release of Helm, which ends the jobs of a release that it replaces; empty for other tools.
    """

    digits: int
    makes: frozenset[str] = frozenset()
    release: str = ""


TORCHX = Submitter(digits=14)
