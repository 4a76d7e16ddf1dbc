"""A job for Volcano: a pure function of TorchX's manifest, the application and the options.

TorchX's names, labels, commands and mounts are kept. Elastic jobs need some changes: trainers are one task of which any
`min` pods suffice, pods are restricted, and each failure has its consequence. docs/cluster.md has the reasons from a
user's side.
"""

from collections.abc import Mapping
from typing import Any

from torchx.schedulers.kubernetes_scheduler import (
    LABEL_REPLICA_ID,
    LABEL_ROLE_INDEX,
    LABEL_ROLE_NAME,
    LABEL_UNIQUE_NAME,
)
from torchx.specs import AppDef, Resource, Role

from hardviews.elastic.address import NODE_VARIABLE
from hardviews.launch import affinity
from hardviews.launch.component import AGENT, GATE, HEADS, PORT, module
from hardviews.launch.pod_options import GPU, PodOptions
from hardviews.launch.site import IMAGE, NAMESPACE
from hardviews.launch.toleration import toleration
from hardviews.storage.url import cache_room

SCRATCH = "/scratch"
"""The folder that processes may write to, besides /tmp: home, cache, working directory."""

USER = 10001
RESTARTS = 1000  # most restarts of the whole job, each after a crash of the coordinator; 0 would become 3
TRIES = 3  # attempts of a job without a coordinator
FAILED_FOR_GOOD = 3  # exit code of the coordinator
MISTAKE = 2  # exit code of every process that ends by a user's mistake
ANSWER = 30  # seconds after the grace period until a process is killed

GPU_RESOURCE = "hardviews/gpu-resource"
"""Annotation of pods: the name under which nodes offer their GPUs, if it is not NVIDIA's."""

_PREEMPTABLE = "volcano.sh/preemptable"
_PRIORITY = "volcano.sh/task-priority"  # priority among the pods of one job; it needs no PriorityClass

SERVICE: Mapping[str, Any] = {
    "apiVersion": "v1",
    "kind": "Service",
    "metadata": {"name": "hardviews-jobs"},
    "spec": {
        "clusterIP": "None",
        "publishNotReadyAddresses": True,
        "selector": {"app.kubernetes.io/managed-by": "torchx.pytorch.org"},
        "ports": [{"name": "rendezvous", "port": PORT}],
    },
}
"""Service that gives the pods of all jobs in a namespace their names.

Volcano makes a Service for every job, but deletes it when it restarts a pod or the job after a policy's timeout.
Version 1.14 does not make it again, and pods that start later would never find the coordinator.
"""

_COORDINATOR_LIMIT = 512  # MB; it requests far less

_PROBE: Mapping[str, Any] = {
    "httpGet": {"path": "/status", "port": PORT},
    "initialDelaySeconds": 60,
    "periodSeconds": 15,
    "timeoutSeconds": 10,
    "failureThreshold": 12,
}
"""Probe that ends a coordinator that hangs: training goes on without it, but no trainer can join or be replaced.

It gets three minutes, because its end restarts the job, while a busy node or a slow network recovers by itself.
"""

_LOOK = 5  # seconds between two looks whether a coordinator that is held back listens
_LATE = 60  # seconds after its wait in which it must begin to listen

# A pod that is deleted, drained or preempted fails before it goes, and its replacement runs a moment later. Then the
# action is cancelled. The action is for pods that stay failed, which Volcano would never replace. It is also for a
# coordinator whose node is gone and which finds no room, for example because trainers of this job fill the other nodes.
# A restarted job gets its least number of pods placed together, the coordinator first. With PodEvicted, the event of a
# deletion, Volcano would not replace a deleted coordinator until the time is over.
_PATIENCE = "60s"
_COORDINATOR_POLICIES = [
    {"exitCode": FAILED_FOR_GOOD, "action": "TerminateJob"},
    {"event": "TaskCompleted", "action": "CompleteJob"},
    {"event": "PodFailed", "action": "RestartJob", "timeout": _PATIENCE},
]
# The kubelet restarts containers; this is for a trainer that its node has evicted for lack of memory or disk.
_TRAINER_POLICIES = [{"event": "PodFailed", "action": "RestartPod", "timeout": _PATIENCE}]
_SINGLE_POLICIES = [
    {"exitCode": MISTAKE, "action": "TerminateJob"},
    {"event": "TaskCompleted", "action": "CompleteJob"},
    {"event": "PodFailed", "action": "RestartJob"},
]


