import pytest

from hardviews.doctor import reached
from hardviews.doctor.child import look
from hardviews.doctor.probes import PROBES
from hardviews.doctor.settings import Doctor
from hardviews.launch import site


@pytest.fixture(autouse=True)
def nobody_has_said_anything(monkeypatch, tmp_path):
    """Neither the environment nor a file of the machine names a store, a server or a cluster."""
    for name in (*(value.variable for value in site.VALUES), site.NAMESPACE, site.QUEUE, site.SECRETS):
        monkeypatch.delenv(name, raising=False)
    for name in ("KUBECONFIG", "KUBERNETES_SERVICE_HOST", "HARDVIEWS_PATIENCE", "HARDVIEWS_TIMELINE"):
        monkeypatch.delenv(name, raising=False)
    empty = tmp_path / "torchxconfig"
    empty.touch()
    monkeypatch.setenv("TORCHXCONFIG", str(empty))
    monkeypatch.setenv("HOME", str(tmp_path))
    reached.reach.cache_clear()


@pytest.fixture
def probe():
    """Look with one probe in this process; returns the findings by what they are about."""

    def run(name, **settings):
        chosen = next(one for one in PROBES if one.name == name)
        found = look(chosen, Doctor(**settings).settled())
        assert all(finding.remedy for finding in found if finding.state in ("missing", "warning")), found
        return {finding.what: finding for finding in found}

    return run


@pytest.fixture
def states(probe):
    """Look with one probe; returns the states by what they are about."""
    return lambda name, **settings: {what: found.state for what, found in probe(name, **settings).items()}
