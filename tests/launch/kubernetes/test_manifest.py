"""The manifests of jobs, compared with recorded ones, and their required properties."""

import json
import os
import re
from pathlib import Path

import pytest
import torchx.specs as specs
import yaml

from hardviews.launch.kubernetes.scheduler import create_scheduler
from hardviews.launch.kubernetes.status import described
from hardviews.launch.pod_options import PodOptions
from jobs.knn import knn
from jobs.pack import pack
from tests.launch.kubernetes.jobs import AFFINITY, job, manifest, pods

GOLDEN = Path(__file__).parents[2] / "golden" / "manifests"

RICH = {
    "j": "2:4x8",
    "cpu": 16,
    "gpu": 8,
    "memMB": 64000,
    "grace": 120,
    "secret": ["s3", "mlflow"],
    "mount": ["type=volume", "src=claim", "dst=/data"],
    "shm": 16000,
    "scratch": 100000,
    "toleration": ["nvidia.com/gpu:NoSchedule", "dedicated=vision:NoExecute"],
    "node_selector": {"gpu": "h100"},
    "priority": "high",
    "ttl": 3600,
    "env": {"AWS_REGION": "eu-west-1"},
}
SITE = {"image_pull_secrets": ["registry"], "service_account": "trainer", "run_as_user": 2000, "labels": {"team": "a"}}
FABRIC = {
    "j": "1:2x2",
    "gpu": 2,
    "spread": ["topology.kubernetes.io/zone", "kubernetes.io/hostname"],
    "affinity": str(AFFINITY),
    "devices": {"rdma/ib": "1"},
    "capabilities": ["IPC_LOCK"],
}
FABRIC_SITE = {
    "annotations": {"example.org/owner": "vision", "volcano.sh/task-priority": "1"},
    "gpu_resource": "nvidia.com/mig-1g.10gb",
    "runtime_class": "nvidia",
    "host_network": "true",
    "open_metrics": "true",
}


def normalised(made):
    """Without the name that TorchX draws anew for every submission."""
    return json.loads(json.dumps(made).replace(made["metadata"]["name"], "NAME"))


@pytest.mark.parametrize(
    ("name", "made"),
    [
        ("pretrain", lambda: manifest(job())),
        ("pretrain_rich", lambda: manifest(job("--training.epochs", "3", **RICH), **SITE)),
        ("pretrain_fabric", lambda: manifest(job(**FABRIC), **FABRIC_SITE)),
        ("knn", lambda: manifest(knn(image="i", data="s3://b/d", output="s3://b/o", tracking="http://m:5000"))),
        ("pack", lambda: manifest(pack(source="/images", image="i", data="s3://b/d", secret=["s3"]))),
    ],
)
def test_manifests_are_those_that_were_written_down(name, made):
    file = GOLDEN / f"{name}.yaml"
    found = yaml.safe_dump(normalised(made()))
    if os.environ.get("HARDVIEWS_WRITE_GOLDEN"):
        file.parent.mkdir(exist_ok=True)
        file.write_text(found)
    assert found == file.read_text()


def test_any_min_of_max_trainers_suffice_beside_the_coordinator():
    spec = manifest(job(j="2:5x1"))["spec"]
    coordinator, trainer = spec["tasks"]
    assert (coordinator["replicas"], coordinator["minAvailable"]) == (1, 1)
    assert (trainer["name"], trainer["replicas"], trainer["minAvailable"]) == ("trainer", 5, 2)
    assert spec["minAvailable"] == 3
    assert spec["maxRetry"] > 100  # 0 would become 3


def test_trainers_find_the_coordinator_by_the_variable_that_volcano_makes_of_its_task():
    spec = manifest(job())["spec"]
    command = pods({"spec": spec})[1]["containers"][0]["command"]
    variable = command[command.index("--host-variable") + 1]
    assert variable == f"VC_{spec['tasks'][0]['name'].replace('-', '_').upper()}_HOSTS"


def test_trainers_import_before_they_know_their_round():
    command = pods(manifest(job()))[1]["containers"][0]["command"]
    assert command[command.index("--prepare") + 1 : command.index("--") + 2] == [
        "hardviews.launch.preload",
        "--",
        "hardviews.cli",
    ]


