import pytest

from hardviews.launch.pod_options import PodOptions
from hardviews.launch.toleration import toleration
from tests.launch.kubernetes.jobs import job


@pytest.mark.parametrize(
    ("text", "read"),
    [
        ("k", {"key": "k", "operator": "Exists"}),
        ("a.b/k:NoSchedule", {"key": "a.b/k", "operator": "Exists", "effect": "NoSchedule"}),
        ("k=v:NoExecute", {"key": "k", "operator": "Equal", "value": "v", "effect": "NoExecute"}),
        ("k=", {"key": "k", "operator": "Equal", "value": ""}),
        ("k:Soon", None),
        ("", None),
        ("k=v w", None),
    ],
)
def test_tolerations_are_read_as_kubectl_writes_taints(text, read):
    assert toleration(text) == read


def test_a_job_adds_to_the_sites_lists_and_overrides_its_values():
    site = PodOptions(secrets=("a", "b"), node_selector={"x": "1"}, ttl=1, scratch=5)
    own = PodOptions(secrets=("b", "c"), node_selector={"x": "2", "y": "3"}, ttl=2)
    merged = own.over(site)
    assert merged == PodOptions(secrets=("a", "b", "c"), node_selector={"x": "2", "y": "3"}, ttl=2, scratch=5)
    assert PodOptions().over(site) == site


def test_what_a_job_says_survives_its_way_through_the_role():
    role = job(secret=["a"], node_selector={"x": "y"}, grace=7, ttl=0).roles[1]
    assert PodOptions.of_role(role) == PodOptions(secrets=("a",), node_selector={"x": "y"}, grace=7, ttl=0)
