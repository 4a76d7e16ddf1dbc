"""docs/results.md has the tables that `benchmarks/evidence.py` prints from the results that are kept."""

import json
import sys
from pathlib import Path

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