def test_the_coordinator_decides_how_the_job_ends_and_a_trainer_never_does():
    coordinator, trainer = manifest(job())["spec"]["tasks"]
    assert [(p.get("exitCode", p.get("event")), p["action"]) for p in coordinator["policies"]] == [
        (3, "TerminateJob"),
        ("TaskCompleted", "CompleteJob"),
        ("PodFailed", "RestartJob"),
    ]
    assert coordinator["template"]["spec"]["restartPolicy"] == "Never"
    assert trainer["template"]["spec"]["restartPolicy"] == "OnFailure"
    assert {policy["action"] for policy in trainer.get("policies", [])} <= {"RestartPod"}
    labels = [task["template"]["metadata"]["labels"]["volcano.sh/preemptable"] for task in (coordinator, trainer)]
    assert labels == ["false", "true"]


@pytest.mark.parametrize(("nodes", "cores"), [("1:2", "50m"), ("1:20x8", "50m"), ("1:200x8", "500m")])
def test_the_coordinator_takes_little_room_and_gets_it_before_its_trainers(nodes, cores):
    coordinator, trainer = manifest(job(j=nodes, gpu=8 if "x8" in nodes else 0))["spec"]["tasks"]
    resources = coordinator["template"]["spec"]["containers"][0]["resources"]
    assert resources["requests"] == {"cpu": cores, "memory": "128M"}
    assert resources["limits"] == {"cpu": "1000m", "memory": "512M"}
    priority = "volcano.sh/task-priority"
    assert int(coordinator["template"]["metadata"]["annotations"][priority]) == 2**31 - 1
    assert priority not in trainer["template"]["metadata"]["annotations"]


def test_a_job_that_waits_has_no_pod_but_its_coordinator():
    app = knn(image="i", data="s3://b/d", output="s3://b/o", secret=["s3"], gpu=8, wait=600)
    spec = manifest(app)["spec"]
    coordinator, evaluation = spec["tasks"]
    assert evaluation["dependsOn"] == {"name": [coordinator["name"]]}
    assert spec["minAvailable"] == coordinator["minAvailable"] == 1  # else the coordinator would wait for the others
    container = coordinator["template"]["spec"]["containers"][0]
    probe = container["startupProbe"]
    assert probe["httpGet"] == {"path": "/status", "port": 29500}  # answered once it listens
    assert probe["failureThreshold"] * probe["periodSeconds"] >= 660
    assert "nvidia.com/gpu" not in container["resources"]["requests"]
    assert container["envFrom"] == [{"secretRef": {"name": "s3"}}]  # it looks into the store
    ready = manifest(knn(image="i", data="s3://b/d", output="s3://b/o", wait=0))["spec"]
    assert "dependsOn" not in ready["tasks"][1] and ready["minAvailable"] == 2


@pytest.mark.parametrize("app", [job(), pack(source="/i", image="i", data="s3://b/d")], ids=["pretrain", "pack"])
def test_pods_are_restricted_and_may_write_to_two_folders(app):
    for pod in pods(manifest(app)):
        container = pod["containers"][0]
        assert pod["securityContext"]["runAsNonRoot"]
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
            "readOnlyRootFilesystem": True,
        }
        assert pod["automountServiceAccountToken"] is False
        assert pod["enableServiceLinks"] is False
        assert {"/tmp", "/scratch", "/dev/shm"} <= {mount["mountPath"] for mount in container["volumeMounts"]}
        assert {"name": "HOME", "value": "/scratch"} in container["env"]
        assert container["terminationMessagePolicy"] == "FallbackToLogsOnError"


def test_what_is_asked_for_is_what_is_requested():
    pod = pods(manifest(job(cpu=4, memMB=8000, gpu=1)))[1]
    resources = pod["containers"][0]["resources"]
    assert resources["requests"] == resources["limits"] == {"cpu": "4000m", "memory": "8000M", "nvidia.com/gpu": "1"}
    shared = next(volume for volume in pod["volumes"] if volume["name"] == "dshm")
    assert shared["emptyDir"] == {"medium": "Memory", "sizeLimit": "4000M"}


def test_secrets_are_names_for_the_training_processes_alone():
    coordinator, trainer = pods(manifest(job(secret=["mine"]), secrets=["site"]))
    assert trainer["containers"][0]["envFrom"] == [{"secretRef": {"name": "site"}}, {"secretRef": {"name": "mine"}}]
    assert "envFrom" not in coordinator["containers"][0]


