"""Checks of `torchx run` before a job is submitted: mistakes of all kinds in one list."""

from typing import ClassVar

import pytest

from hardviews.errors import UserError
from hardviews.launch import examiner, site
from hardviews.launch.torchx_run import JobRunner
from tests.launch.kubernetes.clusters import Few
from tests.launch.kubernetes.jobs import job

CFG = {"queue": "default", "namespace": "n"}


class Checked:
    """Stands for the process that checks a command."""

    made: ClassVar[list["Checked"]] = []
    words_found: tuple[list[str], list[str], str | None] = ([], [], None)
    places_found: tuple[list[str], list[str], str | None] = ([], [], None)

    def __init__(self, asked):
        self.job, self.store, self.closed = asked, None, False
        Checked.made.append(self)

    def words(self):
        return self.words_found

    def places(self, store):
        self.store = store
        return self.places_found

    def close(self):
        self.closed = True


@pytest.fixture(autouse=True)
def checked(monkeypatch, tmp_path):
    for value in site.VALUES:
        monkeypatch.delenv(value.variable, raising=False)
    for name in ("AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3", site.QUEUE, site.NAMESPACE, site.SECRETS):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    file = tmp_path / "torchxconfig"
    file.write_text("[kubernetes]\nqueue = default\n")
    monkeypatch.setenv("TORCHXCONFIG", str(file))
    monkeypatch.setattr(Checked, "made", [])
    monkeypatch.setattr(examiner, "Preflight", Checked)
    return Checked


def runner(submits: bool, **objects) -> JobRunner:
    made = JobRunner(1234, submits)
    cluster = made._scheduler("kubernetes")._cluster = Few()
    cluster.objects |= objects
    return made


def test_a_submission_looks_at_words_and_places(checked):
    with runner(submits=True) as made:
        made.dryrun(job("--training.epochs", "3", scratch=100_000, gpu=1), "kubernetes", cfg=CFG)
    (check,) = checked.made
    assert check.job.words[-2:] == ["--training.epochs", "3"]
    assert (check.job.nodes, check.job.scratch, check.job.gpu, check.closed) == ((1, 2, 1), 100_000, 1, True)
    assert check.store["AWS_ACCESS_KEY_ID"] == "key"


def test_every_kind_of_mistake_is_in_one_list(checked, monkeypatch):
    monkeypatch.setattr(checked, "words_found", (["The recipe is none."], [], None))
    monkeypatch.setattr(checked, "places_found", (["The output holds another run.", "The recipe is none."], [], None))
    with runner(submits=True) as made, pytest.raises(UserError) as error:
        made.refuse_later(["-cfg queues is no run option."])
        made.dryrun(job(memMB=0), "kubernetes", cfg=CFG | {"queue": "lost"})
    assert "5 things are wrong, and nothing was submitted" in str(error.value)
    for part in ("queues is", "0 MB", "no queue lost", "The recipe is none.", "The output holds another run."):
        assert part in str(error.value)
    assert checked.made[0].closed


def test_a_dry_run_looks_at_the_words_alone(checked, monkeypatch):
    monkeypatch.setattr(checked, "words_found", (["The recipe is none."], [], None))
    for scheduler in ("kubernetes", "local_cwd"):
        with JobRunner(1234, submits=False) as made, pytest.raises(UserError, match="The recipe is none"):
            made.dryrun(job(), scheduler, cfg=CFG)
    assert [check.store for check in checked.made] == [None, None]
    assert checked.made[1].job.gpu is None  # this machine's GPUs are there without being asked for


def test_what_could_not_be_checked_is_reported_and_refuses_nothing(checked, monkeypatch, capsys):
    monkeypatch.setattr(checked, "places_found", ([], ["The job waits."], "nothing listens at http://store:8333"))
    with runner(submits=True) as made:
        made.dryrun(job(), "kubernetes", cfg=CFG)
    said = capsys.readouterr().err
    assert "not checked from here (nothing listens at http://store:8333)" in said and "The job waits.\n" in said
    monkeypatch.setattr(checked, "words_found", ([], [], "No module named torch"))
    with runner(submits=True) as made:
        made.dryrun(job(), "kubernetes", cfg=CFG)
    assert "not checked here (No module named torch)" in capsys.readouterr().err


def test_places_that_nobody_has_named_or_that_are_not_the_jobs_are_not_looked_at(checked, monkeypatch):
    with runner(submits=True) as made, pytest.raises(UserError, match="lacks --output"):
        made.dryrun(job(output=None), "kubernetes", cfg=CFG)
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://localhost:9000")
    with runner(submits=True) as made:
        made.dryrun(job(env={"AWS_ENDPOINT_URL": "http://store:8333"}), "kubernetes", cfg=CFG)
    assert [check.store for check in checked.made] == [None, None]


def test_a_job_of_this_machine_is_checked_by_its_own_environment_before_it_starts(checked, monkeypatch):
    monkeypatch.setattr(checked, "places_found", (["There is no packed dataset."], [], None))
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://localhost:9000")
    app = job(env={"AWS_REGION": "r", "HARDVIEWS_WATCHDOG": "off"})
    with JobRunner(1234, submits=True) as made, pytest.raises(UserError, match="There is no packed dataset"):
        made.dryrun(app, "local_cwd", cfg={})
    (check,) = checked.made
    assert (check.job.here, check.job.gpu, check.closed) == (True, None, True)
    assert check.job.variables["HARDVIEWS_WATCHDOG"] == "off"
    kept = {name: check.store[name] for name in ("AWS_ACCESS_KEY_ID", "AWS_ENDPOINT_URL", "AWS_REGION")}
    assert kept == {"AWS_ACCESS_KEY_ID": "key", "AWS_ENDPOINT_URL": "http://localhost:9000", "AWS_REGION": "r"}


def test_the_environment_names_queue_namespace_and_secrets(monkeypatch):
    monkeypatch.setenv("HARDVIEWS_QUEUE", "vision")
    monkeypatch.setenv("HARDVIEWS_NAMESPACE", "lab")
    monkeypatch.setenv("HARDVIEWS_SECRETS", "store, mlflow")
    assert site.cluster_options() == {"queue": "vision", "namespace": "lab", "secrets": ["store", "mlflow"]}
    with runner(submits=False) as made:
        made.cluster_options = site.cluster_options()
        info = made.dryrun(job(), "kubernetes", cfg={"queue": "default"})
        assert info.request.resource["spec"]["queue"] == "vision"
        container = info.request.resource["spec"]["tasks"][1]["template"]["spec"]["containers"][0]
        assert [entry["secretRef"]["name"] for entry in container["envFrom"]] == ["store", "mlflow"]
        backend = made._scheduler("kubernetes")
        assert backend._namespace(info._cfg) == backend._namespace() == "lab"


def test_variables_that_are_empty_are_unset():
    assert site.cluster_options({"HARDVIEWS_QUEUE": " ", "HARDVIEWS_SECRETS": " , ", "HARDVIEWS_NAMESPACE": ""}) == {}
