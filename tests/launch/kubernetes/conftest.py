import pytest

from hardviews.launch import site


@pytest.fixture(autouse=True)
def nobody_has_said_anything(monkeypatch, tmp_path):
    """Neither the environment nor a file of the machine says where the site's things are, nor which cluster."""
    for value in (site.IMAGE, site.DATA, site.OUTPUT, site.TRACKING):
        monkeypatch.delenv(value.variable, raising=False)
    empty = tmp_path / "torchxconfig"
    empty.touch()
    monkeypatch.setenv("TORCHXCONFIG", str(empty))
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "none"))
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
