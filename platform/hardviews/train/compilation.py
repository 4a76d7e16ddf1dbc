"""torch.compile of the networks of a method: the backbone, the heads behind it, and their momentum copies.

Networks are compiled in place: weights keep their names, and checkpoints and exports stay as they are. A vision
transformer is compiled block by block. So iBOT may cover patches on the way, activation checkpointing may compute a
block again, and DistributedDataParallel may send gradients of late blocks while early ones have their backward pass.

Other parts of a step stay as they are. Losses are small products of embeddings; products over many candidates are made
in blocks already, by hand-written passes. Views are rendered by code that reads tables. Both hold Python objects that
differ in every step, so torch would compile them again and again. Each size of views has graphs of its own, and so have
training, scoring and attacks. Most are compiled in the first step. Others follow when they are first needed, for
example in an audit of choices; the watchdog then waits longer.
"""

import os
import shutil
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import torch
from torch import nn

from hardviews.elastic.worker import Phase, doing
from hardviews.errors import UserError
from hardviews.methods.method import Method
from hardviews.models.activation_checkpointing import Recomputed, blocks
from hardviews.models.momentum import MomentumEncoder

# Printed before the first step of a compiled training.
COMPILING = "compiling the networks: the first steps take minutes"

# Most graphs of a network: one for each size of views, with and without gradient, branch of BatchNorm, step of an
# attack.
_GRAPHS = 64


def check_compiler(device: torch.device) -> None:
    """Make sure that torch.compile finds the compiler that it needs for a device.

    Raises:
        UserError: the compiler is missing.
    """
    variable, usual = ("CXX", ["g++"]) if device.type == "cpu" else ("CC", ["gcc", "clang"])
    named = os.environ.get(variable)
    if any(shutil.which(name) for name in ([named] if named else usual)):
        return
    missing = f"the one that {variable} names, {named!r}" if named else " or ".join(usual)
    raise UserError(
        f"training.compile needs a compiler for code of the {device.type}, but this machine does not have "
        f"{missing}. Install g++ and the headers of Python (on Debian: apt-get install g++ python3-dev), or "
        "leave the setting out."
    )


def compile_networks(method: Method, retains_graphs: bool, backend: str = "inductor") -> None:
    """Compile the networks of a method in place, at their first call.

    `retains_graphs` is whether some backward pass is made twice, as in an attack along the clean gradient.
    """
    _report_compilation()
    if retains_graphs:
        # Otherwise the first backward pass would reuse the memory of activations that the second one reads.
        import torch._functorch.config as functorch

        functorch.donated_buffer = False
    settings: dict[str, Any] = {"backend": backend, "recompile_limit": _GRAPHS, "isolate_recompiles": True}
    if backend == "inductor":
        # Stochastic depth then draws the same numbers as without torch.compile.
        settings["options"] = {"fallback_random": True}
    for name, network in _networks(method):
        parts = blocks(network)
        # Sizes of views are few, and each is fastest by itself. Rows of a head, iBOT's masked patches, vary.
        dynamic = False if name == "backbone" else None
        for part in parts or [network]:
            if isinstance(part.forward, Recomputed):
                part.forward.compute = torch.compile(part.forward.compute, dynamic=dynamic, **settings)
            else:
                part.compile(dynamic=dynamic, **settings)


def _report_compilation() -> None:
    """Put the process into a phase of its own while torch compiles."""
    from torch._dynamo.callback import on_compile_end, on_compile_start

    phase = ExitStack()
    on_compile_start(lambda _: phase.enter_context(doing(Phase.COMPILE)))
    on_compile_end(lambda _: phase.close())


def _networks(method: Method) -> Iterator[tuple[str, nn.Module]]:
    """Yield the networks by name: children of a method and of its momentum encoders.

    Compilation does not change a child that is not called as a module, such as a queue.
    """
    seen: set[nn.Module] = set()  # parts of a sum of methods have one backbone
    for owner in [part for part in method.modules() if isinstance(part, Method | MomentumEncoder)]:
        for name, part in owner.named_children():
            if not isinstance(part, Method | MomentumEncoder) and part not in seen:
                seen.add(part)
                yield name, part
