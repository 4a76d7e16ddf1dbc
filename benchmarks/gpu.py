"""Everything that needs a GPU, on one card, in a few minutes and without a network.

    python benchmarks/gpu.py [--out gpu.json] [--minutes 8] [--only steps] [--toy] [--one-process] [--carry]

The parts, in order of their worth:

* `renderer`: views that the device renders, against those of the host; images a second.
* `steps`: SimSiam, DINO, MoCo-v2 and HEXA_MoCo at the published batch of one GPU, in bfloat16, on views in the device's
  memory: plain, on hard views chosen exactly and cheaply, and with HEXA's terms. SimSiam also with views that are
  rendered from canvases in the step.
* `one rank`: NCCL's collectives, and a step under DistributedDataParallel against one without.
* `resume`: a checkpoint read back gives the losses of the run that went on.
* `compile`: with `--training.compile`, against without.
* `pretrain`: `hardviews pretrain` on made-up images, if all packages are installed.

Every case runs in a process of its own: one that fails or hangs is reported in a line, and the rest goes on. Then the
exit code is 1. Cases that do not fit into the time are left out. `--toy` does the same on the CPU, with very small
networks; so it is without a GPU. `--carry` prints the packages that a machine needs besides torch, torchvision, timm
and numpy.
"""

import argparse
import os
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

# Otherwise torch asks the driver whether there is a GPU, and its handles then survive no fork.
os.environ.setdefault("PYTORCH_NVML_BASED_CUDA_CHECK", "1")

import torch

from on_gpu import compiling, joining, pretraining, rendering, resuming, training
from on_gpu.apart import Broken, apart, together
from on_gpu.carrying import advice, carried
from on_gpu.case import Case
from on_gpu.course import Result, course
from on_gpu.machine import described, machine, peak_of
from on_gpu.scale import Scale, toy
from on_gpu.table import line, table, write

CASES: tuple[Callable[[], list[Case]], ...] = (
    rendering.cases,
    training.cases,
    joining.cases,
    resuming.cases,
    compiling.cases,
    pretraining.cases,
)
_FIRST = 60.0  # seconds in which the GPU must answer


def scale_for(facts: dict[str, Any], small: bool) -> Scale:
    """Return the scale: that of the publications if there is a GPU and nobody asks for toys."""
    return toy() if small or facts["gpu"] is None else Scale(False, torch.device("cuda", 0), peak_of(facts["gpu"]))


def parts() -> list[str]:
    """Return the names of the parts, in order."""
    return list(dict.fromkeys(case.part for cases in CASES for case in cases()))


def main() -> int:
    began = time.monotonic()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, help="file for the results as JSON; it grows with every result")
    parser.add_argument("--minutes", type=float, default=8, help="in which all must be done (default: 8)")
    parser.add_argument("--only", nargs="+", choices=parts(), help="parts to run")
    parser.add_argument("--toy", action="store_true", help="very small networks on the CPU")
    parser.add_argument("--one-process", action="store_true", help="if the driver does not work in forked processes")
    parser.add_argument("--carry", action="store_true", help="print the packages to carry to a bare machine")
    arguments = parser.parse_args()
    warnings.filterwarnings("ignore", message="This process .* is multi-threaded")
    if arguments.carry:
        print(advice(carried()))
        return 0
    run = together if arguments.one_process else apart
    try:
        (facts,) = run(machine, _FIRST)
    except Broken as error:
        print(f"The GPU does not answer: {error}", file=sys.stderr)
        return 1
    scale = scale_for(facts, arguments.toy)
    print(described(facts) + ("; toys on the CPU, whose figures mean nothing" if scale.toy else ""), flush=True)
    chosen = [case for cases in CASES for case in cases() if not arguments.only or case.part in arguments.only]
    results: list[Result] = []
    for result in course(chosen, scale, began + 60 * arguments.minutes, run):
        results.append(result)
        print(f"{time.monotonic() - began:4.0f} s  {line(result)}", flush=True)
        if arguments.out:
            write(arguments.out, facts, results, whole=False)
    if arguments.out:
        write(arguments.out, facts, results, whole=True)
    print(f"\n{table(results)}", flush=True)
    return 1 if any(result.row.bad for result in results) else 0


if __name__ == "__main__":
    sys.exit(main())
