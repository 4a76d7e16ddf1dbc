"""The notebook of the docs: its calls exist, its stored pictures are of its own code, and it runs."""

import ast
import sys
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

import hardviews

NOTEBOOK = Path(__file__).parents[2] / "docs" / "notebook.ipynb"


def cells() -> list[nbformat.NotebookNode]:
    return [cell for cell in nbformat.read(NOTEBOOK, 4).cells if cell.cell_type == "code"]


def test_its_calls_are_public_functions() -> None:
    called = [
        node.attr
        for cell in cells()
        for node in ast.walk(ast.parse(cell.source))
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "hardviews"
    ]
    assert {"pack", "pretrain", "evaluate"} <= set(called) <= set(hardviews.__all__)


def test_it_is_stored_with_its_pictures_and_without_an_error() -> None:
    outputs = [output for cell in cells() for output in cell.outputs]
    assert not [output for output in outputs if output.output_type == "error"]
    assert len([output for output in outputs if "image/png" in output.get("data", {})]) == 2
    assert str(Path.home()) not in NOTEBOOK.read_text() and str(Path(sys.prefix).parent) not in NOTEBOOK.read_text()


@pytest.mark.notebooks
@pytest.mark.timeout(1200)
def test_it_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    notebook = nbformat.read(NOTEBOOK, 4)
    client = NotebookClient(notebook, timeout=1000, kernel_name="python3", resources={"metadata": {"path": tmp_path}})
    client.execute()
    outputs = [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]
    assert len([output for output in outputs if "image/png" in output.get("data", {})]) == 2
    (table,) = [data["text/markdown"] for output in outputs if "text/markdown" in (data := output.get("data", {}))]
    accuracy = {row.split("|")[1].strip(): float(row.split("|")[2]) for row in table.splitlines() if "encoder" in row}
    assert accuracy["pretrained encoder"] > accuracy["untrained encoder"]
    pages = [output.get("data", {}).get("text/html", "") for output in outputs]
    assert any("<progress" in page and "100%" in page for page in pages)