def test_working_pods_know_their_image_their_namespace_and_the_bound_of_their_cache():
    coordinator, trainer = pods(manifest(job(image="registry/x@sha256:1", scratch=1000)))
    variables = {entry["name"]: entry for entry in trainer["containers"][0]["env"]}
    assert variables["HARDVIEWS_IMAGE"]["value"] == "registry/x@sha256:1"
    assert variables["HARDVIEWS_NAMESPACE"]["valueFrom"] == {"fieldRef": {"fieldPath": "metadata.namespace"}}
    assert variables["HARDVIEWS_CACHE_BYTES"]["value"] == "950000000"
    assert "HARDVIEWS_IMAGE" not in {entry["name"] for entry in coordinator["containers"][0]["env"]}
    for changes in ({}, {"mount": ["type=volume", "src=c", "dst=/scratch"]}, {"env": {"HARDVIEWS_CACHE": "/x"}}):
        _, trainer = pods(manifest(job(**changes, **({"scratch": 1000} if changes else {}))))
        assert "HARDVIEWS_CACHE_BYTES" not in {entry["name"] for entry in trainer["containers"][0]["env"]}


def test_the_grace_period_leaves_time_beyond_the_save():
    assert pods(manifest(job(grace=100)))[1]["terminationGracePeriodSeconds"] >= 130


def test_jobs_of_others_keep_their_tasks_and_commands():
    roles = [specs.Role(name="main", image="i", entrypoint="sh", args=["-c", "x"], num_replicas=2, min_replicas=1)]
    made = manifest(specs.AppDef("other", roles))
    assert [task["name"] for task in made["spec"]["tasks"]] == ["main-0", "main-1"]
    assert [task["minAvailable"] for task in made["spec"]["tasks"]] == [1, 0]
    for pod in pods(made):
        assert pod["restartPolicy"] == "Never"
        assert "workingDir" not in pod["containers"][0]
        assert pod["containers"][0]["resources"] == {"requests": {}, "limits": {}}


def test_a_dry_run_is_a_function_of_the_job_and_the_options():
    first, second = (normalised(manifest(job(**RICH), **SITE)) for _ in range(2))
    assert first == second


def test_devices_capabilities_affinity_and_spread_are_for_the_pods_that_work():
    coordinator, trainer = pods(manifest(job(**FABRIC), **FABRIC_SITE))
    resources = trainer["containers"][0]["resources"]
    for amounts in resources.values():
        assert {amounts["rdma/ib"], amounts["nvidia.com/mig-1g.10gb"]} == {"1", "2"}
        assert "nvidia.com/gpu" not in amounts
    assert trainer["containers"][0]["securityContext"]["capabilities"] == {"drop": ["ALL"], "add": ["IPC_LOCK"]}
    assert trainer["affinity"] == yaml.safe_load(AFFINITY.read_text())
    assert [rule["topologyKey"] for rule in trainer["topologySpreadConstraints"]] == FABRIC["spread"]
    assert set(coordinator["containers"][0]["resources"]["limits"]) == {"cpu", "memory"}
    assert coordinator["containers"][0]["securityContext"]["capabilities"] == {"drop": ["ALL"]}
    assert not {"affinity", "topologySpreadConstraints"} & set(coordinator)


def test_pods_are_spread_among_those_of_their_own_role_and_job():
    made = manifest(job(**FABRIC))
    coordinator, trainer = (task["template"] for task in made["spec"]["tasks"])
    for rule in trainer["spec"]["topologySpreadConstraints"]:
        assert (rule["maxSkew"], rule["whenUnsatisfiable"]) == (1, "ScheduleAnyway")
        chosen = rule["labelSelector"]["matchLabels"].items()
        assert chosen <= trainer["metadata"]["labels"].items()
        assert not chosen <= coordinator["metadata"]["labels"].items()
        other = manifest(job(**FABRIC))["spec"]["tasks"][1]["template"]["metadata"]["labels"]
        assert not chosen <= other.items()


def test_annotations_runtime_and_network_are_for_all_pods_of_a_job():
    tasks = manifest(job(**FABRIC), **FABRIC_SITE)["spec"]["tasks"]
    for task in tasks:
        pod = task["template"]["spec"]
        assert task["template"]["metadata"]["annotations"]["example.org/owner"] == "vision"
        assert pod["runtimeClassName"] == "nvidia"
        assert (pod["hostNetwork"], pod["dnsPolicy"]) == (True, "ClusterFirstWithHostNet")
    priorities = [task["template"]["metadata"]["annotations"]["volcano.sh/task-priority"] for task in tasks]
    assert priorities == ["2147483647", "1"]  # the coordinator comes first, whatever the site says


