"""The jobs as builtin components of TorchX: one file each, under two names."""

import inspect
from pathlib import Path

import pytest
from torchx.components import dist, utils
from torchx.specs.finder import ModuleComponentsFinder

import hardviews
from hardviews.errors import UserError
from hardviews.launch import builtin, released, site
from hardviews.launch.component_file import find_component

ROOT = Path(__file__).parents[2]
JOBS = sorted((ROOT / "jobs").glob("*.py"))


def test_every_job_is_a_builtin_and_both_are_one_file():
    folder = ROOT / "platform" / "hardviews" / "launch" / "jobs"
    links = [file for file in folder.glob("*.py") if file.name != "__init__.py"]
    assert {link.name for link in links} == {job.name for job in JOBS}, "ln -s ../../../../jobs/NAME.py there"
    for link in links:
        assert link.is_symlink() and link.readlink() == Path("../../../../jobs") / link.name


@pytest.mark.parametrize("job", JOBS, ids=lambda job: job.stem)
def test_a_job_is_found_by_its_short_name_and_by_torchx_s(job):
    for name in (f"hardviews.{job.stem}", f"hardviews.{job.stem}.{job.stem}"):
        function = find_component(name)
        assert Path(inspect.getfile(function)).resolve() == job
        assert function.__name__ == job.stem


def test_no_builtin_of_torchx_is_lost():
    theirs = {one.name for one in ModuleComponentsFinder("torchx.components", "").find() if not one.validation_errors}
    ours = {f"hardviews.{job.stem}" for job in JOBS}
    assert set(builtin.names()) == theirs | ours
    assert find_component("dist.ddp") is dist.ddp
    assert find_component("utils.echo") is utils.echo


def test_names_are_shortened_only_where_that_is_plain():
    assert [builtin.short(f"hardviews.{name}") for name in ("knn.knn", "knn.other")] == [
        "hardviews.knn",
        "hardviews.knn.other",
    ]
    assert builtin.short("dist.ddp") == builtin.full("dist.ddp") == "dist.ddp"
    assert builtin.full("hardviews.knn") == builtin.full("hardviews.knn.knn") == "hardviews.knn.knn"
    with pytest.raises(UserError, match=r"Did you mean hardviews\.linear_eval\?"):
        find_component("hardviews.linear_evl")


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The package as in an environment without a checkout, where nobody has named an image."""
    monkeypatch.setattr(hardviews, "__file__", str(tmp_path / "lib" / "python" / "hardviews" / "__init__.py"))
    monkeypatch.delenv("HARDVIEWS_IMAGE", raising=False)
    (tmp_path / "none").touch()
    monkeypatch.setenv("TORCHXCONFIG", str(tmp_path / "none"))


def test_a_checkout_has_no_released_image():
    assert released.released_image() is None


def test_an_installed_package_takes_the_image_of_its_version_unless_another_is_named(installed, monkeypatch, tmp_path):
    app = find_component("hardviews.pretrain")(data="s3://b/d", output="s3://b/o", tracking="http://m")
    image = f"{released.NAME}:{hardviews.__version__}"
    assert {role.image for role in app.roles} == {image}
    assert site.missing(app, local=False) == []
    (tmp_path / "config").write_text("[hardviews:site]\nimage = of/the/file:1\n")
    monkeypatch.setenv("TORCHXCONFIG", str(tmp_path / "config"))
    assert site.IMAGE.resolve(None) == "of/the/file:1"
    monkeypatch.setenv("HARDVIEWS_IMAGE", "of/the/environment:1")
    assert site.IMAGE.resolve(None) == "of/the/environment:1"
    assert site.IMAGE.resolve("given:1") == "given:1"
