"""Saves beside the training: the state is copied between two steps, and a thread writes the copy while steps go on.

One save is under way at a time. A save that is due by the clock waits for its turn without a pause of the steps. A save
at a counted step pauses the steps until the previous save is done; if that takes too long, it is left out. If the store
fails, the next save tries again. The training waits only for the last save of a life.
"""

import logging
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from hardviews.elastic.timeline import mark
from hardviews.errors import UserError
from hardviews.failures import kind_of
from hardviews.runs.checkpoint import Checkpoints
from hardviews.runs.ledger import Range
from hardviews.runs.life import Displaced, Superseded
from hardviews.runs.manifest import Progress

_TURN = 5.0  # seconds that a save at a counted step waits for the previous one

logger = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class State:
    """The content of a save: tensors on any device, and numbers that no later step changes."""

    tensors: Mapping[str, Tensor]
    progress: Progress
    ranges: tuple[Range, ...]
    history: Callable[[], bytes]


class Saver:
    """Writes checkpoints of one life of a run from rank 0; on other ranks nothing is ever due."""

    def __init__(
        self,
        checkpoints: Checkpoints,
        every: float | None,
        step: int | None,
        active: bool,
        check: Callable[[float | None], None] | None = None,
        keep: Callable[[float | None], None] | None = None,
    ) -> None:
        """Begin with the checkpoint of `step` in the store, if there is one.

        `every` is the time between saves by the clock, in seconds. `active` is whether this process writes. `check`
        raises Superseded if another life of the run has begun; its argument is the patience with the store in seconds.
        `keep` is called with the same argument after a save; it checks that the run's other files still exist.
        """
        self.checkpoints, self.every, self.active = checkpoints, every, active
        self.check: Callable[[float | None], None] = check or _nothing
        self.keep: Callable[[float | None], None] = keep or _nothing
        self.saved_step = step
        self.superseded = False  # nothing is written any more
        self.failures = 0
        self.reason = ""  # reason why the last save failed, as sentences; empty if it did not
        self._cause = ""
        self.seconds = 0.0  # duration of the last save, during steps
        self._began = time.monotonic()
        self._staged: dict[str, Tensor] = {}
        self._thread: threading.Thread | None = None

    @property
    def busy(self) -> bool:
        """Whether a save is under way."""
        return self._thread is not None and self._thread.is_alive()

    def due(self) -> bool:
        """Return whether it is time for a save by the clock, and none is under way."""
        if self.superseded:
            return False
        return self.active and self.every is not None and not self.busy and time.monotonic() - self._began >= self.every

    def save(self, state: State) -> bool:
        """Copy the state and write it in the background; return whether that began.

        The state may change as soon as this returns.
        """
        if not self.active or self.superseded or state.progress.step == self.saved_step:
            return False
        if not self._turn(_TURN):
            logger.warning("step %d is not saved: the save before is still under way", state.progress.step)
            return False
        self._begin(state)
        return True

    def finish(self, state: State, patience: float) -> bool:
        """Write the state and wait for it, trying for `patience` seconds; return whether it is saved."""
        if not self.active:
            return True
        deadline = time.monotonic() + patience
        if not self._turn(patience) or self.superseded:
            return False
        if self.saved_step == state.progress.step:
            return True
        # The store itself tries again until the time is over.
        self._begin(state, self.checkpoints.patient(max(1.0, deadline - time.monotonic())))
        self._turn(deadline + _TURN - time.monotonic())
        return self.saved_step == state.progress.step

    def close(self, patience: float = 0.0) -> None:
        """Wait a little for a save that is under way."""
        self._turn(patience)

    def metrics(self) -> dict[str, float]:
        """Return the duration of the last save and the number of failed saves in this life."""
        return {"checkpoint_seconds": self.seconds, "checkpoint_failures": float(self.failures)}

    def _turn(self, patience: float) -> bool:
        if self._thread is not None:
            self._thread.join(max(0.0, patience))
        return not self.busy

    def _begin(self, state: State, checkpoints: Checkpoints | None = None) -> None:
        self._began = time.monotonic()
        staged = replace(state, tensors=self._stage(state.tensors))
        # A daemon: if a life ends by an error, it does not wait for a store that is away.
        arguments = (checkpoints or self.checkpoints, staged)
        self._thread = threading.Thread(target=self._write, args=arguments, name="checkpoint", daemon=True)
        self._thread.start()

    def _stage(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Copy the tensors to buffers in this machine's memory that are used again and again."""
        staged, on_device = {}, False
        for name, tensor in tensors.items():
            buffer = self._staged.get(name)
            if buffer is None or buffer.shape != tensor.shape or buffer.dtype != tensor.dtype:
                # Pinned: the GPU copies there by itself, and all copies overlap.
                buffer = torch.empty_like(tensor, device="cpu", pin_memory=tensor.is_cuda)
            staged[name] = buffer.copy_(tensor, non_blocking=True)
            on_device |= tensor.is_cuda
        if on_device:
            torch.cuda.current_stream().synchronize()
        self._staged = staged
        return staged

    def _write(self, checkpoints: Checkpoints, state: State) -> None:
        began = time.monotonic()
        try:
            patience = checkpoints.patience
            checkpoints.save(state.tensors, state.progress, state.ranges, state.history(), lambda: self.check(patience))
        except Displaced:
            self.superseded = True  # the training ends with the error's sentence
            return
        except Superseded as error:
            self.superseded = True
            logger.warning("%s: it writes nothing more and leaves", error)
            return
        except Exception as error:
            self._failed(state.progress.step, error)
            return
        with suppress(OSError, UserError):  # the checkpoint is saved, and the next save checks again
            self.keep(patience)
        self.reason = self._cause = ""
        self.seconds = time.monotonic() - began
        self.saved_step = state.progress.step
        mark("saved", step=state.progress.step, seconds=round(self.seconds, 3))

    def _failed(self, step: int, error: Exception) -> None:
        """Count a failed save; log it unless the previous save failed for the same cause."""
        self.failures += 1
        self.reason = str(error) or type(error).__name__
        cause = kind_of(error)
        if cause != self._cause:
            logger.warning(
                "step %d could not be saved: %s Training goes on; every save tries again, and a failure for this cause "
                "is not logged again.",
                *(step, self.reason if self.reason.endswith(".") else f"{self.reason}."),
            )
        self._cause = cause


def _nothing(patience: float | None) -> None:
    """Do nothing: there is nothing to check."""
