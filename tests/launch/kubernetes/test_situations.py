"""Every sentence of `torchx status`, against the state of a cluster in which it is true."""

import pytest
from torchx.specs import AppState, ReplicaState

from hardviews.launch.kubernetes.cluster import Silent
from tests.launch.kubernetes.clusters import refusal
from tests.launch.kubernetes.jobs import AFFINITY
from tests.launch.kubernetes.situations import IMAGE, Situation, ago

GANG = "pod group is not ready, 3 Pending, 2 minAvailable; Pending: 3 Unschedulable"
TRAINS = "standing: 2 nodes with 2 processes run; 0 waits, 1 needed; step 165, 1 s ago"
NOTHING = "standing: nothing trains; 1 waits, 2 needed; step 165, 40 s ago"


def training(**job) -> Situation:
    """A job that trains: a coordinator on node-a, trainers on node-b and node-c."""
    made = Situation("Running", **{"j": "1:2"} | job)
    made.pod("coordinator-0-0", node="node-a")
    made.pod("trainer-0", node="node-b")
    made.pod("trainer-1", node="node-c")
    made.log("coordinator-0-0", (3, TRAINS))
    return made


# Before it runs: the queue, room, images, volumes


def pulling() -> Situation:
    """The queue has 2.5 cores, the job asks for one to three trainers, and the image is on its way."""
    made = Situation("Pending", j="1:3", cpu=1, memMB=2500)
    for name in ("coordinator-0-0", "trainer-0", "trainer-1"):
        made.pod(name, "Pending", "node-a", waiting={"reason": "ContainerCreating"})
        made.event(name, "Scheduled", f"Successfully assigned n/{name} to node-a", 100, "Normal")
        made.event(name, "Pulling", f'Pulling image "{IMAGE}"', 95, "Normal")
    made.unplaced("trainer-2", "all nodes are unavailable")
    made.queue = {"spec": {"capability": {"cpu": "2.5"}}, "status": {"state": "Open", "allocated": {"cpu": "2050m"}}}
    return made


def test_an_image_on_its_way_comes_before_trainers_that_wait_for_the_queue():
    answer = pulling().describe()
    assert answer.state == AppState.PENDING
    assert answer.msg == (
        f"coordinator/0, trainer/0 and trainer/1 wait for the image {IMAGE}, which is being pulled on node-a for 95 s. "
        "No room yet for trainer/2, which the job can do without: the queue default allows 2.5 of cpu in all, 2.05 are "
        "in use, and 1 more are asked for."
    )


def test_an_image_that_was_pulled_is_not_waited_for():
    made = pulling()
    for name in ("coordinator-0-0", "trainer-0", "trainer-1"):
        made.event(name, "Pulled", f'Successfully pulled image "{IMAGE}" in 90s', 2, "Normal")
    assert "coordinator/0, trainer/0 and trainer/1 are being started on node-a for 2 min." in made.message
    assert "wait for the image" not in made.message


def test_pulls_of_a_pod_that_was_replaced_are_no_news():
    made = Situation("Pending")
    made.pod("coordinator-0-0", "Pending", waiting={"reason": "ContainerCreating"})
    made.event("coordinator-0-0", "Pulling", f'Pulling image "{IMAGE}"', 5, "Normal")
    made.events[-1]["involvedObject"]["uid"] = "another"
    assert made.message.startswith("coordinator/0 is being started on node-a")


def test_without_the_right_to_read_events_pods_are_still_known_to_start():
    made = pulling()
    made.forbidden = {"events"}
    assert made.message.startswith("coordinator/0, trainer/0 and trainer/1 are being started on node-a for 2 min.")


def waiting(*reasons: str, **job) -> Situation:
    made = Situation("Pending", **job)
    made.node("node-a", cpu="64")
    for name in ("coordinator-0-0", "trainer-0", "trainer-1"):
        made.unplaced(name, GANG)
    for reason in reasons:
        made.pods[1]["status"]["conditions"][0]["message"] = reason
    return made


