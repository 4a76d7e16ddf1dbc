"""Documents have the tables that benchmarks print from the results that are kept."""

import importlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "benchmarks" / "comparing" / "results"


def test_the_tables_are_those_of_the_results(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    from comparing.table import table

    document = (ROOT / "docs" / "results.md").read_text()
    folders = sorted(RESULTS.iterdir())
    assert folders
    for folder in folders:
        rows = [json.loads(file.read_text()) for file in sorted(folder.glob("*.json"))]
        assert {row["budget"] for row in rows} == {"flops"}, "another budget needs a table of its own in the document"
        lines = table(rows, "flops").strip().splitlines()
        missing = [line for line in lines if line not in document]
        assert not missing, "make the document anew: python benchmarks/evidence.py"
    sys.modules.pop("comparing.table", None)


@pytest.fixture
def finetuned(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """The module that makes the table of fine-tuning."""
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    yield importlib.import_module("finetuned.table")
    for name in [name for name in sys.modules if name.partition(".")[0] == "finetuned"]:
        del sys.modules[name]


def test_the_table_of_fine_tuning_is_that_of_the_results(finetuned: ModuleType) -> None:
    rows = json.loads((ROOT / "benchmarks" / "finetuned" / "results" / "digits.json").read_text())
    document = (ROOT / "docs" / "finetuning.md").read_text()
    assert finetuned.table(rows) in document, "make the document anew: python benchmarks/finetuning.py"
    runs = {(row["labels"], row["way"], row["seed"]) for row in rows}
    assert len(rows) == len(runs) == 27, "each way on each number of labels has three seeds"


def test_differences_are_those_of_the_same_seed(finetuned: ModuleType) -> None:
    scores = {"linear": (50, 60, 70), "untrained": (40, 52, 58), "fine-tuned": (55, 65, 75)}
    rows = [
        {"labels": "1%", "images": 14, "way": way, "seed": seed, "top1": score}
        for way, found in scores.items()
        for seed, score in enumerate(found)
    ]
    (line,) = finetuned.table(rows).splitlines()[2:]
    cells = [cell.strip() for cell in line.strip("|").split("|")]
    assert cells[:4] == ["1%", "14", "3", "60.0 +- 24.8"]
    # Differences of 15, 13 and 17: deviation 2, Student's 4.303 for two degrees of freedom, root of 3.
    assert cells[6:8] == ["+5.0 +- 0.0", f"+15.0 +- {4.3027 * 2 / 3**0.5:.1f}"]
    (one,) = finetuned.table([row for row in rows if row["seed"] == 0]).splitlines()[2:]
    assert "+15.0 (one seed)" in one
