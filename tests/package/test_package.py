"""Wheel and sdist as users get them: built, checked, installed into empty environments, run outside of a checkout."""

import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from email.parser import Parser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import hardviews
from hardviews.cli import _COMMANDS, _WITHOUT_TORCH
from hardviews.launch.released import NAME

pytestmark = [pytest.mark.package, pytest.mark.timeout(1800)]

ROOT = Path(__file__).parents[2]
VENV = Path(sys.prefix)
TOOLS = VENV / "release" / "bin"
NEEDS_TRAIN = "needs torch, which is not installed here: pip install 'hardviews[train]'"


def run(*command: str | Path, folder: Path, code: int = 0, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run a program without the settings of this shell."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("HARDVIEWS_", "MLFLOW_", "PYTHON", "TORCHX"))}
    done = subprocess.run(
        list(map(str, command)), cwd=folder, env=kept | variables, capture_output=True, text=True, timeout=900
    )
    assert done.returncode == code, f"{done.stdout[-2000:]}\n{done.stderr[-4000:]}"
    return done


@pytest.fixture(scope="module")
def dist(tmp_path_factory) -> Path:
    """A folder with the wheel and the sdist, built from the files that Git has or would add."""
    source = tmp_path_factory.mktemp("source")
    names = run("git", "ls-files", "-co", "--exclude-standard", "-z", folder=ROOT).stdout.split("\0")
    for name in filter(None, names):
        if (ROOT / name).exists():
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, source / name, follow_symlinks=False)
    out = tmp_path_factory.mktemp("dist")
    run(TOOLS / "python", "-m", "build", "--no-isolation", "--outdir", out, source, folder=source)
    return out


@pytest.fixture(scope="module")
def wheel(dist) -> Path:
    (file,) = dist.glob("*.whl")
    return file


@pytest.fixture(scope="module")
def client(wheel, tmp_path_factory) -> Path:
    """The programs of an environment in which only `pip install hardviews` was typed."""
    folder = tmp_path_factory.mktemp("client") / "env"
    uv = VENV / "bin" / "uv"
    run(uv, "venv", "--python", sys.executable, folder, folder=folder.parent)
    run(uv, "pip", "install", "--python", folder / "bin" / "python", wheel, folder=folder.parent)
    return folder / "bin"


def test_both_are_called_by_the_version_and_pass_the_check_of_the_index(dist):
    version = hardviews.__version__
    assert {file.name for file in dist.iterdir()} == {
        f"hardviews-{version}-py3-none-any.whl",
        f"hardviews-{version}.tar.gz",
    }
    said = run(TOOLS / "twine", "check", "--strict", *dist.iterdir(), folder=dist).stdout
    assert said.count("PASSED") == 2


def test_the_wheel_holds_the_package_and_nothing_else(wheel):
    names = set(zipfile.ZipFile(wheel).namelist())
    info = f"hardviews-{hardviews.__version__}.dist-info/"
    package = {name for name in names if not name.startswith(info)}
    files = {str(path.relative_to(ROOT / "platform")) for path in (ROOT / "platform" / "hardviews").rglob("*.py")}
    assert package == files | {"hardviews/py.typed"}
    assert {f"{info}licenses/LICENSE", f"{info}entry_points.txt"} <= names
    metadata = Parser().parsestr(zipfile.ZipFile(wheel).read(f"{info}METADATA").decode())
    assert metadata["Version"] == hardviews.__version__
    assert metadata.get_all("Provides-Extra") == ["train", "export", "test", "dev"]
    always = [text for text in metadata.get_all("Requires-Dist") if "extra ==" not in text]
    assert not [text for text in always if text.startswith(("torch>", "torch=", "timm", "mlflow", "scipy", "opencv"))]


def test_the_sdist_holds_what_the_wheel_is_built_from_and_nothing_else(dist):
    (file,) = dist.glob("*.tar.gz")
    with tarfile.open(file) as archive:
        assert not [member.name for member in archive if member.issym() or member.islnk()]
        names = {member.name.partition("/")[2] for member in archive if member.isfile()}
    kept = {name for name in names if not name.startswith("platform/")}
    assert kept == {"CHANGELOG.md", "LICENSE", "MANIFEST.in", "PKG-INFO", "README.md", "pyproject.toml", "setup.cfg"}
    assert "platform/hardviews/launch/jobs/pretrain.py" in names
    assert not [name for name in names if "__pycache__" in name or name.endswith(".pyc")]


def test_a_client_has_no_torch_and_the_types_of_the_package(client, tmp_path):
    code = (
        "import importlib.metadata as m, importlib.resources as r\n"
        "names = {d.name for d in m.distributions()}\nassert 'torchx' in names and 'torch' not in names, names\n"
        "assert r.files('hardviews').joinpath('py.typed').is_file()\n"
        "import hardviews; print(hardviews.__version__, m.version('hardviews'))\n"
    )
    version = hardviews.__version__
    assert run(client / "python", "-c", code, folder=tmp_path).stdout.split() == [version, version]


def test_a_client_lists_recipes_and_packs_images(client, tmp_path):
    assert "hardviews pretrain" in run(client / "hardviews", "--help", folder=tmp_path).stdout
    assert "simsiam_r50_100_hvs" in run(client / "hardviews", "recipes", folder=tmp_path).stdout
    assert "training.epochs = " in run(client / "hardviews", "recipes", "show", "photos", folder=tmp_path).stdout
    for name in ("a", "b"):
        (tmp_path / "images" / name).mkdir(parents=True)
        for number in range(4):
            noise = np.random.default_rng(number).integers(0, 255, (24, 24, 3), np.uint8)
            Image.fromarray(noise).save(tmp_path / "images" / name / f"{number}.png")
    packed = run(client / "hardviews", "pack", "--source", "images", "--out", "shards", folder=tmp_path)
    assert "of 2 classes" in packed.stdout
    for source in ("digits", "photographs"):
        refused = run(client / "hardviews", "pack", "--source", source, "--out", "x", folder=tmp_path, code=2)
        assert refused.stderr == f"hardviews: hardviews pack {NEEDS_TRAIN.replace('torch', 'sklearn', 1)}\n"


