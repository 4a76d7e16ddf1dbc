"""Options of `benchmarks/choosing.py`."""

import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def choosing() -> Iterator[ModuleType]:
    sys.path.insert(0, str(ROOT / "benchmarks"))
    try:
        import choosing

        yield choosing
    finally:
        sys.path.remove(str(ROOT / "benchmarks"))


def refusal(choosing: ModuleType, words: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    with pytest.raises(SystemExit) as end:
        choosing.read(words)
    assert end.value.code == 2
    return capsys.readouterr().err


@pytest.mark.parametrize("name", ["batch", "size", "small", "candidates", "rounds"])
def test_options_of_a_timing_have_a_help_and_are_refused_without_it(
    name: str, choosing: ModuleType, capsys: pytest.CaptureFixture[str]
) -> None:
    assert f"--{name} is for --time alone" in refusal(choosing, [f"--{name}", "32"], capsys)
    assert f"--{name} is 0" in refusal(choosing, ["--time", f"--{name}", "0"], capsys)
    with pytest.raises(SystemExit):
        choosing.read(["--help"])
    assert f"--{name} {name.upper()}" in capsys.readouterr().out
    assert all(help for option, _, help in choosing.OPTIONS if option == name)


def test_views_are_scored_at_their_own_size_at_most(choosing: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    assert "--small is 96, larger than --size 64" in refusal(
        choosing, ["--time", "--size", "64", "--small", "96"], capsys
    )
    assert "--small is 48, larger than --size 32" in refusal(choosing, ["--time", "--size", "32"], capsys)
    found = choosing.read(["--time", "--size", "64"])
    assert (found.batch, found.size, found.small, found.candidates, found.rounds) == (16, 64, 48, 8, 5)
    assert not choosing.read([]).time
