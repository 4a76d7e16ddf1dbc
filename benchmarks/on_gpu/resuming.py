"""A checkpoint that is written from the device and read back: the steps after it are those of the run that went on."""

import os
import tempfile
from collections.abc import Callable, Iterator

import torch

from hardviews.runs.checkpoint import Checkpoints
from hardviews.runs.manifest import Progress
from hardviews.runs.saver import Saver, State
from hardviews.runs.state import from_tensors, to_tensors
from on_gpu.case import Case, Row
from on_gpu.scale import Scale, Subject
from on_gpu.training import batch_of
from stepping.stepper import Stepper

_TOLERANCE = 1e-3  # relative
_PATIENCE = 60.0  # seconds that a save may take


def cases() -> list[Case]:
    """Return a case for each method."""

    def case(what: str, subject: Callable[[Scale], Subject]) -> Case:
        return Case("resume", what, lambda scale: _measure(scale, subject(scale)), 15, 45)

    return [case("SimSiam", Scale.simsiam), case("DINO", Scale.dino)]


def _measure(scale: Scale, subject: Subject) -> Iterator[Row]:
    # Read as cuBLAS starts: without it its sums may be in any order.
    os.environ["CUBLAS_WORKSPACE_CONFIG"] = ":4096:8"
    torch.use_deterministic_algorithms(True, warn_only=True)
    recipe, make, steps = subject.under("exact HVS"), batch_of(scale, subject, False), 1 if scale.toy else 3
    first = Stepper(recipe, make, scale.device)
    for _ in range(steps):
        first.step()
    with tempfile.TemporaryDirectory() as folder:
        saver = Saver(Checkpoints(folder), None, None, active=True)
        progress = Progress(first.steps, first.steps * recipe.training.batch, "run", "recipe", "dataset", 1)
        tensors = to_tensors(first.trainer.objective, first.trainer.optimizer)
        # The copy is taken when this returns: steps go on while it is written.
        saver.save(State(tensors, progress, (), bytes))
        went_on = [first.step().loss for _ in range(steps)]
        saver.close(_PATIENCE)
        found = Checkpoints(folder).latest()
    if found is None:
        yield Row(f"{subject.title}, exact HVS", "failed", text=f"no checkpoint was written: {saver.reason}")
        return
    second = Stepper(recipe, make, scale.device, steps=found.progress.step)
    from_tensors(found.tensors, second.trainer.objective, second.trainer.optimizer)
    resumed = [second.step().loss for _ in range(steps)]
    largest = max(abs(a - b) / max(1e-6, abs(a)) for a, b in zip(went_on, resumed, strict=True))
    weights = _weights_apart(first, second)
    same = "bit for bit" if largest == weights == 0 else "not bit for bit"
    yield Row(
        f"{subject.title}, exact HVS",
        "ok" if largest <= _TOLERANCE else "differs",
        text=f"{steps} steps after the checkpoint, {same}: losses differ by at most {largest:.1e} (relative; at most "
        f"{_TOLERANCE:g}), weights by {weights:.1e}; {saver.seconds:.1f} s to write",
        numbers={"went_on": went_on, "resumed": resumed, "weights": weights},
    )


def _weights_apart(first: Stepper, second: Stepper) -> float:
    """Return the largest difference of a weight or a buffer."""
    theirs = second.trainer.objective.state_dict()
    apart = [
        (tensor.double() - theirs[name].double()).abs().max().item()
        for name, tensor in first.trainer.objective.state_dict().items()
        if tensor.numel()
    ]
    return max(apart)
