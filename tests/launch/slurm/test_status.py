"""Jobs as Slurm tells of them."""

import pytest
from torchx.schedulers.api import Stream
from torchx.specs import AppState

from hardviews.errors import UserError
from hardviews.launch.slurm.logs import lines
from hardviews.launch.slurm.scheduler import create_scheduler


def queued(slurm, state, reason="None", nodes=("node1", "node2"), folder="/shared"):
    part = [
        f"12+{i}|{state}|{reason}|{node}|pretrain-{role}|{folder}"
        for i, (node, role) in enumerate(zip(nodes, ("coordinator", "trainer"), strict=True))
    ]
    slurm.answer("squeue", "\n".join(part) + "\n")


@pytest.mark.parametrize(
    ("state", "reason", "expected", "part"),
    [
        ("PENDING", "Resources", AppState.PENDING, "waits for free nodes"),
        ("PENDING", "BeginTime", AppState.PENDING, "queued again"),
        ("PENDING", "JobHeldUser", AppState.PENDING, "scontrol release 12"),
        ("PENDING", "QOSMaxJobs", AppState.PENDING, "Slurm's reason: QOSMaxJobs"),
        ("RUNNING", "None", AppState.RUNNING, ""),
        ("COMPLETING", "None", AppState.RUNNING, "Slurm waits"),
        ("COMPLETED", "None", AppState.SUCCEEDED, ""),
        ("CANCELLED", "None", AppState.CANCELLED, "cancelled"),
        ("TIMEOUT", "TimeLimit", AppState.FAILED, "time limit"),
        ("A_NEW_WORD", "None", AppState.FAILED, "A_NEW_WORD"),
    ],
)
def test_states_in_words(slurm, state, reason, expected, part):
    queued(slurm, state, reason)
    found = create_scheduler("s").describe("12")
    assert (found.state, found.app_id) == (expected, "12")
    assert part in found.msg
    assert [role.role for role in found.roles_statuses] == ["coordinator", "trainer"]
    assert found.roles_statuses[1].replicas[0].hostname == "node2"


def test_a_failed_job_says_what_its_coordinator_said_last(slurm, tmp_path):
    queued(slurm, "FAILED", folder=tmp_path)
    log = tmp_path / "slurm-12-coordinator-0.log"
    log.write_text("begins\nthe job failed: rank 1 met a mistake\nslurmstepd: error: x\nsrun: error: y\n")
    assert create_scheduler("s").describe("12").msg.endswith("the job failed: rank 1 met a mistake")


def test_a_coordinator_beside_a_trainer_is_a_replica_too(slurm):
    slurm.answer("squeue", "12|RUNNING|None|node[1-2]|pretrain-trainer|/shared\n")
    slurm.answer("scontrol", "node1\nnode2\n")
    roles = {role.role: role.replicas for role in create_scheduler("s").describe("12").roles_statuses}
    assert [replica.hostname for replica in roles["coordinator"]] == ["node1"]
    assert [replica.hostname for replica in roles["trainer"]] == ["node1", "node2"]


def test_accounts_are_asked_once_the_queue_has_forgotten_a_job(slurm):
    assert create_scheduler("s").describe("12") is None
    slurm.answer("sacct", "12+0|CANCELLED by 0|node1|pretrain-coordinator|/shared\n13|COMPLETED|node2|other|/shared\n")
    assert create_scheduler("s").describe("12").state == AppState.CANCELLED


def test_a_list_has_a_job_once(slurm):
    queued(slurm, "RUNNING")
    slurm.answer("sacct", "11|COMPLETED|node1|pack-packer|/x\n12+0|RUNNING|node1|pretrain-coordinator|/shared\n")
    assert [(one.app_id, one.state) for one in create_scheduler("s").list()] == [
        ("11", AppState.SUCCEEDED),
        ("12", AppState.RUNNING),
    ]


def test_cancelling_a_job_that_runs_lets_it_save(slurm):
    queued(slurm, "RUNNING")
    create_scheduler("s")._cancel_existing("12")
    queued(slurm, "PENDING")
    create_scheduler("s")._cancel_existing("12")
    assert [call["words"] for call in slurm.calls("scancel")] == [["--signal=USR2", "--batch", "12"], ["12"]]


def test_a_log_is_a_file_of_the_job(slurm, tmp_path):
    queued(slurm, "RUNNING", folder=tmp_path)
    scheduler = create_scheduler("s")
    with pytest.raises(UserError, match="trainer/0 has written nothing"):
        scheduler.log_iter("12", "trainer", 0)
    (tmp_path / "slurm-12-trainer-0.log").write_text("one\ntwo\nthree")
    assert list(scheduler.log_iter("12", "trainer", 0)) == ["one\n", "two\n", "three\n"]
    assert list(scheduler.log_iter("12", "trainer", 0, regex="w")) == ["two\n"]
    with pytest.raises(UserError, match="--streams"):
        scheduler.log_iter("12", "trainer", 0, streams=Stream.STDOUT)


def test_a_log_that_is_followed_ends_with_its_job(tmp_path):
    file = tmp_path / "log"
    looks = iter([lambda: file.write_text("a\nb"), lambda: file.write_text("a\nbc\nd")])

    def ended():
        write = next(looks, None)
        if write:
            write()
        return write is None

    from hardviews.launch.slurm import logs

    before, logs._LOOK, logs._ASK = (logs._LOOK, logs._ASK), 0.01, 0.0
    try:
        assert list(lines(file, True, ended)) == ["a\n", "bc\n", "d\n"]
    finally:
        logs._LOOK, logs._ASK = before
