"""The Service that the pods of elastic jobs have their names from."""

import pytest

from hardviews.launch.kubernetes.manifest import SERVICE
from hardviews.launch.kubernetes.scheduler import ElasticKubernetesScheduler
from jobs.pack import pack
from tests.launch.kubernetes.clusters import HOME, Few, refusal
from tests.launch.kubernetes.jobs import CFG, job

PATH = f"{HOME}/services/hardviews-jobs"


class Accepting(Few):
    def create(self, path, body, **query):
        super().create(path, body, **query)
        return {"metadata": {"name": "x"}}


def submitted(cluster, app=None):
    """Submit a job; return the created objects, by kind."""
    scheduler = ElasticKubernetesScheduler("test")
    scheduler._cluster = cluster
    info = scheduler.submit_dryrun(app or job(), CFG | {"namespace": "n"})
    before = str(info.request.resource)
    scheduler.schedule(info)
    assert str(info.request.resource) == before
    return {path.rpartition("/")[2]: body for path, body, _ in cluster.created}


def subdomains(made):
    return {task["template"]["spec"].get("subdomain") for task in made["jobs"]["spec"]["tasks"]}


def test_it_is_made_with_the_first_job_and_selects_the_pods_of_all():
    made = submitted(Accepting())
    assert made["services"] == SERVICE
    assert subdomains(made) == {"hardviews-jobs"}
    for task in made["jobs"]["spec"]["tasks"]:
        assert SERVICE["spec"]["selector"].items() <= task["template"]["metadata"]["labels"].items()


def test_one_that_is_there_is_used():
    cluster = Accepting()
    cluster.objects[PATH] = SERVICE
    made = submitted(cluster)
    assert set(made) == {"jobs"}
    assert subdomains(made) == {"hardviews-jobs"}


@pytest.mark.parametrize(
    "found", [refusal(403, "forbidden"), {"spec": {"clusterIP": "10.0.0.1", "selector": SERVICE["spec"]["selector"]}}]
)
def test_without_it_volcanos_own_names_are_used(found):
    cluster = Accepting()
    cluster.objects[PATH] = found
    made = submitted(cluster)
    assert set(made) == {"jobs"}
    assert subdomains(made) == {None}


@pytest.mark.parametrize(("status", "names"), [(403, None), (409, "hardviews-jobs")])
def test_a_service_that_cannot_be_made(status, names):
    cluster = Accepting()
    cluster.refuses["services"] = refusal(status, "no")
    assert subdomains(submitted(cluster)) == {names}


def test_a_job_of_one_process_needs_none():
    assert set(submitted(Accepting(), pack(source="/i", image="i", data="s3://b/d"))) == {"jobs"}
