"""The site: every page is in its navigation, and the reference has all that a user or a researcher imports.

`make docs` builds it, with every warning an error; this is what can be said without a build.
"""

import importlib
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from docutils import nodes
from docutils.frontend import get_default_settings
from docutils.parsers.rst import Parser
from docutils.utils import new_document
from hypothesis import given
from hypothesis import settings as tries
from hypothesis import strategies as st

import hardviews
from hardviews import methods, strategies
from hardviews.evaluation import probes
from hardviews.evaluation.scoring import Scoring
from hardviews.methods.method import Method, MethodConfig
from hardviews.recipes import RECIPES
from hardviews.strategies.strategy import Strategy

ROOT = Path(__file__).parents[2]
REFERENCE = ROOT / "docs" / "reference"
sys.path.append(str(ROOT / "docs"))

from building.command_pages import printed  # noqa: E402
from building.docstrings import escaped, rewritten  # noqa: E402
from building.recipe_tables import recipes  # noqa: E402
from building.setting_tables import concrete, settings  # noqa: E402
from building.versions import menu  # noqa: E402

SETTINGS = get_default_settings(Parser)
SETTINGS.report_level = 5
ENDINGS = (".md", ".rst", ".ipynb")


def pages() -> set[Path]:
    """Every file that becomes a page, as docs/conf.py includes them."""
    found = {path for path in (ROOT / "docs").rglob("*") if path.suffix in ENDINGS}
    outside = ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "charts/hardviews/README.md")
    return found | {ROOT / name for name in outside}


def listed(page: Path) -> list[Path]:
    """The pages that the toctrees of a page list."""
    found: list[Path] = []
    for options, body in re.findall(
        r"^\.\. toctree::\n((?:   :.*\n)*)\n((?:   .*\n?|\n)*)", page.read_text(), re.MULTILINE
    ):
        for entry in re.findall(r"(\S+?)>?$", body.replace("<", " "), re.MULTILINE):
            place = ROOT / entry[1:] if entry.startswith("/") else page.parent / entry
            if ":glob:" in options:
                found += sorted(path for path in place.parent.glob(place.name) if path.suffix in ENDINGS)
            else:
                found += [path for ending in ENDINGS if (path := place.parent / f"{place.name}{ending}").exists()]
    return found


def test_every_page_is_in_the_navigation_once():
    seen, waiting = [], [ROOT / "docs" / "index.rst"]
    while waiting:
        page = waiting.pop()
        seen.append(page.resolve())
        waiting += listed(page) if page.suffix == ".rst" else []
    assert {page for page in pages() if page not in seen} == set(), "list it in docs/tutorials.rst, howto.rst, ..."
    assert sorted(seen) == sorted(set(seen)), "a page has one place"


def documented() -> set[str]:
    """The names that the reference documents."""
    texts = [path.read_text() for path in REFERENCE.glob("*.rst")]
    return {
        name for text in texts for name in re.findall(r"^\.\. auto(?:class|function|exception):: (\S+)$", text, re.M)
    }


def test_the_reference_has_every_public_name():
    names = set(hardviews.__all__) - {"recipes"}
    assert {name for name in names if f"hardviews.{name}" not in documented()} == set()
    assert "``hardviews.recipes``" in (REFERENCE / "interface.rst").read_text()


def test_the_reference_has_every_method_strategy_and_evaluator():
    kinds = {*concrete(MethodConfig, methods), *concrete(Method, methods), *concrete(Strategy, strategies)}
    kinds |= {*concrete(Scoring, probes)}
    assert len(kinds) > 40
    assert {f"{kind.__module__}.{kind.__qualname__}" for kind in kinds} - documented() == set()


def test_the_reference_names_nothing_private():
    for name in documented():
        assert not any(part.startswith("_") for part in name.split(".")), name
        module, _, last = name.rpartition(".")
        assert getattr(importlib.import_module(module), last).__doc__, name


def test_every_setting_has_a_meaning():
    rows = re.findall(r"\* - ``(\S+)``\n     - .*\n     - .*\n     -(.*)", settings())
    assert len(rows) > 200
    # What composes others, and a mean with its deviation, is described as a whole.
    whole = {"--strategy.links", "--strategy.parts", "--strategy.average", "mean", "std"}
    assert {name for name, meaning in rows if not meaning.strip()} - whole == set()


def test_every_recipe_is_in_its_table():
    assert set(RECIPES) - set(re.findall(r"^   \* - ``(\w+)``$", recipes(), re.MULTILINE)) == set()


def test_help_is_printed_for_a_page():
    text = printed(["audit", "--help"])
    assert text.startswith("usage: hardviews audit") and "\x1b" not in text
    assert max(map(len, text.splitlines())) <= 84


def test_a_paragraph_of_parameters_becomes_a_list():
    lines = ["Pack images.", "", "source: a folder, or `digits`. settings: those of", "the command: hold_out=0.1.", ""]
    assert rewritten(lines, ("source", "settings")) == [
        *("Pack images.", "", "Args:"),
        *("    source: a folder, or ``digits``\\ .", "    settings: those of the command: hold_out=0.1.", ""),
    ]
    assert escaped("give --data URL, or `a --b`") == "give ``--data`` URL, or ``a --b``"
    assert rewritten(["Note: source: a folder."], ("source",)) == ["Note: source: a folder."]
    assert rewritten(["Attributes:", "    views: two_"], ()) == ["Settings:", "    views: two\\_"]


@tries(max_examples=25)
@given(st.text(st.sampled_from("ab *_|\\:`-"), max_size=20))
def test_signs_of_a_docstring_stand_for_themselves(text):
    """Whatever is written is shown, less the marks of code and of emphasis."""
    shown = new_document("docstring", SETTINGS.copy())
    Parser().parse(f"x {escaped(text)}", shown)
    assert not list(shown.findall(nodes.problematic)), shown
    if "`" not in text and "*" not in text:
        assert " ".join(shown.astext().split()) == " ".join(f"x {text}".split())


def test_the_menu_of_versions_begins_with_the_newest():
    found = menu(["v0.9.0", "latest", "v0.10.0", "other"], "https://example.org/hardviews/")
    assert [entry["version"] for entry in found] == ["latest", "v0.10.0", "v0.9.0"]
    assert [entry["version"] for entry in found if entry.get("preferred")] == ["v0.10.0"]
    assert found[0]["url"] == "https://example.org/hardviews/latest/"
    assert [entry["version"] for entry in menu(["latest"], "") if entry.get("preferred")] == ["latest"]


def test_versions_are_written_beside_the_sites(tmp_path):
    program = [sys.executable, ROOT / "docs" / "building" / "versions.py", tmp_path]
    refused = subprocess.run(program, capture_output=True, text=True)
    assert refused.returncode == 1 and "does not hold a site" in refused.stderr and "Traceback" not in refused.stderr
    (tmp_path / "latest").mkdir()
    subprocess.run(program, check=True)
    assert json.loads((tmp_path / "versions.json").read_text())[0]["url"] == "/latest/"
    assert 'url=latest/"' in (tmp_path / "index.html").read_text()


@pytest.mark.parametrize("name", ["docs.yml", "ci.yml", "cluster.yml"])
def test_workflows_name_targets_that_exist(name):
    text = (ROOT / ".github" / "workflows" / name).read_text()
    targets = re.findall(r"make ([a-z-]+)", text)
    makefile = (ROOT / "Makefile").read_text()
    assert [target for target in targets if f".PHONY: {target}\n" not in makefile] == []
