"""Checks before a training whether method, strategy and training settings go together.

`Chain` refuses meaningless orders of its links. Here are the refusals that depend on the method. Some compositions
cannot be written at all. Hard views replace online views alone, so keys and other targets are never mixed
or attacked, and no hard view enters a state. Partners stay inside groups that no rank boundary cuts, so no label of a
mix lies on another rank.
"""

from collections.abc import Iterator

from hardviews.errors import UserError
from hardviews.methods.method import Method
from hardviews.models.activation_checkpointing import not_checkpointed
from hardviews.models.batchnorm import has_batchnorm
from hardviews.models.resolution import fails, own_size, why_not
from hardviews.strategies.strategy import Stage, Strategy
from hardviews.train.recipe import Training


def check(method: Method, strategy: Strategy, training: Training) -> None:
    """Refuse a meaningless composition, views that the network cannot look at, and batches that are too small.

    Raises:
        UserError: the settings are refused; the message has the reason and the remedy.
    """
    _check_views(method)
    method.check_group(training.group)
    _check_micro_batch(method, training)
    if training.activation_checkpointing and (reason := not_checkpointed(method.backbone)):
        raise UserError(
            f"training.activation_checkpointing is set, but {reason}. Leave the setting out; to save memory, raise "
            f"training.accumulate (now {training.accumulate})."
        )
    globals_ = {pool.name for pool in method.plan().pools if pool.target}
    hardened = any(pair.online.pool in globals_ for pair in method.pairs())
    for leaf in leaves(strategy):
        name = f"{type(method).__name__} cannot train under {type(leaf).__name__}"
        if leaf.stages & {Stage.MIX, Stage.ATTACK} and not hardened:
            raise UserError(
                f"{name}: only views of global slots are mixed and attacked, and no pair of the method has one on its "
                "online side. Let a global slot predict, or leave this strategy out."
            )
        if reason := leaf.refuses(method):
            raise UserError(f"{name}: {reason}")
        if reason := leaf.refuses_group(training.group):
            raise UserError(reason)


def advice(method: Method, strategy: Strategy) -> list[str]:
    """Return remarks on settings that can train but are probably a mistake."""
    return [remark for leaf in leaves(strategy) if (remark := leaf.advises(method))]


def _check_views(method: Method) -> None:
    for pool in method.plan().pools:
        reason = _unseen(method, pool.augmentation.size)
        if reason is not None:
            raise UserError(
                f"{type(method).__name__} has {pool.name} views of {pool.augmentation.size} pixels a side, but {reason}"
            )


def _unseen(method: Method, size: int) -> str | None:
    """Return why a method's network cannot look at views of `size` pixels, and what to do; None if it can."""
    # One setting holds the size if all views are drawn in the same way.
    alike = len(method.plan().pools) == 1 and hasattr(getattr(method, "config", None), "view")
    setting = " (--method.view.size {})" if alike else ""
    reason, own = why_not(method.backbone, size, setting), own_size(method.backbone)
    if reason is not None or own is None:
        return reason
    error = fails(method.backbone, size, own)
    if error is None:
        return None
    return (
        f"the network cannot look at them ({error}): give it views of {own} pixels{setting.format(own)}, or choose "
        "another network."
    )


def _check_micro_batch(method: Method, training: Training) -> None:
    """Refuse micro-batches of one image over all ranks, if the method needs more than one."""
    batch, accumulate = training.batch, training.accumulate
    if batch // accumulate > 1:
        return
    if method.needs_others:
        needs = "compares an image with the others of its micro-batch"
    elif has_batchnorm(method):
        needs = "normalises the images of a micro-batch together (BatchNorm)"
    else:
        return
    raise UserError(
        f"{type(method).__name__} {needs}, but training.batch={batch} and training.accumulate={accumulate} leave one "
        f"image in each: set training.batch to {2 * accumulate} or more"
        + (f", or training.accumulate to {batch // 2} or less." if accumulate > 1 else ".")
    )


def leaves(strategy: Strategy) -> Iterator[Strategy]:
    """Yield the strategies in a composition, without the parts of sums whose weight is zero."""
    parts = strategy.parts_in_use
    if not parts:
        yield strategy
    for part in parts:
        yield from leaves(part)