@pytest.mark.parametrize(
    ("reason", "job", "helps"),
    [
        (
            "0/3 nodes are unavailable: 3 node(s) had untolerated taint {nvidia.com/gpu: present}.",
            {},
            "--toleration nvidia.com/gpu lets the pods onto nodes with that taint.",
        ),
        (
            "0/3 nodes are unavailable: 3 node(s) didn't match Pod's node affinity/selector.",
            {"node_selector": {"gpu": "h100"}},
            "`kubectl get nodes -l gpu=h100` shows the nodes that have what --node_selector asks for.",
        ),
        (
            "0/3 nodes are unavailable: 3 node(s) were unschedulable.",
            {},
            "Cordoned nodes take no pods: `kubectl uncordon NODE`.",
        ),
        (
            "0/3 nodes are unavailable: 3 node(s) had untolerated taint {node.kubernetes.io/unreachable: }.",
            {},
            "Nodes are not ready: `kubectl get nodes`.",
        ),
        (
            "0/3 nodes are unavailable: 3 node(s) had untolerated taint {node.kubernetes.io/disk-pressure: }.",
            {},
            "Nodes are short of memory or disk: `kubectl describe nodes`.",
        ),
        (
            "0/3 nodes are unavailable: pod has unbound immediate PersistentVolumeClaims.",
            {"mount": ["type=volume", "src=claim", "dst=/d"]},
            "`kubectl describe pvc claim` shows why the volume is not bound.",
        ),
        (
            "0/3 nodes are unavailable: 3 node(s) didn't match pod anti-affinity rules.",
            {"affinity": str(AFFINITY)},
            "The pods have the affinity of --affinity, which admits fewer nodes: see its rules.",
        ),
        ("0/3 nodes are unavailable: 3 node(s) didn't match pod anti-affinity rules.", {}, ""),
        ("0/3 nodes are unavailable: 2 Insufficient cpu, 1 node(s) pod number exceeded.", {}, ""),
    ],
)
def test_the_schedulers_reasons_have_their_remedies(reason, job, helps):
    made = waiting(reason, **job)
    expected = (
        "The job waits for room for 2 pods at once; no node yet for coordinator/0, trainer/0, trainer/1: "
        f"{reason}{' ' + helps if helps else ''}"
    )
    assert made.message == expected


def test_taints_that_the_scheduler_does_not_name_are_read_from_the_nodes():
    made = waiting(
        "0/3 nodes are unavailable: 3 node(s) had untolerated taint(s).", toleration=["dedicated=x:NoSchedule"]
    )
    made.nodes["node-a"]["spec"]["taints"] = [
        {"key": "dedicated", "value": "x", "effect": "NoSchedule"},
        {"key": "nvidia.com/gpu", "effect": "NoSchedule"},
        {"key": "node.kubernetes.io/unschedulable", "effect": "NoSchedule"},
        {"key": "busy", "effect": "PreferNoSchedule"},
    ]
    assert made.message.endswith(
        "untolerated taint(s). --toleration nvidia.com/gpu lets the pods onto nodes with that taint. Cordoned nodes "
        "take no pods: `kubectl uncordon NODE`."
    )


def test_the_reason_is_found_in_the_words_on_the_gang():
    made = waiting()
    origin = "0/3 nodes are unavailable: 3 Insufficient nvidia.com/gpu."
    made.pods[0]["status"]["conditions"][0]["message"] = f"{GANG}. Origin reason is pretrain-x-trainer-0: {origin}"
    assert made.message.endswith(f"trainer/1: {origin}")
    made = waiting()
    made.group = {"status": {"conditions": [{"type": "Unschedulable", "status": "True", "message": f"x: {origin}"}]}}
    assert made.message.endswith(f"trainer/1: {origin}")


@pytest.mark.parametrize("noise", [GANG, "all nodes are unavailable", "Task x with role spec y has already predicated"])
def test_what_says_nothing_is_not_passed_on(noise):
    made = waiting(noise)
    for pod in made.pods:
        pod["status"]["conditions"][0]["message"] = noise
    assert made.message.endswith(
        "the scheduler has found no node with 2000m of cpu, 4096M of memory free (trainer/1 asks for that)."
    )


def test_rights_that_would_tell_more_are_named():
    made = waiting()
    made.forbidden = {"nodes", "queues"}
    assert made.message.endswith("The right to read queues and nodes would show more.")


