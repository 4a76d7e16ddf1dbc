"""A rank's share of a global batch, in whole groups of consecutive positions."""

from dataclasses import dataclass

from hardviews.errors import UserError

GROUP = 32


@dataclass(frozen=True, kw_only=True)
class Portion:
    """The samples that a rank reads: its share of every micro-batch, from position `consumed` of an epoch on.

    A global batch is `accumulate` micro-batches; `rank` of `world` takes its share in whole groups of `group` samples.
    """

    seed: int
    epoch: int
    global_batch: int
    consumed: int = 0
    group: int = GROUP
    accumulate: int = 1
    rank: int = 0
    world: int = 1


def check_sizes(global_batch: int, group: int, accumulate: int, world: int) -> None:
    """Raise UserError, with the nearest possible sizes, if a global batch cannot be shared out.

    A global batch must be `accumulate` micro-batches of whole groups, each with at least one group a rank.
    """
    if min(global_batch, group, accumulate, world) < 1:
        raise UserError(
            f"Batch sizes must be positive: training.batch is {global_batch}, training.group {group}, "
            f"training.accumulate {accumulate}, the number of processes {world}."
        )
    unit = group * accumulate
    if global_batch % unit:
        raise UserError(
            f"training.batch is {global_batch}; it must be a multiple of {unit}, for training.accumulate {accumulate} "
            f"micro-batches of whole groups of training.group {group} samples. "
            f"{_possible(global_batch, group, accumulate)}"
        )
    groups = global_batch // unit
    if world > groups:
        raise UserError(
            f"training.batch {global_batch} has {groups} group(s) of {group} samples in each of its "
            f"{accumulate} micro-batch(es), too few for {world} processes. Use at most {groups} processes, a "
            f"training.batch of at least {unit * world}, or a smaller training.group or training.accumulate."
        )


def _possible(batch: int, group: int, accumulate: int) -> str:
    """Return the nearest sizes that fit, as a sentence."""
    unit = group * accumulate
    if batch > unit or accumulate == 1:
        sizes = [size for size in (batch // unit * unit, -(-batch // unit) * unit) if size]
        return f"The nearest possible size{'s are' if len(sizes) > 1 else ' is'} {' or '.join(map(str, sizes))}."
    # So many micro-batches need a much larger batch, which the dataset may not fill.
    size = max(group, batch // group * group)
    fewer = min(accumulate, size // group)
    while size // group % fewer:
        fewer -= 1
    other = "" if size == batch else f" and training.batch to {size}"
    return f"Set training.accumulate to {fewer}{other}."


def most_processes(global_batch: int, group: int, accumulate: int) -> tuple[int, str]:
    """Return the largest number of processes that can share a global batch, and the reason.

    Raises:
        UserError: the sizes cannot be shared out at all (see `check_sizes`).
    """
    check_sizes(global_batch, group, accumulate, 1)
    groups = global_batch // (group * accumulate)
    each = f" in each of its {accumulate} micro-batches" if accumulate > 1 else ""
    return groups, (
        f"the batch of {global_batch} has {groups} group{'s' * (groups > 1)} of {group}{each}, enough for {groups} "
        f"process{'es' * (groups > 1)}"
    )


def share(start: int, global_batch: int, group: int, rank: int, world: int) -> tuple[int, int]:
    """Return positions [first, last) of one rank's share of the batch at positions [start, start + global_batch).

    Shares are consecutive, hold whole groups, and differ by at most one group.

    Raises:
        UserError: the sizes cannot be shared out (see `check_sizes`).
    """
    check_sizes(global_batch, group, 1, world)
    groups = global_batch // group
    return start + group * (rank * groups // world), start + group * ((rank + 1) * groups // world)


def micro_batches(start: int, global_batch: int, accumulate: int) -> list[tuple[int, int]]:
    """Return start and size of each micro-batch of a global batch; they do not depend on the world size."""
    size = global_batch // accumulate
    return [(start + number * size, size) for number in range(accumulate)]
