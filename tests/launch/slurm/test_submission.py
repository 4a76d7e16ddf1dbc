"""What reaches Slurm, and what is refused before."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from hardviews.errors import UserError
from hardviews.launch.slurm.scheduler import create_scheduler
from jobs.pack import pack
from jobs.pretrain import pretrain

ROOT = Path(__file__).parents[3]
PLACES = {"data": "s3://bucket/digits", "output": "s3://bucket/run"}


def job(**arguments):
    return pretrain(**PLACES | arguments)


def found(app=None, online=True, **cfg):
    return create_scheduler("s").examine(app or job(), cfg, online=online)


def test_the_script_is_submitted_without_the_secrets_of_this_environment(slurm, tmp_path, monkeypatch):
    for name in ("AWS_SECRET_ACCESS_KEY", "AWS_ACCESS_KEY_ID", "MLFLOW_TRACKING_PASSWORD", "SLURM_JOB_ID"):
        monkeypatch.setenv(name, "never-to-be-seen")
    monkeypatch.setenv("AWS_WEB_IDENTITY_TOKEN_FILE", "/a/file")
    scheduler = create_scheduler("s")
    info = scheduler.submit_dryrun(job(), {"partition": "gpu", "job_dir": str(tmp_path / "jobs")})
    assert scheduler.schedule(info) == "12"
    call = slurm.calls("sbatch")[-1]
    assert call["input"].startswith("#!/bin/bash") and "#SBATCH hetjob" in call["input"]
    assert "never-to-be-seen" not in str(call)
    assert call["variables"]["AWS_WEB_IDENTITY_TOKEN_FILE"] == "/a/file"
    assert (tmp_path / "jobs").is_dir()


def test_what_slurm_has_against_a_job_is_one_sentence(slurm, tmp_path):
    slurm.answer("sbatch", error="sbatch: error: Batch job submission failed: Invalid account\n", code=1)
    scheduler = create_scheduler("s")
    info = scheduler.submit_dryrun(job(), {"job_dir": str(tmp_path)})
    with pytest.raises(
        UserError, match=r"^Slurm does not accept the job: Batch job submission failed: Invalid account\."
    ):
        scheduler.schedule(info)


def test_other_components_stay_torchx_own(slurm):
    from torchx.components.utils import sh

    assert "srun" in str(create_scheduler("s").submit_dryrun(sh("true"), {}))


def test_a_sound_job_has_no_mistakes(slurm):
    assert found(partition="gpu", time="1:00:00", coordinator_partition="cpu").mistakes == []


@pytest.mark.parametrize(
    ("arguments", "cfg", "part"),
    [
        ({}, {"partition": "gpuu"}, "no partition gpuu. Did you mean gpu?"),
        ({}, {"coordinator_partition": "x"}, "no partition x. Choose from cpu, gpu"),
        ({"data": "digits/train"}, {}, "--data digits/train is not a full path"),
        ({"output": "runs/a"}, {}, "--output runs/a is not a full path"),
        ({}, {"time": "soon"}, "time=soon is not a time limit"),
        ({}, {"time": "2"}, "saves no"),
        ({}, {"start": 3}, "start=3 is not between 1 and 2"),
        ({}, {"join": "x"}, "join=x is not a job"),
        ({}, {"join": "77"}, "The job 77 does not run"),
        ({}, {"beside": "perhaps"}, "beside is 'perhaps'"),
        ({}, {"comment": "a\nb"}, "line break"),
        ({}, {"sbatch": ["gres=gpu:1"]}, "not an option of sbatch"),
        ({}, {"secrets": "none"}, "not a full path"),
        ({}, {"secrets": "/nowhere/file"}, "cannot be read: No such file"),
        ({"env": {"AWS_SECRET_ACCESS_KEY": "x"}}, {}, "AWS_SECRET_ACCESS_KEY holds a credential"),
        ({"tracking": "http://me:word@mlflow"}, {}, "MLFLOW_TRACKING_URI holds a credential"),
        ({"secret": ["store"]}, {}, "Secrets of Kubernetes"),
        ({"mount": ["type=bind", "src=/a", "dst=/b"]}, {}, "--mount is for pods"),
        ({"memMB": 0}, {}, "0 MB"),
        ({"cpu": 0}, {}, "0 CPU"),
    ],
)
def test_a_mistake_is_one_sentence(slurm, arguments, cfg, part):
    part = "leaves no time to train" if part == "saves no" else part
    mistakes = found(job(**arguments), **cfg).mistakes
    assert len(mistakes) == 1 and part in mistakes[0], mistakes


def test_folders_and_servers_of_one_machine_are_refused_if_there_are_others(slurm, tmp_path):
    app = job(data="/tmp/digits", tracking="http://localhost:5000")
    assert found(app, partition="gpu", job_dir="/nfs/jobs").mistakes == []
    slurm.answer("sinfo", "gpu|far\n")
    mistakes = found(app, partition="gpu", job_dir="/nfs/jobs").mistakes
    # A checkout in a folder such as /tmp is a third mistake.
    data, server = (text for text in mistakes if text.startswith(("--data", "MLFLOW")))
    assert "--data /tmp/digits is in a folder that the nodes do not share" in data
    assert "MLFLOW_TRACKING_URI is http://localhost:5000, which means each node itself" in server
    assert "the folder of the logs" in " ".join(found(partition="gpu", job_dir="/dev/shm/jobs").mistakes)


def test_secrets_that_stay_behind_are_told(slurm, tmp_path, monkeypatch):
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "x")
    assert "AWS_SECRET_ACCESS_KEY of this environment are not given to the job" in found().remarks[0]
    file = tmp_path / "secrets"
    file.write_text("AWS_SECRET_ACCESS_KEY=y\n")
    file.chmod(0o600)
    assert found(secrets=str(file)).remarks == []


def test_a_job_of_one_process_has_no_nodes_to_add(slurm):
    app = pack(source="digits", data="/shared/digits")
    assert "this one has one process" in found(app, start=1).mistakes[0]


def test_a_slurm_that_does_not_answer_says_so(slurm):
    slurm.answer("sinfo", error="slurm_load_node: Unable to contact slurm controller (connect failure)\n", code=1)
    assert found().mistakes == [
        "Slurm does not answer: slurm_load_node: Unable to contact slurm controller (connect failure). Try again once "
        "it is back: scontrol ping."
    ]
    assert found(online=False).mistakes == []


@pytest.mark.parametrize("words", [["run", "-s", "slurm", "jobs/pack.py", "--source", "digits", "--data", "/shared/d"]])
def test_without_slurm_the_command_is_one_sentence_with_exit_code_2(words, tmp_path):
    variables = {k: v for k, v in os.environ.items() if not k.startswith(("HARDVIEWS_", "MLFLOW_"))}
    command = [str(Path(sys.executable).parent / "torchx"), *words]
    refused = subprocess.run(
        command, cwd=ROOT, env=variables | {"PATH": str(tmp_path)}, capture_output=True, text=True, timeout=120
    )
    assert (refused.returncode, refused.stdout) == (2, ""), refused.stderr
    assert re.fullmatch(
        r"torchx run: Slurm is not installed here: sbatch is not on the PATH\. Run torchx on a login node of the "
        r"cluster\.\n",
        refused.stderr,
    )