@pytest.mark.parametrize("command", sorted(set(_COMMANDS) - set(_WITHOUT_TORCH)))
def test_every_other_command_asks_for_the_extra(client, tmp_path, command):
    refused = run(client / "hardviews", command, folder=tmp_path, code=2)
    assert (refused.stdout, refused.stderr) == ("", f"hardviews: hardviews {command} {NEEDS_TRAIN}\n")


PLACES = ("--data", "s3://b/d", "--output", "s3://b/o", "--tracking", "http://m:5000")


def test_a_client_submits_jobs_without_a_checkout(client, tmp_path):
    listed = run(client / "torchx", "builtins", folder=tmp_path).stdout
    for name in ("hardviews.pretrain", "hardviews.linear_eval", "hardviews.transfer_eval", "dist.ddp", "utils.echo"):
        assert f" {name}\n" in listed
    helped = run(client / "torchx", "run", "hardviews.pretrain", "--help", folder=tmp_path).stdout
    assert "--recipe" in helped
    assert "kubernetes:" in run(client / "torchx", "runopts", folder=tmp_path).stdout
    words = ["run", "-s", "kubernetes", "--dryrun", "-cfg", "queue=q", "hardviews.pretrain", "-j", "1:2x1", *PLACES]
    image = f"image: {NAME}:{hardviews.__version__}"
    assert image in run(client / "torchx", *words, folder=tmp_path).stdout
    assert "image: of/mine:1" in run(client / "torchx", *words, "--image", "of/mine:1", folder=tmp_path).stdout
    misread = run(client / "torchx", *words, "--", "--training.epoch", "3", folder=tmp_path, code=2)
    assert "Perhaps you meant: --training.epochs" in misread.stderr
    local = run(client / "torchx", "run", "-s", "local_cwd", "hardviews.pretrain", *PLACES, folder=tmp_path, code=2)
    assert local.stderr == f"torchx run: hardviews pretrain {NEEDS_TRAIN}\n"


def test_a_client_checks_a_job_and_says_what_it_leaves_to_the_job(client, tmp_path):
    words = ["validate", "--", "-cfg", "queue=q", "hardviews.pretrain", "--recipe", "smoke", "-j", "1:2x1", *PLACES]
    read = run(client / "hardviews", *words, folder=tmp_path)
    assert "Nothing is wrong with hardviews.pretrain" in read.stdout
    assert "not checked: the names of network and optimizer" in read.stderr
    assert (
        "Nothing is wrong"
        in run(
            client / "hardviews", "validate", "--", "-cfg", "queue=q", "hardviews.knn", *PLACES, folder=tmp_path
        ).stdout
    )


@pytest.mark.parametrize("extra", ["train", "export"])
def test_the_index_has_all_that_an_extra_needs(client, wheel, extra, tmp_path):
    words = ("pip", "install", "--dry-run", "--python", client / "python", f"hardviews[{extra}] @ {wheel.as_uri()}")
    said = run(VENV / "bin" / "uv", *words, folder=tmp_path).stderr
    needed = {"train": (" torch==", " mlflow=="), "export": (" torch==", " onnx==")}[extra]
    assert all(f"+{name}" in said or f"+ {name.strip()}" in said for name in needed), said


def test_the_full_installation_trains_outside_of_a_checkout(wheel, tmp_path):
    """The dependencies are those of .venv, which stand behind an environment with the wheel alone."""
    env = tmp_path / "env"
    uv = VENV / "bin" / "uv"
    run(uv, "venv", "--python", sys.executable, env, folder=tmp_path)
    run(uv, "pip", "install", "--no-deps", "--python", env / "bin" / "python", wheel, folder=tmp_path)
    (place,) = env.glob("lib/python*/site-packages")
    (place / "dependencies.pth").write_text(str(next(VENV.glob("lib/python*/site-packages"))))
    python = env / "bin" / "python"
    found = run(python, "-c", "import hardviews, torch; print(hardviews.__file__)", folder=tmp_path).stdout
    assert found.startswith(str(env))
    run(env / "bin" / "hardviews", "pack", "--source", "digits", "--out", "shards", folder=tmp_path)
    job = ["hardviews.pretrain", "--recipe", "digits", "-j", "1x1", "--data", "shards", "--output", "run"]
    torchx = (python, "-c", "from torchx.cli.main import main; main()")
    words = ["run", "-s", "local_cwd", "--wait", *job, "--", "--training.epochs", "1"]
    run(*torchx, *words, folder=tmp_path, OMP_NUM_THREADS="1")
    assert (tmp_path / "run" / "history.jsonl").is_file()
    audited = run(env / "bin" / "hardviews", "audit", "run", folder=tmp_path)
    assert "exactly once" in audited.stdout, audited.stdout


def test_workflows_are_valid_and_the_release_gives_no_more_than_it_must(tmp_path):
    folder = ROOT / ".github" / "workflows"
    files = sorted(folder.glob("*.yml"))
    run(TOOLS / "check-jsonschema", "--builtin-schema", "vendor.github-workflows", *files, folder=tmp_path)
    run(TOOLS / "zizmor", "--offline", "--quiet", folder / "release.yml", folder=tmp_path)