def refine(manifest: Mapping[str, Any], app: AppDef, site: PodOptions, open_metrics: bool = False) -> dict[str, Any]:
    """Make the job out of TorchX's manifest.

    Args:
        manifest: as `KubernetesScheduler` builds it, serialised (plain dictionaries and lists); it is not changed.
        app: application that was submitted.
        site: the scheduler's run options; the options in a role's metadata are added to them.
        open_metrics: whether pods of other jobs reach the coordinator, as Prometheus does to read its metrics.

    Raises:
        UserError: the file of an affinity cannot be read.
    """
    spec = dict(manifest["spec"])
    held = any(module(role) == GATE for role in app.roles)
    options = [PodOptions.of_role(role).over(site) for role in app.roles]
    tasks: list[dict[str, Any]] = []
    merged: set[int] = set()
    for task in spec["tasks"]:
        index = int(task["template"]["metadata"]["labels"][LABEL_ROLE_INDEX])
        role, part = app.roles[index], module(app.roles[index])
        if index in merged:
            continue
        task = dict(task)
        if part == AGENT:
            merged.add(index)
            task |= {"name": role.name, "replicas": role.num_replicas, "minAvailable": role.min_replicas}
            task["policies"] = _TRAINER_POLICIES
            if held:
                # Volcano makes its pods once the coordinator is ready, so once the awaited things exist.
                task["dependsOn"] = {"name": [tasks[0]["name"]]}
        elif part is not None and len(app.roles) == 1:
            task["policies"] = _SINGLE_POLICIES
        elif part in HEADS:
            task["policies"] = _COORDINATOR_POLICIES
        task.setdefault("minAvailable", task["replicas"])
        task["template"] = _template(task["template"], task["name"], role, part, options[index])
        tasks.append(task)
    spec["tasks"] = tasks
    if open_metrics:
        plugins = spec["plugins"]
        spec["plugins"] = {**plugins, "svc": [*plugins["svc"], "--disable-network-policy"]}
    # The coordinator would not be placed if the pods of its gang do not exist yet.
    spec["minAvailable"] = 1 if held else sum(task["minAvailable"] for task in tasks)
    if any(module(role) in HEADS for role in app.roles):
        spec["maxRetry"] = RESTARTS
    elif len(app.roles) == 1 and module(app.roles[0]) is not None:
        spec["maxRetry"] = TRIES
    whole = options[-1]  # a job's own settings are in its working role, the last one
    if whole.ttl is not None:
        spec["ttlSecondsAfterFinished"] = whole.ttl
    if whole.priority_class is not None:
        spec["priorityClassName"] = whole.priority_class
    labels = {
        key: value
        for key, value in tasks[0]["template"]["metadata"]["labels"].items()
        if key.startswith("app.kubernetes.io/") or key in whole.labels
    }
    return {**manifest, "metadata": {**manifest["metadata"], "labels": labels}, "spec": spec}


