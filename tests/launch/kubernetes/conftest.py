import pytest

from hardviews.launch import site


@pytest.fixture(autouse=True)
def nobody_has_said_anything(monkeypatch, tmp_path):
    """Neither the environment nor a file of the machine names the places of the site or the cluster."""
    for name in (*(value.variable for value in site.VALUES), site.NAMESPACE, site.QUEUE, site.SECRETS):
        monkeypatch.delenv(name, raising=False)
    empty = tmp_path / "torchxconfig"
    empty.touch()
    monkeypatch.setenv("TORCHXCONFIG", str(empty))
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "none"))
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
