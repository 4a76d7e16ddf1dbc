"""Directives that insert text from the program itself: `commands`, `recipes` and `settings`."""

from collections.abc import Callable

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

from building import command_pages, recipe_tables, setting_tables

_MADE_BY: dict[str, Callable[[], str]] = {
    "commands": command_pages.commands,
    "recipes": recipe_tables.recipes,
    "settings": setting_tables.settings,
}


class FromProgram(SphinxDirective):
    """Replaces the directive by the text of the function with the same name."""

    def run(self) -> list[nodes.Node]:
        """Return the content, including sections."""
        return self.parse_text_to_nodes(_MADE_BY[self.name](), allow_section_headings=True)


def setup(app: Sphinx) -> dict[str, bool]:
    """Add the directives."""
    for name in _MADE_BY:
        app.add_directive(name, FromProgram)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
