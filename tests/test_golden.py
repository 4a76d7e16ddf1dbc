"""A change that is not meant to change numbers changes none: losses of five steps, kept in golden/losses.json.

Bit for bit on the kind of machine that they were written on; elsewhere kernels add in another order, and a tolerance
holds. After a change that is meant to change numbers, `.venv/bin/python -m tests.test_golden` writes all of them; say
why in the commit. For a new method, `.venv/bin/python -m tests.test_golden --only NAME` writes its numbers alone.
"""

import argparse
import json
import platform
from pathlib import Path
from typing import Any

import pytest
import torch

from hardviews.batch import Batch
from tests.laws.cases import METHODS, STRATEGIES, build, make_batch, networks, train_step

FILE = Path(__file__).parent / "golden" / "losses.json"
STEPS = 5
# Five steps through sign() and argmax let rounding differences of one kernel grow.
TOLERANCE = 1e-2


def machine() -> dict[str, str]:
    """Return the facts that decide the order of additions."""
    return {
        "torch": torch.__version__.split("+")[0],
        "cpu": torch.backends.cpu.get_cpu_capability(),
        "architecture": platform.machine(),
        "processor": _processor(),
    }


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    return next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), "")


def losses(method: str, strategy: str, network: str) -> list[float]:
    """Return the losses of a few whole steps, updates of the method's state included."""
    objective = build(method, STRATEGIES[strategy], network)
    found = []
    for step in range(STEPS):
        batch: Batch = make_batch(objective, first=8 * step, step=step)
        torch.manual_seed(step)
        found.append(train_step(objective, batch).item())
    return found


def cases() -> list[tuple[str, str, str]]:
    return [
        (method, strategy, network)
        for method in METHODS
        for strategy in ("clean", "everything")
        for network in networks(method)
    ]


@pytest.mark.parametrize(("method", "strategy", "network"), cases())
def test_the_numbers_are_those_of_before(method: str, strategy: str, network: str) -> None:
    golden: dict[str, Any] = json.loads(FILE.read_text())
    wanted = golden["losses"].get(f"{method} {strategy} {network}")
    assert wanted is not None, (
        f"no golden losses: write them with `.venv/bin/python -m tests.test_golden --only {method}`"
    )
    now = losses(method, strategy, network)
    if golden["machines"].get(method, golden["machine"]) == machine():
        assert now == wanted
    else:
        assert now == pytest.approx(wanted, rel=TOLERANCE, abs=TOLERANCE)


def test_a_changed_weight_changes_them() -> None:
    golden = json.loads(FILE.read_text())["losses"]
    assert losses("simclr", "clean", "batchnorm") != golden["simclr everything batchnorm"]


def write(only: str | None) -> None:
    """Write the losses of all methods, or of one: the others' stay, and the machine that they were written on."""
    chosen = [case for case in cases() if only in (None, case[0])]
    if not chosen:
        raise SystemExit(f"There is no method {only}: tests/laws/cases.py has {', '.join(METHODS)}.")
    found = {" ".join(case): losses(*case) for case in chosen}
    if only is None:
        golden: dict[str, Any] = {"machine": machine(), "machines": {}, "losses": found}
    else:
        golden = json.loads(FILE.read_text())
        golden["losses"] |= found
        golden["machines"].pop(only, None)
        if machine() != golden["machine"]:
            golden["machines"][only] = machine()
    FILE.write_text(json.dumps(golden, indent=1) + "\n")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Write the golden losses.")
    parser.add_argument("--only", metavar="METHOD", help="write those of one method, and leave the others")
    torch.set_num_threads(1)
    write(parser.parse_args().only)