def test_trainers_on_one_node_of_a_shared_network_have_names_of_their_own():
    for shared, expected in ((True, {"fieldRef": {"fieldPath": "metadata.name"}}), (False, None)):
        _, trainer = pods(manifest(job(), host_network=str(shared)))
        found = {entry["name"]: entry.get("valueFrom") for entry in trainer["containers"][0]["env"]}
        assert found.get("HARDVIEWS_NODE") == expected
        assert ("hostNetwork" in trainer) is shared


def test_metrics_are_open_to_other_pods_only_if_the_site_says_so():
    assert manifest(job())["spec"]["plugins"]["svc"] == ["--publish-not-ready-addresses"]
    opened = manifest(job(), open_metrics="true")["spec"]["plugins"]["svc"]
    assert opened == ["--publish-not-ready-addresses", "--disable-network-policy"]


@pytest.mark.parametrize("resource", [None, "amd.com/gpu", "gpu.intel.com/i915", "nvidia.com/mig-1g.10gb"])
def test_gpus_of_every_name_are_counted_in_the_description_of_a_job(resource):
    made = manifest(job(j="1:2x2", gpu=2), **({"gpu_resource": resource} if resource else {}))
    assert [role.resource.gpu for role in described(made)] == [0, 2]
    limits = made["spec"]["tasks"][1]["template"]["spec"]["containers"][0]["resources"]["limits"]
    assert limits[resource or "nvidia.com/gpu"] == "2"


def test_options_of_the_site_are_read_from_the_command_line():
    text = (
        "annotations=example.org/owner:vision,example.org/n:1,spread=topology.kubernetes.io/zone;kubernetes.io/hostname,"
        "devices=rdma/ib:1,capabilities=IPC_LOCK,gpu_resource=amd.com/gpu,runtime_class=nvidia,host_network=true,"
        f"open_metrics=true,affinity={AFFINITY}"
    )
    given = create_scheduler("test").run_opts().cfg_from_str(text)
    assert PodOptions.of_site(given) == PodOptions(
        annotations={"example.org/owner": "vision", "example.org/n": "1"},
        spread=("topology.kubernetes.io/zone", "kubernetes.io/hostname"),
        devices={"rdma/ib": "1"},
        capabilities=("IPC_LOCK",),
        gpu_resource="amd.com/gpu",
        runtime_class="nvidia",
        host_network=True,
        affinity=str(AFFINITY),
    )
    spec = manifest(job(), **given)["spec"]
    assert "--disable-network-policy" in spec["plugins"]["svc"]
    assert all(pod["hostNetwork"] for pod in pods({"spec": spec}))
    closed = create_scheduler("test").run_opts().cfg_from_str("host_network=False,open_metrics=false")
    assert manifest(job(), **closed)["spec"]["plugins"]["svc"] == ["--publish-not-ready-addresses"]
    assert PodOptions.of_site(closed).host_network is False


def test_the_objects_of_the_docs_find_coordinators_alone():
    page = (Path(__file__).parents[3] / "docs" / "cluster.md").read_text()
    monitor, policy = (yaml.safe_load(text) for text in re.findall(r"```text\n(apiVersion:.*?)```", page, re.DOTALL))
    coordinator, trainer = (task["template"] for task in manifest(job())["spec"]["tasks"])
    for chosen in (monitor["spec"]["selector"]["matchLabels"], policy["spec"]["podSelector"]["matchLabels"]):
        assert chosen.items() <= coordinator["metadata"]["labels"].items()
        assert not chosen.items() <= trainer["metadata"]["labels"].items()
    assert {*monitor["spec"]["podTargetLabels"]} <= {*coordinator["metadata"]["labels"]}
    (port,) = coordinator["spec"]["containers"][0]["ports"]
    assert monitor["spec"]["podMetricsEndpoints"] == [{"port": port["name"], "path": "/metrics"}]
    assert policy["spec"]["ingress"][0]["ports"] == [{"protocol": "TCP", "port": port["containerPort"]}]
