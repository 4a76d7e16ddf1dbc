"""Progress in a notebook: one line with a bar that is drawn again in its place."""

import sys
import time
from html import escape
from importlib import import_module
from typing import Any

_EVERY = 0.5  # seconds between drawings


def in_notebook() -> bool:
    """Return whether this process is the kernel of a notebook."""
    shell = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    return hasattr(shell, "kernel")


class NotebookBar:
    """A bar below the cell that runs."""

    def __init__(self) -> None:
        page: Any = import_module("IPython.display")
        self._html = page.HTML
        self._handle = page.display(page.HTML(""), display_id=True)
        self._drawn = float("-inf")

    def update(self, done: int, total: int, text: str) -> None:
        """Draw how much is done, and a text beside it."""
        now = time.monotonic()
        if now - self._drawn < _EVERY and done < total:
            return
        self._drawn = now
        bar = f'<progress value="{done}" max="{max(total, 1)}" style="width: 20em"></progress>'
        self._handle.update(self._html(f"{bar} <code>{escape(text)}</code>"))
