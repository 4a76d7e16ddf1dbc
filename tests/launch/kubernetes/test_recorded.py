"""The output of `torchx status` for recorded states of a real cluster: Kubernetes 1.34, Volcano 1.14."""

import re

import pytest
from torchx.specs import AppState

from tests.launch.kubernetes.situations import RECORDED, Situation

SCRATCH = 'Usage of EmptyDir volume "scratch" exceeds the limit "3M". Give more local disk, --scratch'
SAID = {
    "queue_full_for_an_optional_trainer": (
        AppState.RUNNING,
        r"The job goes on with 3 of 4 pods; no room yet for trainer/2, which the job can do without: the queue "
        r"shared allows 2\.5 of cpu in all, 2\.05 are in use, and 1 more are asked for\. 2 nodes train with 2 "
        r"processes; step \d+\.",
    ),
    "image_being_pulled": (
        AppState.PENDING,
        r"coordinator/0, trainer/0 and trainer/1 wait for the image registry/mini:4, which is being pulled "
        r"on node-a, node-c for 10 s\. No room yet for trainer/2, which the job can do without: the queue shared "
        r"allows 2\.5 of cpu in all, 2\.05 are in use, and 1 more are asked for\.",
    ),
    "trains": (AppState.RUNNING, r"2 nodes train with 2 processes; step \d+\."),
    "node_off": (
        AppState.RUNNING,
        r"node-a is not ready since \S+Z; its pods coordinator/0 and trainer/2 cannot be reached\. .*out-of-service.* "
        r"Nothing trains for 3 min, since step 1781: trainer/0 and trainer/1 wait for trainer/2, which cannot be "
        r"reached\.",
    ),
    "coordinator_without_room": (
        AppState.RUNNING,
        r"The job waits for room for one more pod; no node yet for coordinator/0: .*Training goes on without the "
        r"coordinator \(step \d+\); a trainer that is lost now ends it\.",
    ),
    "evicted_for_its_scratch": (
        AppState.RUNNING,
        rf"trainer/1 was evicted by its node: {re.escape(SCRATCH)}.* Volcano makes its pod anew about a minute later\. "
        r"1 node trains with 1 process; step \d+\.",
    ),
    "evicted_before": (
        AppState.RUNNING,
        rf"2 nodes train with 2 processes; step \d+\. trainer/1 was evicted before: {re.escape(SCRATCH)}.*",
    ),
    "failed": (AppState.FAILED, r"coordinator/0 ended with exit code 3: The data is not there\. Put it there\."),
}


def test_every_recorded_state_is_tried():
    assert {file.stem for file in RECORDED.glob("*.json")} == set(SAID)


@pytest.mark.parametrize("name", SAID)
def test_a_recorded_state_is_reported_truly(name):
    state, text = SAID[name]
    answer = Situation.recorded(name).describe()
    assert answer.state == state
    assert re.fullmatch(text, answer.msg), answer.msg
