"""The bar of a notebook is drawn in its place, now and then, and at the end."""

import sys
from types import ModuleType, SimpleNamespace

import pytest

from hardviews import notebook
from hardviews.progress import progress


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The pictures that a notebook would show, one entry for each drawing."""
    pages: list[str] = []
    shell = ModuleType("IPython")
    shell.get_ipython = lambda: SimpleNamespace(kernel=object())  # type: ignore[attr-defined]
    display = ModuleType("IPython.display")
    display.HTML = str  # type: ignore[attr-defined]
    display.display = lambda page, display_id: SimpleNamespace(update=pages.append)  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "IPython", shell)
    monkeypatch.setitem(sys.modules, "IPython.display", display)
    return pages


def test_a_process_without_a_kernel_is_no_notebook(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "IPython", raising=False)
    assert not notebook.in_notebook()
    shell = ModuleType("IPython")
    shell.get_ipython = lambda: SimpleNamespace()  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "IPython", shell)
    assert not notebook.in_notebook()


def test_the_first_and_the_last_are_drawn(drawn: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(notebook.time, "monotonic", lambda: 1.0)
    bar = notebook.NotebookBar()
    for done in range(1, 6):
        bar.update(done, 5, f"<{done}>")
    assert len(drawn) == 2
    assert 'value="5" max="5"' in drawn[-1] and "&lt;5&gt;" in drawn[-1]


def test_a_long_command_draws_it(drawn: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert list(progress(range(3), 3, "features")) == [0, 1, 2]
    assert "features" in drawn[-1] and 'value="3"' in drawn[-1]
    assert capsys.readouterr().err == ""
