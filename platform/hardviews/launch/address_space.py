"""The address space that a command's libraries need, compared with the limit of this process (`ulimit -v`).

If the limit is lower, the libraries end the process: OpenBLAS with a message of its own, torch with an ImportError.
"""

import resource

from hardviews.errors import UserError

_TRAINING, _EVALUATION, _PACKING = 4_000_000_000, 3_500_000_000, 3_200_000_000

LEAST = {
    "demo": _TRAINING,
    "pretrain": _TRAINING,
    "finetune": _TRAINING,
    "launch": _TRAINING,
    "estimate": _TRAINING,
    "knn": _EVALUATION,
    "linear": _EVALUATION,
    "fewshot": _EVALUATION,
    "transfer": _EVALUATION,
    "classify": _EVALUATION,
    "pack": _PACKING,
}
"""Least number of bytes that the imports of a command need, by command; measured with torch for CPUs."""


def check_address_space(command: str) -> None:
    """Refuse a limit that is too low for a command's libraries.

    Raises:
        UserError: the limit is too low; the message has the limit, and the way to lift it.
    """
    limit, least = resource.getrlimit(resource.RLIMIT_AS)[0], LEAST.get(command, 0)
    if limit != resource.RLIM_INFINITY and limit < least:
        raise UserError(
            f"The address space of a process is limited to {limit / 1e9:.1f} GB here (ulimit -v), and the libraries of "
            f"{command} alone fill more than {least / 1e9:.1f} GB; little of that is memory. Start it in a shell "
            "without this limit: ulimit -v unlimited."
        )
