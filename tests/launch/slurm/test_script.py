"""The scripts of jobs, compared with what was written down and with what they must hold."""

import os
import shlex
import subprocess
import sys
from pathlib import Path
from unittest import mock

import pytest

from hardviews.launch.slurm import batch
from hardviews.launch.slurm.options import SlurmOptions
from hardviews.launch.slurm.script import script
from jobs.knn import knn
from jobs.pack import pack
from jobs.pretrain import pretrain

GOLDEN = Path(__file__).parents[2] / "golden" / "slurm"
PLACES = {"data": "/shared/digits/train", "output": "/shared/runs/a run"}
RICH = {
    "partition": "gpu",
    "account": "vision",
    "time": "24:00:00",
    "constraint": "h100&ib",
    "coordinator_partition": "cpu",
    "mail-user": "me@example.org",
    "dependency": "afterok:12",
    "start": 2,
    "secrets": "/nfs/you/.secrets",
    "requeue": "false",
    "sbatch": ["--gres=gpu:h100:8", "--exclusive"],
    "srun": ["--container-image=/shared/a b.sqsh"],
}


def made(app, **cfg):
    """Return the script; its lines break at the same words on every machine, whatever the path of Python is."""
    python = "/opt/hardviews/.venv/bin/python"
    with mock.patch.object(sys, "executable", python):
        return script(app, SlurmOptions.read(cfg), "/shared/jobs", memory=True).replace(python, "PYTHON")


def training(*words, **arguments):
    return pretrain(*words, **PLACES, **arguments)


@pytest.mark.parametrize(
    ("name", "make"),
    [
        ("pretrain", lambda: made(training(), partition="gpu")),
        ("pretrain_rich", lambda: made(training("--training.epochs", "3", j="2:4x8", gpu=8, cpu=32), **RICH)),
        ("pretrain_beside", lambda: made(training(tracking="http://mlflow:5000"), beside="true")),
        ("pretrain_join", lambda: made(training(), join="12", start=1)),
        ("knn", lambda: made(knn(**PLACES))),
        ("pack", lambda: made(pack(source="digits", data="/shared/digits"))),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_scripts_are_as_written_down(name, make, monkeypatch):
    for variable in ("MLFLOW_TRACKING_URI", "HARDVIEWS_IMAGE"):
        monkeypatch.delenv(variable, raising=False)
    text, file = make(), GOLDEN / f"{name}.sh"
    if os.environ.get("HARDVIEWS_WRITE_GOLDEN"):
        file.write_text(text)
    assert text == file.read_text()


def said(text, environment):
    """What a script's command is given, as the shell reads it."""
    shell = text.replace("exec PYTHON", "printf '%s\\n'")
    done = subprocess.run(["bash", "-c", shell], env={**os.environ, **environment}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_the_shell_hands_on_every_word_as_it_was_given():
    words = ["--note", 'it\'s $HOME "x" `y` *', "--empty", ""]
    read = said(made(training(*words)), {"SLURM_JOB_ID": "7"})
    assert read[-4:] == words
    assert read[read.index("--output") + 1] == "/shared/runs/a run"


def test_the_script_can_be_read_by_the_program_that_it_names():
    words = said(made(training(j="2:4x8", gpu=8, cpu=32), **RICH), {"SLURM_JOB_ID": "7"})
    config = batch.configure(words[words.index("hardviews.launch.slurm.batch") + 1 :])
    assert (config.bounds, config.group, config.cpus, config.gpus, config.requeue) == ("2:4", 1, 32, 8, False)
    assert config.srun == ("--container-image=/shared/a b.sqsh",)
    assert config.words[config.words.index("--") + 1] == "hardviews.cli"
    assert not {"--job", "--nodes", "--port", "--host-variable"} & set(config.words)


def test_an_environment_variable_of_the_job_knows_its_number():
    text = made(training(env={"NAME": "run-${app_id} of 'me'"}))
    shell = text[: text.index("exec ")] + "echo $NAME"
    done = subprocess.run(["bash", "-c", shell], env={"SLURM_JOB_ID": "7"}, capture_output=True, text=True)
    assert done.stdout == "run-7 of 'me'\n"


def test_without_memory_in_the_partition_none_is_asked_for():
    text = script(training(), SlurmOptions.read({}), "/shared", memory=False)
    assert "--mem" not in text.partition("exec")[0]


@pytest.mark.parametrize("value", ["a b", "x;y", "$(touch z)"])
def test_options_are_one_word_of_a_line(value):
    lines = [line for line in made(training(), comment=value).splitlines() if "comment" in line]
    assert [shlex.split(line) for line in lines] == [["#SBATCH", f"--comment={value}"]] or lines == [
        f"#SBATCH {shlex.quote(f'--comment={value}')}"
    ]