def test_room_that_preemption_makes_is_waited_for():
    made = waiting(
        "Pod n/x can possibly be assigned to node-b, once resource is released and minAvailable is satisfied"
    )
    made.pods.pop(0)
    assert "trainer/0 gets a place on node-b once pods that leave it are gone." in made.message


def test_a_queue_that_can_never_hold_the_job_is_named():
    made = waiting()
    made.queue = {"spec": {"capability": {"memory": "1G"}}, "status": {"allocated": {"memory": "0"}}}
    assert (
        "the queue default allows 1000 MB of memory in all, 0 MB are in use, and 4224 MB more are asked for. It never "
        "fits: ask for less, or have the queue's capability raised." in made.message
    )


def test_a_closed_queue_is_named():
    made = waiting()
    made.queue = {"spec": {}, "status": {"state": "Closed"}}
    closed = "the queue default is Closed, and starts nothing. Have it opened, or submit again with -cfg queue=NAME."
    assert made.message.endswith(closed)
    made.pods = []
    assert made.message == f"The job waits: {closed}"


@pytest.mark.parametrize(
    ("said", "meaning"),
    [
        ("resource in cluster is overused", "the cluster has no room for it (resource in cluster is overused)."),
        (
            "queue resource quota insufficient: insufficient cpu",
            "the queue's limit is reached (queue resource quota insufficient: insufficient cpu).",
        ),
    ],
)
def test_a_job_that_is_not_admitted_says_why(said, meaning):
    made = Situation("Pending")
    made.event("u", "Unschedulable", said, kind="Normal")
    assert made.message == f"The job waits in the queue default: {meaning}"


def test_a_job_that_waits_for_its_turn_and_one_that_nobody_has_looked_at():
    assert Situation("Pending").message == "The job waits in the queue default for its turn."
    answer = Situation(None).describe()
    assert answer.state == AppState.SUBMITTED
    assert answer.msg.startswith("Volcano has not looked at the job yet. If this lasts, its controller does not run")


QUOTA = (
    'Error creating pods: [failed to create pod pretrain-x-trainer-1, err: &errors.StatusError{Message:"pods '
    '\\"pretrain-x-trainer-1\\" is forbidden: exceeded quota: small, requested: requests.cpu=2"}]'
)


@pytest.mark.parametrize("phase", ["Pending", "Running"])
def test_pods_that_a_quota_refuses(phase):
    made = Situation(phase)
    made.pod("coordinator-0-0")
    made.pod("trainer-0")
    made.event("", "FailedCreate", QUOTA)
    assert made.message.startswith(
        'The cluster refuses the job\'s pods: pods "pretrain-x-trainer-1" is forbidden: exceeded quota: small'
    )
    made.pod("trainer-1")
    assert "refuses" not in made.message  # all pods are there: it is over


def test_a_container_whose_secret_lacks_a_key():
    made = Situation("Pending")
    why = "couldn't find key AWS_REGION in Secret n/s3"
    made.pod("trainer-0", "Pending", waiting={"reason": "CreateContainerConfigError", "message": why})
    assert made.message.startswith(
        f"trainer/0 cannot start: {why}. Create it, or add the key; the pod then starts by itself."
    )
    made = Situation("Pending")
    why = "container has runAsNonRoot and image will run as root"
    made.pod("trainer-0", "Pending", waiting={"reason": "CreateContainerConfigError", "message": why})
    assert "Use an image that `make image` has built, or -cfg run_as_user=NUMBER." in made.message


def test_an_image_whose_pull_secret_is_missing():
    made = Situation("Pending")
    refused = 'Back-off pulling image "x": ErrImagePull: pull access denied'
    made.pod("trainer-0", "Pending", waiting={"reason": "ImagePullBackOff", "message": refused})
    made.event("trainer-0", "FailedToRetrieveImagePullSecret", "Unable to retrieve some image pull secrets (regcred)")
    assert "ErrImagePull: pull access denied. Unable to retrieve some image pull secrets (regcred)" in made.message


