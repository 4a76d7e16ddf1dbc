"""The checkout: source root, lock, versions, and the properties of every file."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import hardviews

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
LOCK = ROOT / "requirements" / "lock.txt"


def python(code: str, *options: str, folder: Path = ROOT) -> str:
    done = subprocess.run(
        [sys.executable, *options, "-c", code], cwd=folder, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def locked() -> dict[str, set[str]]:
    """Versions by name; a name has several if they depend on the Python version."""
    versions: dict[str, set[str]] = {}
    for name, version in re.findall(r"^([a-z0-9][a-z0-9._-]*)==([^\s;\\]+)", LOCK.read_text(), re.MULTILINE):
        versions.setdefault(canonicalize_name(name), set()).add(version)
    return versions


def test_the_source_root_is_no_package():
    assert not (ROOT / "platform" / "__init__.py").exists()
    assert [entry.name for entry in (ROOT / "platform").iterdir() if not entry.name.endswith(".egg-info")] == [
        "hardviews"
    ]


@pytest.mark.parametrize("first", ["", "import sys; sys.path.insert(0, '.'); "], ids=["implicit", "first-on-path"])
def test_the_source_root_does_not_shadow_the_standard_library(first):
    version = python(first + "import platform; print(platform.python_version(), platform.__file__)").split()
    assert version[0] == ".".join(map(str, sys.version_info[:3]))
    assert not version[1].startswith(str(ROOT / "platform"))


def test_an_init_file_in_the_source_root_would_shadow_it(tmp_path):
    """The rule is needed: it prevents this."""
    (tmp_path / "platform").mkdir()
    (tmp_path / "platform" / "__init__.py").touch()
    assert "False" in python("import platform; print(hasattr(platform, 'python_version'))", folder=tmp_path)


def test_every_folder_of_the_package_is_a_package():
    package = Path(hardviews.__file__).parent
    for file in package.rglob("*.py"):
        assert (file.parent / "__init__.py").exists(), file


def test_the_version_is_written_once_and_the_chart_installs_the_same():
    """The chart is not built by setuptools: its `appVersion` is the one copy, and is held here."""
    assert tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["dynamic"] == {
        "version": {"attr": "hardviews.__version__"}
    }
    assert "version" not in PROJECT
    assert yaml.safe_load((ROOT / "charts/hardviews/Chart.yaml").read_text())["appVersion"] == hardviews.__version__


@pytest.mark.parametrize(
    "text",
    [
        *PROJECT["dependencies"],
        *(text for extra in PROJECT["optional-dependencies"].values() for text in extra if "hardviews[" not in text),
    ],
)
def test_the_lock_satisfies_the_project(text):
    requirement = Requirement(text)
    versions = locked().get(canonicalize_name(requirement.name), set())
    assert versions, f"{requirement.name} is not locked: make lock"
    assert all(requirement.specifier.contains(version) for version in versions), "make lock"


@pytest.mark.parametrize("file", sorted((ROOT / "requirements").glob("*.txt")), ids=lambda file: file.name)
def test_a_lock_names_no_address_and_hashes_everything(file):
    lines = file.read_text().splitlines()
    assert [line for line in lines if re.search(r"://|^\s*-|\s@\s", line.replace("    --hash=", ""))] == []
    pins = [number for number, line in enumerate(lines) if re.match(r"[a-z0-9]", line)]
    assert pins
    for number in pins:
        assert "==" in lines[number]
        assert "--hash=sha256:" in lines[number + 1], lines[number]


def test_the_environment_is_the_locked_one():
    from importlib.metadata import distributions

    installed = {canonicalize_name(d.name): d.version.partition("+")[0] for d in distributions()}
    lock = locked()
    differing = {name: installed[name] for name in lock.keys() & installed if installed[name] not in lock[name]}
    assert differing == {}, "make venv"


def test_the_picture_of_the_rooms_is_the_one_that_is_checked():
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    layers = [re.split(r"\s*\|\s*", row) for row in next(c for c in settings if c["type"] == "layers")["layers"]]
    drawing = (ROOT / "docs" / "concepts.md").read_text().split("## Rooms")[1].split("```")[1]
    rooms = {room for row in layers for room in row}
    drawn = [[word for word in re.split(r"\s{2,}", line) if word in rooms] for line in drawing.splitlines()[1:]]
    assert [room for row in drawn for room in row] == [room for row in layers for room in row]
