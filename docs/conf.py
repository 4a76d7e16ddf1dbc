"""Settings of the site; `make docs` builds it. docs/development.md says how it is made.

Pages are the Markdown files of the repository, where they are: the source folder is the root of the repository, so that
links between README, docs/ and charts/ lead to the same files here and on GitHub.
"""

import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from building.docstrings import readable, restructured

from hardviews import __version__

project = "hardviews"
copyright = "the authors of hardviews"
release = version = __version__
#: The folder of the published site that this build is for: `latest`, or a tag. The menu of versions shows it.
folder = os.environ.get("HARDVIEWS_SITE_VERSION") or "latest"
#: The address of the repository, such as https://github.com/OWNER/hardviews; without it pages do not link to it.
repository = os.environ.get("HARDVIEWS_REPOSITORY", "").rstrip("/")
repository_tree = "HEAD" if folder == "latest" else folder

extensions = [
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
    "myst_nb",
    "sphinx_design",
    "sphinx_copybutton",
    "building.links",
    "building.program",
]
root_doc = "docs/index"
include_patterns = ["README.md", "CONTRIBUTING.md", "CHANGELOG.md", "docs/**", "charts/hardviews/README.md"]
exclude_patterns = ["docs/building", "**/.*", ".*"]
nitpicky = True
# Types of other libraries have no page here. Of ours, those that an interface only mentions have none either: their
# names lead nowhere. Every other reference must lead somewhere.
nitpick_ignore_regex = [("py:.*", r"(?!hardviews\.).*"), ("py:(class|obj|data|meth|attr)", r"hardviews\..*")]

# Markdown as GitHub reads it: the same anchors, tables and fences. Notebooks are shown as they were last run.
myst_enable_extensions = ["colon_fence"]
myst_heading_anchors = 4
nb_execution_mode = "off"
nb_ipywidgets_js = {}
nb_render_markdown_format = "gfm"  # tables in the output of a cell
smartquotes = False  # quotes in signatures and settings are copied into programs

autodoc_member_order = "bysource"
autodoc_inherit_docstrings = False
autodoc_preserve_defaults = True
autodoc_typehints_format = "short"
autodoc_class_signature = "mixed"
napoleon_numpy_docstring = False
napoleon_custom_sections = [("Settings", "params_style")]
python_use_unqualified_type_names = True
python_maximum_signature_line_length = 88
python_display_short_literal_types = True
add_module_names = False
toc_object_entries_show_parents = "hide"
default_role = "literal"

html_theme = "pydata_sphinx_theme"
html_title = "hardviews"
html_static_path = ["building/static"]
html_css_files = ["site.css"]
html_copy_source = False
html_additional_pages = {"index": "to_the_first_page.html"}
templates_path = ["building/templates"]
html_show_sourcelink = False
html_theme_options = {
    "logo": {"text": "hardviews"},
    "navbar_end": ["version-switcher", "theme-switcher", "navbar-icon-links"],
    # The menu is made beside the versions when they are published; a build does not need it.
    "switcher": {"json_url": "../versions.json", "version_match": folder},
    "check_switcher": False,
    "show_version_warning_banner": True,
    "github_url": repository,
    "navigation_with_keys": False,
    "navigation_depth": 2,
    "show_toc_level": 2,
    "footer_start": ["copyright"],
    "footer_end": ["sphinx-version"],
    "pygments_light_style": "a11y-high-contrast-light",
    "pygments_dark_style": "a11y-high-contrast-dark",
}
copybutton_exclude = ".linenos, .gp, .go"

linkcheck_timeout = 20
linkcheck_retries = 3
# Addresses of examples on this machine.
linkcheck_ignore = [r"https?://(127\.0\.0\.1|localhost)"]


def setup(app):  # noqa: D103
    app.connect("autodoc-process-docstring", restructured, priority=100)
    app.connect("autodoc-process-signature", readable)