def test_an_init_container_that_others_put_there():
    made = Situation("Pending")
    failed = {"exitCode": 7, "reason": "Error", "message": "no route to the mesh"}
    made.pod(
        "trainer-0",
        "Pending",
        init={"name": "istio-init", "ready": False, "state": {"terminated": failed}},
        waiting={"reason": "PodInitializing"},
    )
    assert made.message.startswith(
        "trainer/0 cannot start: its init container istio-init fails with exit code 7: no route to the mesh. "
        "`kubectl logs pretrain-x-trainer-0 -c istio-init` shows more."
    )


def test_a_volume_that_cannot_be_mounted():
    made = Situation("Pending", mount=["type=volume", "src=claim", "dst=/d"])
    made.pod("trainer-0", "Pending", waiting={"reason": "ContainerCreating"})
    made.event("trainer-0", "FailedMount", "MountVolume.SetUp failed: timed out")
    assert (
        "trainer/0 does not start on node-a: MountVolume.SetUp failed: timed out. `kubectl describe pvc claim` shows "
        "more." in made.message
    )


# While it runs


def test_a_job_that_trains_says_so():
    answer = training().describe()
    assert (answer.state, answer.msg) == (AppState.RUNNING, "2 nodes train with 2 processes; step 165.")


def test_a_user_who_may_not_read_logs_sees_no_state_of_training():
    made = training()
    made.forbidden = {"pods/log"}
    assert made.message == ""


def test_trainers_that_load_are_not_said_to_train():
    made = training()
    made.log("coordinator-0-0", (5, "standing: 2 nodes with 2 processes run; 0 waits, 1 needed; no step, 30 s ago"))
    assert made.message == "2 nodes begin: no step yet for 35 s."


def test_a_job_whose_steps_have_stopped():
    made = training()
    made.log("coordinator-0-0", (20, TRAINS.replace("1 s ago", "280 s ago")))
    assert made.message.startswith("No step beyond 165 for 5 min, though 2 nodes should train: a process hangs")


def test_nothing_trains_below_the_least_number_of_nodes():
    made = training(j="2:3")
    made.log("coordinator-0-0", (90, TRAINS), (60, NOTHING), (10, NOTHING))
    assert made.message.startswith("Nothing trains for 60 s, since step 165: 1 node waits, 2 are needed.")
    made.log("coordinator-0-0", (10, "standing: nothing trains; 0 waits, 1 needed; no step, 9 s ago"))
    assert made.message == "Nothing trains yet: 0 nodes wait, 1 is needed."


def test_an_old_line_says_nothing_about_now():
    made = training()
    made.log("coordinator-0-0", (900, TRAINS))
    assert made.message == ""


def test_optional_trainers_that_wait_for_room():
    made = training(j="1:3")
    made.unplaced("trainer-2", "0/3 nodes are unavailable: 3 Insufficient cpu.")
    assert made.message == (
        "The job goes on with 3 of 4 pods; no room yet for trainer/2, which the job can do without: 0/3 nodes are "
        "unavailable: 3 Insufficient cpu. 2 nodes train with 2 processes; step 165."
    )


def lost_node() -> Situation:
    """node-a held the coordinator and rank 0; its power is cut."""
    made = Situation("Running", j="1:3")
    made.node("node-a", not_ready="2026-11-22T14:59:23Z")
    made.pod("coordinator-0-0", node="node-a")
    made.pod("trainer-0", node="node-a")
    made.pod("trainer-1", node="node-b")
    made.pod("trainer-2", node="node-b")
    made.silent("coordinator-0-0")
    return made


ANEW = (
    "node-a is not ready since 2026-11-22T14:59:23Z; its pods coordinator/0 and trainer/0 cannot be reached. Once the "
    "node is known to be off, have them made anew elsewhere: `kubectl delete node node-a`, or `kubectl taint node "
    "node-a node.kubernetes.io/out-of-service=nodeshutdown:NoExecute`."
)


def test_a_node_that_is_switched_off_is_named_with_its_pods_and_what_to_do():
    made = lost_node()
    assert made.message.startswith(ANEW)
    assert "goes on" not in made.message
    for pod in ("trainer-1", "trainer-2"):
        made.log(pod, (5, "standing: nothing trains; no coordinator; step 165, 30 s ago"))
    assert made.message == (
        f"{ANEW} Nothing trains for 35 s, since step 165: trainer/1 and trainer/2 cannot reach the coordinator."
    )


