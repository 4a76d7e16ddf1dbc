from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest

from hardviews.export.command import Export, run_export
from hardviews.models.encoder import Encoder
from tests.export.encoders import make, saved
from tests.stores import project

__all__ = ["project"]


@pytest.fixture(scope="session")
def resnet() -> Encoder:
    return make("resnet18", 32)


@pytest.fixture(scope="session")
def small_vit() -> Encoder:
    """Trained at another size than its position embeddings are laid out for."""
    return make("test_vit", 64, image_size=48)


@pytest.fixture(scope="session")
def small_stem() -> Encoder:
    return make("resnet10t", 32, small_stem=True)


@pytest.fixture(scope="session")
def runs(tmp_path_factory, resnet, small_vit, small_stem) -> dict[str, str]:
    """Outputs of runs by the name of the network."""
    folder: Path = tmp_path_factory.mktemp("runs")
    encoders = {"resnet18": resnet, "test_vit": small_vit, "resnet10t": small_stem}
    return {name: saved(encoder, folder / name) for name, encoder in encoders.items()}


@pytest.fixture(scope="session")
def export(runs, tmp_path_factory) -> Callable[..., Path]:
    """Return the folder of an export by network, format and options; it is made once, and only to be read."""
    folder = tmp_path_factory.mktemp("exports")
    project = str(folder / "project")

    @cache
    def exported(name: str, form: str, **options) -> Path:
        out = folder / "-".join([name, form, *options])
        run_export(Export(runs[name], form, out=str(out), project=project, **options))
        return out

    return exported


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch) -> Path:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.chdir(tmp_path)
    return tmp_path
