"""Jobs that an upgrade starts, keeps and ends: a job is named by a digest of its spec."""

import re

import pytest

from tests.charts.rendering import JOBS, REQUIRED, SITE, ci, job, objects, of_kind

ALL = {**SITE, **{name: {"enabled": True, **REQUIRED.get(name, {})} for name in JOBS}}


def names(values):
    """Names of jobs by component."""
    found = of_kind("Job", values)
    return {made["metadata"]["labels"]["app.kubernetes.io/component"]: made["metadata"]["name"] for made in found}


def changed(values):
    before, after = names(ALL), names({**ALL, **values})
    assert before.keys() == after.keys()
    return {name for name in before if before[name] != after[name]}


@pytest.mark.parametrize(
    ("values", "others"),
    [
        ({"image": "registry/hardviews:2"}, set(JOBS)),
        ({"data": "s3://b/other"}, set(JOBS)),
        ({"output": "s3://b/other"}, set(JOBS) - {"pack", "classify"}),
        ({"finetune": {"enabled": True, "output": "s3://b/other"}}, {"finetune", "classify"}),
        ({"finetune": {**ALL["finetune"], "args": ["--labels", "1%"]}}, {"finetune"}),
        ({"tracking": "http://other:5000"}, set(JOBS) - {"pack"}),
        ({"queue": "other"}, set(JOBS)),
        ({"secrets": ["store"]}, set(JOBS)),
        ({"pod": {"nodeSelector": {"a": "b"}}}, set(JOBS)),
        ({"pretrain": {"enabled": True, "j": "1:4x1"}}, {"pretrain"}),
        ({"pretrain": {"enabled": True, "args": ["--training.epochs", "9"]}}, {"pretrain"}),
        ({"knn": {"enabled": True, "memMB": 8192}}, {"knn"}),
        ({"linear": {"enabled": True, "round": "2"}}, {"linear"}),
        ({"pack": {"enabled": True, "source": "photographs"}}, {"pack"}),
        ({"commonLabels": {"team": "vision"}}, set(JOBS)),
        ({"commonAnnotations": {"note": "x"}}, set()),
        ({"keep": True}, set()),
        ({"coordinatorBudget": True}, set()),
        ({"rbac": {"create": True}}, set()),
        ({"networkPolicy": {"enabled": True, "egress": [{"ports": [{"port": 443}]}]}}, set()),
    ],
)
def test_an_upgrade_starts_the_jobs_that_it_concerns_and_no_other(values, others):
    assert changed(values) == others


def test_a_rollback_has_the_names_of_before():
    assert names(ALL) == names(dict(reversed(ALL.items())))
    assert all(re.fullmatch(rf"demo-hardviews-{name}-[0-9a-f]{{10}}", text) for name, text in names(ALL).items())


def test_each_release_has_jobs_of_its_own():
    one = {made["metadata"]["name"] for made in objects(ALL, "one")}
    assert one & {made["metadata"]["name"] for made in objects(ALL, "two")} == set()


def test_the_processes_know_their_job_by_its_name():
    made = job("pretrain", {})
    command = made["spec"]["tasks"][1]["template"]["spec"]["containers"][0]["command"]
    assert command[command.index("--job") + 1] == made["metadata"]["name"]


def test_a_new_version_of_the_chart_alone_starts_nothing():
    """No job's spec has the chart's version in it: Kubernetes refuses a change of it."""
    for made in of_kind("Job", ALL):
        assert "helm.sh/chart" in made["metadata"]["labels"]
        assert "helm.sh/chart" not in str(made["spec"])
        assert "app.kubernetes.io/version" not in str(made["spec"])


@pytest.mark.parametrize("keep", [True, False])
def test_jobs_are_kept_if_that_is_wanted_and_the_service_that_names_their_pods(keep):
    values = {**ALL, "keep": keep}
    for made in [*of_kind("Job", values), *of_kind("Service", values)]:
        assert (made["metadata"]["annotations"].get("helm.sh/resource-policy") == "keep") is keep


def test_a_schedule_replaces_the_job():
    values = {**ALL, "knn": {"enabled": True, "schedule": "0 * * * *", "gpu": 1, "args": ["--neighbours", "5"]}}
    assert "knn" not in names(values)
    (made,) = of_kind("CronJob", values)
    assert made["metadata"]["name"] == "demo-hardviews-knn"  # its spec may change
    pod = made["spec"]["jobTemplate"]["spec"]["template"]["spec"]
    command = pod["containers"][0]["command"]
    assert command[:4] == ["python", "-m", "hardviews.cli", "knn"]
    assert command[command.index("--checkpoint") + 1] == "newest"
    assert command[command.index("--wait") + 1] == "0"  # a pod that waits would hold its GPU
    assert pod["schedulerName"] == "volcano"
    assert pod["restartPolicy"] == "Never"
    assert made["spec"]["concurrencyPolicy"] == "Forbid"


def test_waves_for_argo_put_what_jobs_need_before_them():
    def wave(made):
        return int(made["metadata"].get("annotations", {}).get("argocd.argoproj.io/sync-wave", 0))

    made = objects(ci("kind")) + objects(ci("site")) + objects(ci("options"))
    waves = {kind: {wave(each) for each in made if each["kind"] == kind} for kind in {each["kind"] for each in made}}
    assert waves["Queue"] == {-1}
    assert waves["Job"] == waves["CronJob"] == {2}
    assert max(max(found) for kind, found in waves.items() if kind not in ("Job", "CronJob")) < 2


def test_the_coordinators_budget_finds_its_pod_by_volcanos_labels():
    values = {**ALL, "coordinatorBudget": True}
    budgets = of_kind("PodDisruptionBudget", values)
    assert {made["metadata"]["name"] for made in budgets} == set(names(values).values()) - {names(values)["pack"]}
    for made in budgets:
        assert made["spec"]["minAvailable"] == 1
        labels = made["spec"]["selector"]["matchLabels"]
        assert labels["volcano.sh/job-name"] == made["metadata"]["name"]
        (task,) = [
            task
            for each in of_kind("Job", values)
            if each["metadata"]["name"] == made["metadata"]["name"]
            for task in each["spec"]["tasks"]
            if task["name"] == labels["volcano.sh/task-spec"]
        ]
        assert "hardviews.elastic.coordinator" in str(task) or "hardviews.launch.gate" in str(task)


def test_nothing_is_left_to_volcano_s_defaults():
    """Volcano's webhook adds missing fields, Helm would remove them again, and Volcano refuses the change."""
    for made in of_kind("Job", ALL):
        assert {"maxRetry", "minAvailable", "queue", "schedulerName"} <= made["spec"].keys()
        for task in made["spec"]["tasks"]:
            assert {"name", "replicas", "minAvailable", "maxRetry"} <= task.keys()
