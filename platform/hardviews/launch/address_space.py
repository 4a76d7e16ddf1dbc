"""The address space that a command's libraries fill, compared with the limit of this process (`ulimit -v`).

Below it they end the process from within: OpenBLAS by a line of its own, torch by an ImportError.
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
"""Bytes that the imports of a command fill at least, by command; measured with a build of torch for CPUs."""


def check_address_space(command: str) -> None:
    """Refuse a limit that does not hold a command's libraries.

    Raises:
        UserError: with the limit, and the way to lift it.
    """
    limit, least = resource.getrlimit(resource.RLIMIT_AS)[0], LEAST.get(command, 0)
    if limit != resource.RLIM_INFINITY and limit < least:
        raise UserError(
            f"The address space of a process is limited to {limit / 1e9:.1f} GB here (ulimit -v), and the libraries of "
            f"{command} alone fill more than {least / 1e9:.1f} GB; little of that is memory. Start it in a shell "
            "without this limit: ulimit -v unlimited."
        )