def test_trainers_that_hang_in_a_round_without_their_peer_do_not_train():
    made = lost_node()
    for pod in ("trainer-1", "trainer-2"):
        made.log(pod, (5, "standing: 1 node with 1 process runs; no coordinator; step 165, 200 s ago"))
    assert made.message.endswith(
        "Nothing trains for 3 min, since step 165: trainer/1 and trainer/2 wait for trainer/0, which cannot be reached."
    )


def test_agents_that_have_had_no_step_for_a_while_are_not_said_to_train():
    made = without_room()
    for pod in ("trainer-0", "trainer-1"):
        made.log(pod, (3, "standing: 1 node with 1 process runs; no coordinator; step 90, 40 s ago"))
    assert "No step for 43 s, since step 90, and the coordinator is away." in made.message


def test_a_lost_node_whose_pods_are_being_removed_is_still_named():
    made = lost_node()
    for pod in made.pods[:2]:
        pod["metadata"]["deletionTimestamp"] = ago(5)
    assert made.message.startswith(ANEW)


def test_a_node_that_does_not_answer_before_the_cluster_has_noticed():
    made = lost_node()
    made.node("node-a")
    assert made.message.startswith("node-a does not answer: the log of coordinator/0 could not be read.")
    made.logs["pretrain-x-coordinator-0-0"] = refusal(500, "dial tcp 10.0.0.1:10250: i/o timeout")
    assert made.message.startswith("node-a does not answer")


def test_without_the_right_to_read_nodes_lost_pods_are_still_known():
    made = lost_node()
    made.forbidden = {"nodes"}
    made.logs = {}
    for pod in made.pods[:2]:
        pod["status"]["conditions"].append({"type": "Ready", "status": "False"})
        pod["status"]["containerStatuses"][0]["ready"] = True
    assert made.message.startswith(
        "node-a does not report; its pods coordinator/0 and trainer/0 cannot be reached. The right to get nodes would "
        "show more."
    )


def test_a_node_that_was_deleted():
    made = lost_node()
    del made.nodes["node-a"]
    assert made.message.startswith("node-a does not exist any more; its pods coordinator/0 and trainer/0 go with it.")


def test_a_node_under_pressure():
    made = training()
    made.nodes["node-b"]["status"]["conditions"].append({"type": "DiskPressure", "status": "True"})
    assert made.message.startswith("node-b has DiskPressure and may evict trainer/0.")


def without_room() -> Situation:
    """The node of the coordinator is gone; two trainers of the job hold the room that is left."""
    made = Situation("Running", j="1:3")
    made.unplaced("coordinator-0-0", "0/2 nodes are unavailable: 2 Insufficient cpu.")
    made.pod("trainer-0", node="node-a")
    made.pod("trainer-1", node="node-b")
    made.unplaced("trainer-2", GANG)
    return made


def test_a_coordinator_without_room_is_not_called_going_on():
    made = without_room()
    waits = (
        "The job waits for room for one more pod; no node yet for coordinator/0: 0/2 nodes are unavailable: 2 "
        "Insufficient cpu."
    )
    assert made.message.startswith(
        f"{waits} Without the coordinator no node can join, and a trainer that is lost ends the training."
    )
    assert "goes on" not in made.message
    for pod in ("trainer-0", "trainer-1"):
        made.log(pod, (3, "standing: nothing trains; no coordinator; step 80, 60 s ago"))
    assert made.message.startswith(
        f"{waits} Nothing trains for 63 s, since step 80: trainer/0 and trainer/1 cannot reach the coordinator."
    )


def test_training_that_goes_on_without_its_coordinator():
    made = without_room()
    for pod in ("trainer-0", "trainer-1"):
        made.log(pod, (3, "standing: 1 node with 1 process runs; no coordinator; step 90, 1 s ago"))
    assert made.message.endswith(
        "Training goes on without the coordinator (step 90); a trainer that is lost now ends it."
    )


def test_a_coordinator_whose_pod_is_not_there_yet():
    made = training()
    made.pods.pop(0)
    assert made.message.startswith("The coordinator has no pod; Volcano makes it anew.")


