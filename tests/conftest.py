"""Settings shared by every test."""

import signal
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import pytest
import torch

from tests.fake_s3 import fake_s3  # noqa: F401
from tests.laws.cases import applies
from tests.s3 import s3, s3_server  # noqa: F401

# The machine has few cores and tests run side by side with servers and workers of their own.
torch.set_num_threads(1)

# A shell that starts the tests in the background has them ignore Ctrl-C, and all that they start would ignore it too.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# A test that passed passes again: examples are the same every time, and no example fails for being slow. New ones are
# looked for with --hypothesis-profile explore.
hypothesis.settings.register_profile("same", deadline=None, derandomize=True)
hypothesis.settings.register_profile("explore", deadline=None, derandomize=False, print_blob=True)
hypothesis.settings.load_profile("same")


@pytest.fixture(autouse=True)
def _signals() -> Iterator[None]:
    """Put back the handlers of signals: torchx's local scheduler installs its own and keeps them."""
    before = {one: signal.getsignal(one) for one in (signal.SIGINT, signal.SIGTERM)}
    yield
    for one, handler in before.items():
        signal.signal(one, handler)


_PAIR = Path(__file__).parent / "distributed"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Leave out combinations that a method refuses.

    Keep a file's tests together if files run side by side, and all that share the pair of processes.
    """
    items[:] = [item for item in items if not isinstance(item, pytest.Function) or _applies(item)]
    for item in items:
        group = "pair" if _PAIR in item.path.parents else str(item.path)
        item.add_marker(pytest.mark.xdist_group(group))


def _applies(item: pytest.Function) -> bool:
    return not hasattr(item, "callspec") or applies(item.callspec.params)
