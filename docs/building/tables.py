"""Tables and sections as reStructuredText."""

from collections.abc import Iterable, Sequence


def section(title: str, label: str | None = None, under: str = "-") -> list[str]:
    """Return the lines of a heading; `label` is the name for links to it."""
    return [*([f".. _{label}:", ""] if label else []), title, under * max(len(title), 3), ""]


def table(columns: Sequence[str], rows: Iterable[Sequence[str]], widths: Sequence[int]) -> list[str]:
    """Return the lines of a table; each cell is one line of reStructuredText."""
    lines = [
        ".. list-table::",
        "   :class: from-program",
        "   :header-rows: 1",
        f"   :widths: {' '.join(map(str, widths))}",
        "",
    ]
    for row in (columns, *rows):
        lines += [f"   {'*' if n == 0 else ' '} - {cell}".rstrip() for n, cell in enumerate(row)]
    return [*lines, ""]