def test_a_job_that_runs_is_running_though_volcano_calls_it_pending():
    """Volcano says Pending when more pods wait than the job can do without."""
    made = without_room()
    made.job["status"] = {"state": {"phase": "Pending"}}
    answer = made.describe()
    assert answer.state == AppState.RUNNING
    assert answer.msg.startswith("The job waits for room for one more pod; no node yet for coordinator/0")


def test_no_trainer_runs():
    made = Situation("Running")
    made.pod("trainer-0", "Failed", terminated={"exitCode": 1})
    assert made.message.endswith("Nothing trains: no trainer runs.")


# Evicted, preempted, killed


@pytest.mark.parametrize(
    ("reason", "why", "text"),
    [
        (
            "Evicted",
            'Usage of EmptyDir volume "scratch" exceeds the limit "3M". ',
            'was evicted by its node: Usage of EmptyDir volume "scratch" exceeds the limit "3M". Give more local disk, '
            "--scratch, or lower --loader.reader.cache-bytes.",
        ),
        (
            "Evicted",
            'Usage of EmptyDir volume "dshm" exceeds the limit "64M". ',
            'was evicted by its node: Usage of EmptyDir volume "dshm" exceeds the limit "64M". Give more shared '
            "memory: --shm, which is part of --memMB.",
        ),
        (
            "Evicted",
            "The node was low on resource: memory. Threshold quantity: 100Mi, available: 9Mi. ",
            "was evicted by its node: The node was low on resource: memory. Threshold quantity: 100Mi, available: 9Mi. "
            "Give more: --memMB.",
        ),
        (
            "Evicted",
            "The node was low on resource: ephemeral-storage. ",
            "was evicted by its node: The node was low on resource: ephemeral-storage. Give more local disk",
        ),
        ("DeadlineExceeded", "Pod was active on the node longer than the specified deadline", "ran into the deadline"),
        ("Terminated", "Pod was terminated in response to imminent node shutdown.", "because its node shuts down: Pod"),
        ("NodeShutdown", "", "was ended because its node shuts down."),
        (
            "OutOfcpu",
            "Node didn't have enough resource: cpu",
            "was refused by its node, which has no room for it: Node",
        ),
        ("Preempting", "Preempted in order to admit critical pod", "to make room for a system pod: Preempted"),
        ("NodeAffinity", "Predicate NodeAffinity failed", "was refused by its node, whose labels have changed"),
        ("UnexpectedAdmissionError", "Allocate failed", "was refused by its node: Allocate failed"),
        ("Invented", "x", "was ended by its node (Invented): x."),
    ],
)
def test_a_pod_that_was_ended_as_a_whole_says_why(reason, why, text):
    made = training()
    made.pods.pop()
    made.pod("trainer-1", "Failed", "node-c", reason=reason, message=why, terminated={"exitCode": 143})
    answer = made.describe()
    assert answer.state == AppState.RUNNING
    assert answer.msg.startswith("trainer/1 ")
    assert text in answer.msg
    assert "signal 15" not in answer.msg
    assert "Volcano makes its pod anew about a minute later." in answer.msg


def test_an_eviction_is_still_told_of_when_the_pod_runs_again():
    made = training()
    made.event("trainer-1", "Evicted", 'Usage of EmptyDir volume "scratch" exceeds the limit "3M". ', 90)
    made.events[-1]["involvedObject"]["uid"] = "the one before"
    assert made.message.endswith(
        'trainer/1 was evicted before: Usage of EmptyDir volume "scratch" exceeds the limit "3M". Give more local '
        "disk, --scratch, or lower --loader.reader.cache-bytes."
    )
    made.job["metadata"]["creationTimestamp"] = ago(60)
    assert "evicted" not in made.message  # that was another job of this name


