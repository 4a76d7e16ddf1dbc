"""The variables of torchrun, our agents and others that hold the rank of this process among several.

Every such variable is read here. An empty variable counts as unset.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass

from hardviews.elastic.address import LAST_PORT
from hardviews.elastic.worker import ROUND_VARIABLE
from hardviews.errors import UserError

_DO = (
    "Start the processes by `hardviews launch`, `torchx run` or `torchrun`, which set all of them; or, to train in one "
    "process, unset them: unset {names}."
)
_NAMES = (
    *("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"),
    "TORCHELASTIC_RESTART_COUNT",
)


@dataclass(frozen=True)
class Launched:
    """The place of this process among the processes that train together.

    Attributes:
        rank: rank from 0, among `size` processes.
        local_rank: rank from 0, among the `local_size` processes of this node.
        host: host of rank 0, empty if this process is alone and was not started by our agent.
        port: port of rank 0.
        restarts: number of restarts of the job.
        ours: whether our agent started this process.
        agent_store: whether torchrun's agent serves the processes' store itself.
    """

    rank: int = 0
    size: int = 1
    local_rank: int = 0
    local_size: int = 1
    host: str = ""
    port: int = 0
    restarts: int = 0
    ours: bool = False
    agent_store: bool = False


def launched(variables: Mapping[str, str] = os.environ) -> Launched:
    """Read the variables.

    Raises:
        UserError: they contradict each other, or one is missing or not a number; the message lists the set ones.
    """
    given = {name: variables[name].strip() for name in _NAMES if variables.get(name, "").strip()}
    size = _number(given, "WORLD_SIZE", 1, least=1)
    rank = _number(given, "RANK", 0)
    if "WORLD_SIZE" not in given and rank > 0:
        raise _mistake(given, "WORLD_SIZE, the number of processes, is not set")
    if size > 1 and (missing := [name for name in ("RANK", "MASTER_ADDR", "MASTER_PORT") if name not in given]):
        raise _mistake(given, f"{' and '.join(missing)} {'is' if len(missing) == 1 else 'are'} not set")
    if rank >= size:
        raise _mistake(given, f"RANK must be below WORLD_SIZE, {size}")
    alone = "WORLD_SIZE" not in given
    # Leftover variables of another start do not matter to a process that is alone.
    local_size = 1 if alone else _number(given, "LOCAL_WORLD_SIZE", 1, least=1)
    local_rank = 0 if alone else _number(given, "LOCAL_RANK", 0)
    if local_size > size:
        raise _mistake(given, f"LOCAL_WORLD_SIZE, the processes of one node, must be at most WORLD_SIZE, {size}")
    if "LOCAL_WORLD_SIZE" in given and local_rank >= local_size:
        raise _mistake(given, f"LOCAL_RANK must be below LOCAL_WORLD_SIZE, {local_size}")
    # Our agent sets the place also for a process that is alone in its round.
    ours = bool(variables.get(ROUND_VARIABLE))
    placed = size > 1 or (ours and "MASTER_ADDR" in given)
    return Launched(
        rank,
        size,
        local_rank,
        local_size,
        host=given["MASTER_ADDR"] if placed else "",
        port=_number(given, "MASTER_PORT", 0, least=1, most=LAST_PORT) if placed else 0,
        restarts=_number(given, "TORCHELASTIC_RESTART_COUNT", 0),
        ours=ours,
        agent_store=variables.get("TORCHELASTIC_USE_AGENT_STORE") == "True",
    )


def _number(given: Mapping[str, str], name: str, default: int, least: int = 0, most: int | None = None) -> int:
    text = given.get(name)
    if text is None:
        return default
    if text.isascii() and text.isdecimal() and least <= int(text) and (most is None or int(text) <= most):
        return int(text)
    bounds = f"{least} or more" if most is None else f"from {least} to {most}"
    raise _mistake(given, f"{name} must be a whole number, {bounds}")


def _mistake(given: Mapping[str, str], reason: str) -> UserError:
    """Return the error for variables that do not fit together."""
    shown = ", ".join(f"{name}={value}" for name, value in given.items())
    return UserError(
        f"The environment describes one of several processes, but {reason} (set are: {shown}). "
        f"{_DO.format(names=' '.join(given))}"
    )
