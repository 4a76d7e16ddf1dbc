"""The image: its packages, its sources, and who builds it."""

import re
import subprocess
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
DOCKERFILES = sorted((ROOT / "docker").glob("*Dockerfile"))


def pins(name: str) -> dict[str, tuple[str, frozenset[str]]]:
    """Version and hashes of every requirement in a file of requirements/."""
    found = {}
    for entry in re.split(r"\n(?=[a-z])", (ROOT / "requirements" / f"{name}.txt").read_text()):
        if match := re.match(r"([a-z0-9][\w.-]*)==([^\s;\\]+)", entry):
            found[canonicalize_name(match[1])] = match[2], frozenset(re.findall(r"sha256:\w+", entry))
    return found


def test_the_image_holds_what_the_lock_says_and_all_that_the_package_needs():
    installed, lock = pins("torch") | pins("runtime"), pins("lock")
    assert not pins("torch").keys() & pins("runtime").keys()
    assert {name: pin for name, pin in installed.items() if lock.get(name) != pin} == {}
    assert all(hashes for _, hashes in installed.values())
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    needed = [*project["dependencies"], *project["optional-dependencies"]["train"]]
    assert {canonicalize_name(Requirement(word).name) for word in needed} <= installed.keys()
    assert not {"pytest", "ruff", "lightly"} & installed.keys()


def test_only_torch_and_what_its_cuda_build_needs_is_in_its_layer():
    assert {"torch", "torchvision"} <= pins("torch").keys()
    assert all(re.match(r"torch|torchvision|triton|nvidia-|cuda-", name) for name in pins("torch"))


@pytest.mark.parametrize("file", DOCKERFILES, ids=lambda file: file.name)
def test_what_is_copied_is_there_and_not_ignored(file):
    allowed = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    lines = re.findall(r"^COPY (?!--from)(.*)$", file.read_text(), re.MULTILINE)
    assert lines
    for path in [word for line in lines for word in line.split()[:-1]]:
        assert (ROOT / path).exists(), path
        assert Path(path).parts[0] in allowed, path


@pytest.mark.parametrize("file", DOCKERFILES, ids=lambda file: file.name)
def test_no_image_runs_as_root_or_fixes_its_base(file):
    text = file.read_text()
    assert re.findall(r"^USER (\S+)$", text, re.MULTILINE) == ["10001:10001"]
    assert text.index("ARG BASE=") < text.index("FROM ${BASE}")


def make(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["make", *words], cwd=ROOT, capture_output=True, text=True, timeout=60)


@pytest.mark.parametrize("builder", ["docker", "podman", "buildah"])
def test_any_builder_will_do(builder, tmp_path, monkeypatch):
    (tmp_path / builder).write_text('#!/bin/sh\ntest "$1" = info || echo "$0" "$@"\n')
    (tmp_path / builder).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    made = make("image", "IMAGE=registry.example.org/hardviews:1", "PUSH=1", f"BUILDERS=nobody {builder}")
    assert made.returncode == 0, made.stderr
    assert f"/{builder} build" in made.stdout
    assert f"/{builder} push registry.example.org/hardviews:1" in made.stdout
    assert re.search(r"COMMIT=[0-9a-f]{40}", made.stdout)


def test_a_missing_builder_and_a_missing_index_are_named():
    assert "one of nobody has to work here" in make("image", "BUILDERS=nobody").stderr
    assert "TORCH_INDEX=ADDRESS" in make("image", "BUILDERS=true", "TARGET=cpu").stderr
