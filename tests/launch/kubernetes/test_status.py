"""The state that a job's objects show; they are written as Volcano 1.14 and Kubernetes 1.34 write them."""

import json
from typing import Any

import pytest
from torchx.specs import AppState, AppStatus, ReplicaState

from hardviews.launch.kubernetes import status
from hardviews.launch.kubernetes.observed import Surroundings
from tests.launch.kubernetes.jobs import job as application
from tests.launch.kubernetes.jobs import manifest

IMAGE = "registry/hardviews:1"
NOT_READY = "pod group is not ready, 2 Pending, 2 minAvailable; Pending: 2 Unschedulable"


def job(phase: str | None, retries: int = 0) -> dict[str, Any]:
    made = manifest(application(image=IMAGE))
    made["metadata"] |= {"name": "pretrain-x", "uid": "u"}
    return made | ({"status": {"state": {"phase": phase}, "retryCount": retries}} if phase is not None else {})


def pod(name: str, phase: str = "Running", node: str = "node-a", **state: Any) -> dict[str, Any]:
    """A pod; `state` has `waiting`, `running` or `terminated`, and `last` and `restarts`."""
    role = name.split("-")[0]
    labels = {"torchx.pytorch.org/role-name": role}
    if role == "coordinator":
        labels["torchx.pytorch.org/replica-id"] = "0"
    conditions = state.pop("conditions", [])
    container: dict[str, Any] = {"image": IMAGE, "restartCount": state.pop("restarts", 0)}
    container["lastState"] = {"terminated": state.pop("last")} if "last" in state else {}
    container["state"] = state
    resources = {"limits": {"memory": "300M"}, "requests": {"cpu": "3000m", "memory": "300M"}}
    return {
        "metadata": {"name": f"pretrain-x-{name}", "labels": labels, "creationTimestamp": "2026-11-22T15:00:00Z"},
        "spec": {"nodeName": node, "containers": [{"image": IMAGE, "resources": resources}]},
        "status": {"phase": phase, "conditions": conditions, "containerStatuses": [container] if state else []},
    }


def unplaced(name: str, why: str) -> dict[str, Any]:
    return pod(name, "Pending", "", conditions=[{"type": "PodScheduled", "status": "False", "message": why}])


def event(about: str, reason: str, message: str, kind: str = "Warning") -> dict[str, Any]:
    return {
        "type": kind,
        "reason": reason,
        "message": message,
        "lastTimestamp": "2026-11-22T15:00:00Z",
        "involvedObject": {"name": about},
    }


def node(cpu: str) -> dict[str, Any]:
    return {"status": {"allocatable": {"cpu": cpu, "memory": "24376896Ki"}}}


def message(phase, pods, events=(), nodes=(), queue=None, retries=0) -> str:
    return status.response("n:x", job(phase, retries), pods, Surroundings(events, nodes, queue)).msg


RUNNING = [pod("coordinator-0-0", running={}), pod("trainer-0", running={}), pod("trainer-1", running={})]


def test_a_healthy_job_has_its_replicas_and_no_message():
    answer = status.response("n:x", job("Running"), list(reversed(RUNNING)), Surroundings())
    assert answer.state == AppState.RUNNING
    assert answer.msg == ""
    shown = [(r.role, r.id, r.state, r.hostname) for role in answer.roles_statuses for r in role.replicas]
    assert shown == [
        ("coordinator", 0, ReplicaState.RUNNING, "node-a"),
        ("trainer", 0, ReplicaState.RUNNING, "node-a"),
        ("trainer", 1, ReplicaState.RUNNING, "node-a"),
    ]


