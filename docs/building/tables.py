"""Tables and sections of reStructuredText as text."""

from collections.abc import Iterable, Sequence


def section(title: str, label: str | None = None, under: str = "-") -> list[str]:
    """Return the lines of a heading, which `label` names for links."""
    return [*([f".. _{label}:", ""] if label else []), title, under * max(len(title), 3), ""]


def table(columns: Sequence[str], rows: Iterable[Sequence[str]], widths: Sequence[int]) -> list[str]:
    """Return the lines of a table; cells are one line of reStructuredText each."""
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
