"""Steps with and without `--training.compile`: time of compilation, time of a step, losses."""

import time
from collections.abc import Callable, Iterator
from dataclasses import replace

from hardviews.train.compilation import compile_networks
from hardviews.train.recipe import Recipe
from on_gpu.case import Case, Row
from on_gpu.scale import Scale, Subject
from on_gpu.timing import alternating, median, ratio, synchronise, warmed
from on_gpu.training import batch_of
from stepping.stepper import Stepper

_TOLERANCE = 0.02  # relative, between losses in bfloat16: fused operations round less often


def cases() -> list[Case]:
    """Return a case for each kind of network."""

    def case(what: str, subject: Callable[[Scale], Subject]) -> Case:
        return Case("compile", what, lambda scale: _measure(scale, subject(scale)), 45, 150)

    return [case("SimSiam", Scale.simsiam), case("DINO", Scale.dino)]


def compiled(recipe: Recipe, toy: bool, build: Callable[[Recipe], Stepper]) -> Stepper:
    """Return steps whose networks are compiled when they are first called."""
    if not toy:
        return build(replace(recipe, training=replace(recipe.training, compile=True)))
    stepper = build(recipe)
    objective = stepper.trainer.objective
    # Traced, but not compiled: that takes long on a CPU.
    compile_networks(objective.method, recipe.strategy.reads_clean_gradient, backend="eager")
    return stepper


def _measure(scale: Scale, subject: Subject) -> Iterator[Row]:
    make = batch_of(scale, subject, False)
    plain = warmed(lambda: Stepper(subject.recipe, make, scale.device), scale, count=False)
    began = time.perf_counter()

    def build() -> Stepper:
        return compiled(subject.recipe, scale.toy, lambda recipe: Stepper(recipe, make, scale.device))

    fast = warmed(build, scale, count=False)
    synchronise(scale.device)
    first = time.perf_counter() - began
    taken = alternating({"plain": plain.stepper, "compiled": fast.stepper}, scale)
    largest = max(abs(a - b) / max(0.1, abs(a)) for a, b in zip(plain.losses, fast.losses, strict=True))
    took, ratios = median(taken["compiled"]), ratio(taken, "compiled", "plain")
    batch = subject.recipe.training.batch
    yield Row(
        f"{subject.title}, compiled",
        "ok" if largest <= _TOLERANCE else "differs",
        ms=1e3 * took,
        ratio=median(ratios),
        images=batch / took,
        gib=fast.gib,
        text=f"{first:.0f} s to build, compile and take the first steps; losses of {len(plain.losses)} steps differ by "
        f"at most {largest:.1e} (relative; at most {_TOLERANCE:g})",
        numbers={"first_seconds": first, "plain": plain.losses, "compiled": fast.losses, "seconds": taken},
    )