def test_roles_are_described_from_the_manifest():
    coordinator, trainer = status.described(manifest(application(j="2:3x2", cpu=3, memMB=700, gpu=2)))
    assert (coordinator.name, coordinator.num_replicas, coordinator.min_replicas) == ("coordinator", 1, None)
    assert (trainer.name, trainer.num_replicas, trainer.min_replicas) == ("trainer", 3, 2)
    assert (trainer.resource.cpu, trainer.resource.memMB, trainer.resource.gpu) == (3, 700, 2)
    assert trainer.env["MLFLOW_TRACKING_URI"] == "http://m:5000"
    assert trainer.args[:2] == ["-m", "hardviews.elastic.agent"]


@pytest.mark.parametrize(
    ("phase", "state"),
    [
        (None, AppState.SUBMITTED),
        ("Pending", AppState.PENDING),
        ("Restarting", AppState.RUNNING),
        ("Completing", AppState.RUNNING),
        ("Completed", AppState.SUCCEEDED),
        ("Aborted", AppState.CANCELLED),
        ("Terminated", AppState.FAILED),
        ("Failed", AppState.FAILED),
        ("Invented", AppState.UNKNOWN),
    ],
)
def test_every_phase_has_a_state(phase, state):
    assert status.response("n:x", job(phase), [], Surroundings()).state == state


def test_an_image_that_cannot_be_pulled_is_named_with_the_registrys_answer():
    refused = f'Back-off pulling image "{IMAGE}": ErrImagePull: failed to pull: not found'
    pods = [pod("trainer-0", "Pending", waiting={"reason": "ImagePullBackOff", "message": refused})]
    text = message("Pending", pods)
    assert text.startswith(f"The image {IMAGE} of trainer/0 cannot be pulled: ErrImagePull: failed to pull: not found.")
    assert "image_pull_secrets" in text


def test_a_container_that_cannot_be_made_is_reported():
    waiting = {"reason": "CreateContainerConfigError", "message": 'secret "s3" not found'}
    assert 'trainer/0 cannot start: secret "s3" not found' in message("Running", [pod("trainer-0", waiting=waiting)])


def test_the_last_lines_of_a_container_that_fails_again_and_again_are_shown():
    last = {"exitCode": 1, "reason": "Error", "message": "\n".join(map(str, range(99))) + "\nValueError: no"}
    text = message("Running", [pod("trainer-0", waiting={"reason": "CrashLoopBackOff"}, last=last, restarts=4)])
    assert "trainer/0 ended with exit code 1" in text
    assert "ValueError: no It has been restarted 4 times." in text
    assert "\n50\n" not in text


def test_a_container_killed_for_memory_names_the_remedy():
    pods = [pod("trainer-0", waiting={"reason": "CrashLoopBackOff"}, last={"exitCode": 137, "reason": "OOMKilled"})]
    text = message("Running", pods)
    assert "300M" in text
    assert "--memMB" in text


def test_a_failed_job_says_what_the_coordinator_said():
    ended = {"exitCode": 3, "message": "the data is gone", "finishedAt": "2026-11-22T15:00:00Z"}
    pods = [
        pod("coordinator-0-0", "Failed", terminated=ended),
        pod("trainer-0", "Failed", terminated={"exitCode": 143}),
    ]
    answer = status.response("n:x", job("Terminated"), pods, Surroundings())
    assert answer.msg == "coordinator/0 ended with exit code 3: the data is gone"
    shown = AppStatus(answer.state, roles=answer.roles_statuses, msg=answer.msg).format()
    assert "coordinator[0]:FAILED (exitcode: 3)" in shown
    assert "the data is gone" in shown


def test_a_failed_job_without_pods_still_says_something():
    assert "restarted 3 times" in message("Failed", [], retries=3)


def test_an_evicted_pod_says_why():
    gone = pod("trainer-0", "Failed") | {"status": {"phase": "Failed", "reason": "Evicted", "message": "low on memory"}}
    assert message("Running", [gone]).startswith("trainer/0 was evicted by its node: low on memory.")


