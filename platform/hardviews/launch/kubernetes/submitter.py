"""The tool that submits a job, as far as the checks of the job depend on it."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Submitter:
    """A tool that submits jobs.

    Attributes:
        digits: characters that it adds to the name of a job, so that every job has a name of its own.
        makes: objects that it makes together with the job, as KIND/NAME: `secrets/store`.
    """

    digits: int
    makes: frozenset[str] = frozenset()


TORCHX = Submitter(digits=14)
