"""Links to files that are not pages: to the repository if its address is known, else to a copy of the file.

A folder has no copy, so its link becomes plain text without an address.
"""

from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx.addnodes import download_reference, pending_xref
from sphinx.application import Sphinx
from sphinx.transforms import SphinxTransform


class RepositoryLinks(SphinxTransform):
    """Runs after a page is read, before downloads are collected."""

    default_priority = 400

    def apply(self, **kwargs: Any) -> None:
        """Rewrite the links of one page."""
        root, repository = Path(self.env.srcdir), self.config.repository
        for link in list(self.document.findall(lambda node: isinstance(node, download_reference | pending_xref))):
            if link.get("reftype") != "myst" or link.get("refdomain"):
                continue
            page = Path(self.env.doc2path(self.env.docname))
            path = (page.parent / link["reftarget"].partition("#")[0]).resolve()
            if not path.is_relative_to(root) or not path.exists() or path == page:
                continue
            if repository:
                kind = "tree" if path.is_dir() else "blob"
                address = f"{repository}/{kind}/{self.config.repository_tree}/{path.relative_to(root).as_posix()}"
                link.replace_self(nodes.reference("", "", *link.children, refuri=address, internal=False))
            elif path.is_dir():
                link.replace_self(nodes.inline("", "", *link.children))


def setup(app: Sphinx) -> dict[str, bool]:
    """Add the transform and its settings: the repository's address, and a branch or tag."""
    app.add_config_value("repository", "", "env")
    app.add_config_value("repository_tree", "HEAD", "env")
    app.add_transform(RepositoryLinks)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