def test_pods_that_fit_no_node_even_when_it_is_empty():
    pods = [unplaced("coordinator-0-0", NOT_READY), unplaced("trainer-0", NOT_READY)]
    text = message("Pending", pods, nodes=[node("2"), node("1900m")])
    assert text == (
        "The job waits for room for 2 pods at once; no node yet for coordinator/0, trainer/0: coordinator/0 asks for 3 "
        "of cpu, and the largest node has 2 of it."
    )


@pytest.mark.parametrize("pods", [[], [unplaced("coordinator-0-0", NOT_READY), unplaced("trainer-0", NOT_READY)]])
def test_a_full_queue_is_named(pods):
    queue = {"spec": {"capability": {"cpu": "3", "memory": "1Ti"}}, "status": {"allocated": {"cpu": "1"}}}
    text = message("Pending", pods, queue=queue)
    assert "the queue default allows 3 of cpu in all, 1 are in use, and 2.05 more are asked for" in text
    queue["status"] = {"allocated": {"cpu": "500m"}}
    assert "allows" not in message("Pending", pods, queue=queue)


def test_the_schedulers_reason_is_preferred_to_its_words_on_gangs():
    reason = "0/2 nodes are unavailable: 1 Insufficient cpu, 1 node(s) didn't match Pod's node affinity/selector."
    pods = [unplaced("trainer-0", NOT_READY), unplaced("trainer-1", reason)]
    assert reason in message("Pending", pods, nodes=[node("64")])
    told = [event("pretrain-x-trainer-0", "FailedScheduling", reason)]
    assert reason in message("Pending", [unplaced("trainer-0", NOT_READY)], events=told)
    text = message("Pending", [unplaced("trainer-0", NOT_READY)])
    assert "3000m of cpu" in text
    assert "pod group" not in text


def test_a_job_goes_on_without_its_optional_pods():
    text = message("Running", [*RUNNING[:2], unplaced("trainer-1", NOT_READY)])
    assert text.startswith("The job goes on with 2 of 3 pods; no room yet for trainer/1")


def test_a_job_without_pods_waits_in_its_queue():
    assert message("Pending", []) == "The job waits in the queue default for its turn."
    told = [event("pretrain-x-u", "Unschedulable", "queue resource quota insufficient")]
    assert "queue resource quota insufficient" in message("Pending", [], events=told)


def test_pods_that_the_api_refuses_are_reported():
    text = (
        'Error creating pods: [failed to create pod x, err: &errors.StatusError{Message:"pods \\"x\\" is forbidden"}]'
    )
    told = [event("pretrain-x", "FailedCreate", text)]
    assert message("Pending", [], events=told) == 'The cluster refuses the job\'s pods: pods "x" is forbidden'


def test_an_image_on_its_way_and_a_volume_that_is_not_there():
    pods = [pod("trainer-0", "Pending", waiting={"reason": "ContainerCreating"})]
    pulling = [event("pretrain-x-trainer-0", "Pulling", 'Pulling image "a"', "Normal")]
    assert f"trainer/0 waits for the image {IMAGE}, which is being pulled on node-a" in message(
        "Pending", pods, pulling
    )
    mount = [event("pretrain-x-trainer-0", "FailedMount", "no claim")]
    assert "does not start on node-a: no claim" in message("Pending", pods, mount)


def test_restarts_of_the_past_are_mentioned():
    again = pod("trainer-1", running={}, restarts=2, last={"exitCode": 137, "message": "x"})
    text = message("Running", [*RUNNING[:2], again])
    assert "Containers were restarted before, trainer/1 2 times" in text
    assert text.endswith("trainer/1 was killed by signal 9: x")


def test_a_status_can_be_printed_and_dumped():
    pods = [pod("trainer-0", "Failed", terminated={"exitCode": 0, "finishedAt": "never"})]
    answer = status.response("n:x", job("Failed"), pods, Surroundings())
    assert "FAILED" in AppStatus(answer.state, roles=answer.roles_statuses).format()
    assert json.dumps(answer.msg)
