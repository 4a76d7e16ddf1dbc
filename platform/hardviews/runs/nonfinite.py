"""Records of losses that were not finite, in the output of a run: `nonfinite-step-STEP-rank-RANK.json`."""

import re

from hardviews.storage.store import open_store

_NAME = re.compile(r"nonfinite-step-(\d+)-rank-\d+\.json")


def record_name(step: int, rank: int) -> str:
    """Return the name of a rank's record of a step."""
    return f"nonfinite-step-{step:08d}-rank-{rank}.json"


def recorded(output: str) -> int | None:
    """Return the last step of a run at which a loss that is not finite was recorded, None if there is none."""
    steps = [int(found[1]) for file in open_store(output).files() if (found := _NAME.fullmatch(file))]
    return max(steps, default=None)