@pytest.mark.parametrize(
    ("reason", "why", "text"),
    [
        (
            "PreemptionByScheduler",
            "volcano: preempting to accommodate a higher priority pod",
            "trainer/0 is preempted: another job of a higher priority needs its room (volcano: preempting to "
            "accommodate a higher priority pod).",
        ),
        ("DeletionByTaintManager", "Taint manager: deleting due to NoExecute taint", "a taint that it does not"),
        ("EvictionByEvictionAPI", "Eviction API: evicting", "trainer/0 is evicted, as by a drain of its node"),
        ("DeletionByPodGC", "PodGC: node no longer exists", "trainer/0 is removed: its node is gone"),
        ("TerminationByKubelet", "", "trainer/0 is evicted by its node."),
    ],
)
def test_who_takes_a_pod_away(reason, why, text):
    made = training()
    target = {"DisruptionTarget": {"status": "True", "reason": reason, "message": why}}
    made.pods[1] = made.pod("trainer-0", leaving=True, node="node-b", conditions=target)
    made.pods.pop()
    assert made.message.startswith(text) or text in made.message


def test_a_container_without_memory_in_a_job_that_goes_on():
    made = training()
    made.pods.pop()
    killed = {"exitCode": 137, "reason": "OOMKilled"}
    made.pod("trainer-1", node="node-c", waiting={"reason": "CrashLoopBackOff"}, last=killed, restarts=3)
    assert made.message.startswith(
        "trainer/1 needed more memory than 4096M and was killed. Give more: --memMB. It has been restarted 3 times."
    )
    assert "being started" not in made.message


# The end


def failed() -> Situation:
    """The coordinator has ended the job; Volcano has not looked yet, and trainers are still there."""
    made = Situation("Running")
    ended = {"exitCode": 3, "message": "rank 0: there is no bucket hardviews"}
    made.pod("coordinator-0-0", "Failed", terminated=ended)
    made.pod("trainer-0")
    made.pod("trainer-1")
    return made


@pytest.mark.parametrize("phase", ["Running", "Pending", "Terminating"])
def test_a_job_is_failed_as_soon_as_its_coordinator_has_given_up(phase):
    made = failed()
    made.job["status"]["state"]["phase"] = phase
    answer = made.describe()
    assert answer.state == AppState.FAILED
    assert answer.msg == (
        "coordinator/0 ended with exit code 3: rank 0: there is no bucket hardviews. Its other pods are being stopped: "
        "trainer/0 and trainer/1."
    )


def test_a_coordinator_that_crashes_fails_nothing():
    made = failed()
    made.pods[0]["status"]["containerStatuses"][0]["state"] = {"terminated": {"exitCode": 1, "message": "x"}}
    assert made.describe().state == AppState.RUNNING


def test_a_job_is_complete_when_its_coordinator_is():
    made = failed()
    made.pods[0]["status"] |= {"phase": "Succeeded"}
    made.pods[0]["status"]["containerStatuses"][0]["state"] = {"terminated": {"exitCode": 0}}
    answer = made.describe()
    assert (answer.state, answer.msg) == (AppState.RUNNING, "The training is complete; the remaining pods are stopped.")
    made.job["status"]["state"]["phase"] = "Completed"
    assert made.message == ""


def test_a_cancelled_job():
    made = training()
    made.job["status"]["state"]["phase"] = "Aborting"
    assert made.message == "The job is being cancelled: its processes save and leave."
    made.job["status"]["state"]["phase"] = "Aborted"
    assert made.message == "The job was cancelled."


def test_a_restart_of_the_job_is_not_one_of_a_pod():
    made = training()
    made.job["status"]["state"]["phase"] = "Restarting"
    assert made.message.startswith("A pod of the job is made anew.")
    made.pods.pop(0)
    assert made.message.startswith("The coordinator was lost; the job's pods save, end and start again.")


def test_replicas_that_are_between_two_tries_are_pending():
    made = training()
    made.pod("trainer-1", waiting={"reason": "CrashLoopBackOff"}, last={"exitCode": 1})
    states = {r.id: r.state for role in made.describe().roles_statuses for r in role.replicas if r.role == "trainer"}
    assert states[1] == ReplicaState.PENDING


def test_a_cluster_that_falls_silent_during_a_look_is_one_sentence(monkeypatch):
    made = training()

    def silent(path, **query):
        raise Silent("The cluster at https://c does not answer.")

    monkeypatch.setattr(made, "get", silent)
    with pytest.raises(Silent, match="does not answer"):
        made.describe()