def _template(
    template: Mapping[str, Any], name: str, role: Role, part: str | None, options: PodOptions
) -> dict[str, Any]:
    metadata = dict(template["metadata"])
    labels = dict(metadata["labels"]) | dict(options.labels)
    if part == AGENT:
        del labels[LABEL_REPLICA_ID]  # the pods of one task differ only in their names
    if part is not None:
        labels[_PREEMPTABLE] = "false" if part in HEADS else "true"
    metadata["labels"] = labels
    ours = {GPU_RESOURCE: options.gpus} if role.resource.gpu > 0 and options.gpus != GPU else {}
    if part in HEADS:
        # Volcano's default for a pod is its PriorityClass, else 1. So the coordinator is the first waiting pod to be
        # placed.
        ours[_PRIORITY] = "2147483647"
    if options.annotations or ours:
        metadata["annotations"] = {**(metadata.get("annotations") or {}), **options.annotations, **ours}

    spec = dict(template["spec"])
    container = dict(spec["containers"][0], name=name)
    mounted = {mount["mountPath"] for mount in container["volumeMounts"]}
    volumes, mounts = list(spec["volumes"]), list(container["volumeMounts"])
    for volume, path in (("tmp", "/tmp"), ("scratch", SCRATCH)):
        if path not in mounted:
            limit = {"sizeLimit": f"{options.scratch}M"} if volume == "scratch" and options.scratch else {}
            volumes.append({"name": volume, "emptyDir": limit})
            mounts.append({"name": volume, "mountPath": path})
    half = int(role.resource.memMB) // 2 if role.resource.memMB > 1 else 64
    shared = half if options.shm is None or part in HEADS else options.shm
    volumes[0] = {"name": volumes[0]["name"], "emptyDir": {"medium": "Memory", "sizeLimit": f"{shared}M"}}

    added = () if part in HEADS else options.capabilities
    container |= {
        "volumeMounts": mounts,
        "resources": _resources(role.resource, options, head=part in HEADS),
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"], **({"add": list(added)} if added else {})},
            "readOnlyRootFilesystem": True,
        },
    }
    if part in HEADS:
        container["livenessProbe"] = dict(_PROBE)
    if part == GATE:
        container["startupProbe"] = _startup(role)
    said = {variable["name"] for variable in container["env"]}
    places = {"HOME": SCRATCH, "HARDVIEWS_CACHE": f"{SCRATCH}/cache"}
    container["env"] = [
        *container["env"],
        *({"name": key, "value": value} for key, value in places.items() if key not in said),
    ]
    if part not in (None, *HEADS):
        # For the tags of the run: a pod has no other source for its image, and TorchX's name of the job has no
        # namespace.
        namespace = {"name": NAMESPACE, "valueFrom": {"fieldRef": {"fieldPath": "metadata.namespace"}}}
        image = {"name": IMAGE.variable, "value": role.image}
        bound = {"name": "HARDVIEWS_CACHE_BYTES", "value": str(cache_room((options.scratch or 0) * 10**6))}
        container["env"] += [entry for entry in (image, namespace) if entry["name"] not in said]
        if cache_disk(role, options) is not None and bound["name"] not in said:
            container["env"].append(bound)
    if options.host_network is True and part == AGENT:
        # A pod then has the host name of its node, so the coordinator could not distinguish two trainers of a node.
        container["env"].append({"name": NODE_VARIABLE, "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}})
    if part is not None:
        container["workingDir"] = SCRATCH
    if options.image_pull_policy is not None:
        container["imagePullPolicy"] = options.image_pull_policy
    if options.secrets and (part not in HEADS or part == GATE):
        container["envFrom"] = [{"secretRef": {"name": secret}} for secret in options.secrets]

    user = options.run_as_user or USER
    spec |= {
        "containers": [container],
        "volumes": volumes,
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": user,
            "runAsGroup": user,
            "fsGroup": user,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "nodeSelector": {**spec.get("nodeSelector", {}), **options.node_selector},
    }
    if part in (AGENT, *HEADS):
        spec["subdomain"] = SERVICE["metadata"]["name"]
    if part == AGENT:
        spec["restartPolicy"] = "OnFailure"
    if options.grace is not None and part not in HEADS:
        spec["terminationGracePeriodSeconds"] = options.grace + ANSWER
    if options.tolerations:
        spec["tolerations"] = [read for text in options.tolerations if (read := toleration(text))]
    if options.image_pull_secrets:
        spec["imagePullSecrets"] = [{"name": secret} for secret in options.image_pull_secrets]
    if options.service_account is not None:
        spec["serviceAccountName"] = options.service_account
    if options.runtime_class is not None:
        spec["runtimeClassName"] = options.runtime_class
    if options.host_network is True:
        spec |= {"hostNetwork": True, "dnsPolicy": "ClusterFirstWithHostNet"}
    if part not in HEADS:
        spec |= _placement(options, labels)
    return {**template, "metadata": metadata, "spec": spec}


def _placement(options: PodOptions, labels: Mapping[str, str]) -> dict[str, Any]:
    """Return the placement of working pods; the coordinator is small, and may use any node."""
    found: dict[str, Any] = {}
    if options.affinity:
        found["affinity"] = affinity.read(options.affinity)
    if options.spread:
        own = {key: labels[key] for key in (LABEL_UNIQUE_NAME, LABEL_ROLE_NAME)}
        found["topologySpreadConstraints"] = [
            {
                "maxSkew": 1,
                "topologyKey": key,
                "whenUnsatisfiable": "ScheduleAnyway",
                "labelSelector": {"matchLabels": own},
            }
            for key in options.spread
        ]
    return found


def _startup(role: Role) -> dict[str, Any]:
    """Return the probe of a coordinator that is held back: readiness and liveness begin once it listens."""
    seconds = int(role.args[role.args.index("--wait") + 1])
    look = {"httpGet": dict(_PROBE["httpGet"]), "periodSeconds": _LOOK, "timeoutSeconds": _PROBE["timeoutSeconds"]}
    return {**look, "failureThreshold": -(-(seconds + _LATE) // _LOOK)}


def cache_disk(role: Role, options: PodOptions) -> int | None:
    """Return the size in MB of the local disk if the cache of shards lies there; None without a limit."""
    mounted = any(mount.dst_path == SCRATCH for mount in role.mounts)
    return None if mounted or "HARDVIEWS_CACHE" in role.env else options.scratch


def _resources(resource: Resource, options: PodOptions, head: bool) -> dict[str, dict[str, str]]:
    """Return requests that equal the resource: TorchX's own requests are 100m and 1 GB lower, down to nothing.

    A process that requests a part of a core may use a whole free one, to start quickly. A component without resources
    gets the defaults of the namespace. A coordinator's limit of memory is above its request, and it has no devices.
    """
    requests: dict[str, str] = {}
    limits: dict[str, str] = {}
    if resource.cpu > 0:
        requests["cpu"] = f"{round(resource.cpu * 1000)}m"
        limits["cpu"] = f"{max(1000, round(resource.cpu * 1000))}m"
    exact = {"memory": f"{int(resource.memMB)}M"} if resource.memMB > 0 else {}
    exact |= {options.gpus: str(resource.gpu)} if resource.gpu > 0 else {}
    exact |= {device: str(count) for device, count in resource.devices.items()}
    exact |= {} if head else {device: str(count) for device, count in options.devices.items()}
    limits |= exact
    if head and _COORDINATOR_LIMIT > resource.memMB > 0:
        limits["memory"] = f"{_COORDINATOR_LIMIT}M"
    return {"requests": requests | exact, "limits": limits}
