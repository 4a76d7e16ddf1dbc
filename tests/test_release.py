"""What the release workflow may do, what it publishes, and which tag it accepts."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

import hardviews
from hardviews.launch.released import NAME

ROOT = Path(__file__).parents[1]
FILE = ROOT / ".github" / "workflows" / "release.yml"
RELEASE = yaml.safe_load(FILE.read_text())


@pytest.fixture
def ready(tmp_path: Path) -> Path:
    """The files with the version, as they are before a tag."""
    for name in (".ci/version-of-tag", "platform/hardviews/__init__.py", "charts/hardviews/Chart.yaml"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    (tmp_path / "CHANGELOG.md").write_text(f"## [Unreleased]\n\n## [{hardviews.__version__}] - 2026-12-01\n")
    return tmp_path


def version_of(tag: str, folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["bash", folder / ".ci/version-of-tag", tag], capture_output=True, text=True, timeout=30)


def test_a_tag_is_the_version_of_package_chart_and_changelog(ready):
    accepted = version_of(f"v{hardviews.__version__}", ready)
    assert (accepted.returncode, accepted.stdout, accepted.stderr) == (0, f"{hardviews.__version__}\n", "")


@pytest.mark.parametrize(
    ("tag", "file", "change", "part"),
    [
        ("v9.9.9", None, None, "The tag is v9.9.9, and the package has the version"),
        (hardviews.__version__, None, None, "The tag is"),
        (f"v{hardviews.__version__}.1", None, None, "The tag is"),
        (None, "charts/hardviews/Chart.yaml", ("appVersion: ", "appVersion: 8"), "appVersion of the chart is 8"),
        (None, "CHANGELOG.md", ("## [", "## "), "CHANGELOG.md has no section"),
        (None, "platform/hardviews/__init__.py", ('__version__ = "', '__version__ = "7'), "has the version 7"),
    ],
    ids=["another tag", "no v", "longer", "chart", "changelog", "package"],
)
def test_a_tag_with_another_version_releases_nothing(ready, tag, file, change, part):
    if file is not None:
        (ready / file).write_text((ready / file).read_text().replace(*change))
    refused = version_of(tag or f"v{hardviews.__version__}", ready)
    assert (refused.returncode, refused.stdout) == (1, "")
    assert part in refused.stderr
    assert refused.stderr.endswith("Nothing is released.\n")


def test_the_workflow_asks_for_the_version_before_it_publishes_anything():
    jobs = RELEASE["jobs"]
    first = jobs["package"]["steps"]
    assert '.ci/version-of-tag "$GITHUB_REF_NAME"' in next(step for step in first if step.get("id") == "tag")["run"]
    for name in set(jobs) - {"package"}:
        assert "package" in ancestors(name), name
    assert ancestors("publish") == {"package", "image", "chart"}


def ancestors(job: str) -> set[str]:
    needs = RELEASE["jobs"][job].get("needs", [])
    direct = {needs} if isinstance(needs, str) else set(needs)
    return direct.union(*(ancestors(each) for each in direct))


def test_the_released_image_is_the_one_that_an_installed_package_asks_for():
    assert RELEASE["env"]["IMAGE"] == NAME
    build = next(step for step in RELEASE["jobs"]["image"]["steps"] if step.get("id") == "build")["with"]
    assert build["tags"] == "${{ env.IMAGE }}:${{ needs.package.outputs.version }}${{ matrix.suffix }}"
    assert (build["sbom"], build["provenance"], build["push"]) == (True, "mode=max", True)
    by_target = {one["target"]: one["suffix"] for one in RELEASE["jobs"]["image"]["strategy"]["matrix"]["include"]}
    assert by_target == {"gpu": "", "cpu": "-cpu"}


def test_each_job_has_the_rights_that_it_needs_and_no_secret():
    assert RELEASE["permissions"] == {}
    rights = {name: job["permissions"] for name, job in RELEASE["jobs"].items()}
    write = {name: {right for right, kind in each.items() if kind == "write"} for name, each in rights.items()}
    assert write == {
        "package": set(),
        "image": {"packages", "id-token", "attestations"},
        "chart": {"packages", "id-token"},
        "publish": {"id-token"},
    }
    assert "secrets." not in FILE.read_text()
    assert RELEASE["jobs"]["publish"]["environment"] == "pypi"


def test_every_action_of_the_release_is_pinned_by_commit_and_names_its_version():
    uses = re.findall(r"uses: (\S+)(.*)$", FILE.read_text(), re.MULTILINE)
    assert uses
    for action, comment in uses:
        assert re.fullmatch(r"[\w-]+/[\w-]+@[0-9a-f]{40}", action), action
        assert re.fullmatch(r"  # v\d+\.\d+\.\d+", comment), action
