"""Steps of training: plain, on hard views chosen exactly and cheaply, and HEXA's; time, memory, share of the peak."""

from collections.abc import Callable, Iterator

from hardviews.train.loader import RawBatch
from hardviews.views.plan import Plan
from on_gpu.apart import in_a_line
from on_gpu.case import Case, Row
from on_gpu.scale import Scale, Subject
from on_gpu.timing import Warm, alternating, median, ratio, warmed
from stepping.pictures import on_canvases, pictures, rendered
from stepping.stepper import Stepper

_PART = "steps"


def cases() -> list[Case]:
    """Return a case for each method, and one whose views are rendered within the step."""

    def case(what: str, subject: Callable[[Scale], Subject], canvases: bool, most: float) -> Case:
        return Case(_PART, what, lambda scale: _measure(scale, subject(scale), canvases), 20, most)

    return [
        case("SimSiam", Scale.simsiam, False, 60),
        case("DINO", Scale.dino, False, 75),
        case("MoCo and HEXA", Scale.moco, False, 75),
        case("SimSiam, rendered in the step", Scale.simsiam, True, 60),
    ]


def batch_of(scale: Scale, subject: Subject, canvases: bool) -> Callable[[Plan], RawBatch]:
    """Return a function that makes a batch of views in the device's memory, or of canvases in the host's."""
    images = pictures(subject.recipe.training.batch, scale.side)

    def make(plan: Plan) -> RawBatch:
        if not canvases:
            return rendered(plan, images, scale.canvas, scale.device)
        raw = on_canvases(plan, images, scale.canvas)
        return raw.pin_memory() if scale.device.type == "cuda" else raw

    return make


def _measure(scale: Scale, subject: Subject, canvases: bool) -> Iterator[Row]:
    make = batch_of(scale, subject, canvases)
    warm: dict[str, Warm] = {}
    failed: list[Row] = []
    ways = ["plain", "exact HVS", "cheap HVS"] if canvases else list(subject.ways)
    for way in ways:
        try:
            warm[way] = warmed(lambda way=way: Stepper(subject.under(way), make, scale.device), scale)
        except Exception as error:  # the others go on
            if way == "plain":
                raise
            failed.append(Row(_title(subject, way, canvases), "failed", text=in_a_line(error)))
    yield from failed
    taken = alternating({way: one.stepper for way, one in warm.items()}, scale)
    batch = subject.recipe.training.batch
    for way, one in warm.items():
        took, ratios = median(taken[way]), ratio(taken, way, "plain")
        operations = f"{one.flops / batch / 1e9:.1f} GFLOP an image, {one.flops / warm['plain'].flops:.2f} times plain"
        yield Row(
            _title(subject, way, canvases),
            ms=1e3 * took,
            ratio=median(ratios),
            images=batch / took,
            gib=one.gib,
            share=one.flops / took / scale.peak if scale.peak else None,
            text=f"batch {batch}; {operations}; ratios {min(ratios):.2f} to {max(ratios):.2f} in {len(ratios)} rounds",
            numbers={"flops": one.flops, "batch": batch, "seconds": taken[way], "losses": one.losses},
        )


def _title(subject: Subject, way: str, canvases: bool) -> str:
    return f"{subject.title}, {way}" + (", rendered" if canvases else "")
