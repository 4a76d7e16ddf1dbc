"""`torchx run` takes file names, and refuses jobs that cannot run."""

import http.server
import json
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import ClassVar

import pytest
from torchx.schedulers import DEFAULT_SCHEDULER_MODULES, get_scheduler_factories
from torchx.specs.file_linter import validate
from torchx.specs.finder import get_components

from hardviews.errors import UserError
from hardviews.launch.component_file import name_function

ROOT = Path(__file__).parents[2]
PACK = ("jobs/pack.py", "--source", "digits")  # the job that is checked most quickly
JOBS = sorted((ROOT / "jobs").glob("*.py"))


def torchx(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("HARDVIEWS_", "MLFLOW_"))}
    command = [str(Path(sys.executable).parent / "torchx"), *arguments]
    return subprocess.run(command, cwd=ROOT, env=environment | variables, capture_output=True, text=True, timeout=120)


@pytest.fixture(autouse=True)
def in_the_checkout(monkeypatch):
    monkeypatch.chdir(ROOT)


@pytest.mark.parametrize(
    ("words", "completed"),
    [
        (["jobs/knn.py"], ["jobs/knn.py:knn"]),
        (["--", "jobs/knn.py", "--data", "x.py"], ["--", "jobs/knn.py:knn", "--data", "x.py"]),
        (["jobs/knn.py:other", "a"], ["jobs/knn.py:other", "a"]),
        (["dist.ddp", "--script", "main.py"], ["dist.ddp", "--script", "main.py"]),
        (["--msg", "jobs/knn.py"], ["--msg", "jobs/knn.py"]),
        ([], []),
        (["--"], ["--"]),
    ],
)
def test_a_file_means_the_component_named_like_it(words, completed):
    assert name_function(words) == completed


def test_hyphens_of_a_file_name_are_underscores_of_its_component(tmp_path):
    file = tmp_path / "my-job.py"
    file.touch()
    assert name_function([str(file)]) == [f"{file}:my_job"]


def test_a_missing_file_is_named():
    with pytest.raises(UserError, match=r"jobs/nothing\.py"):
        name_function(["jobs/nothing.py"])


@pytest.mark.parametrize("job", JOBS, ids=lambda job: job.stem)
def test_every_job_satisfies_the_rules_of_components_and_says_what_its_arguments_mean(job):
    assert validate(str(job), job.stem) == []
    text = job.read_text()
    assert "from __future__" not in text
    assert "TIP: improve" not in torchx("run", "-s", "local_cwd", str(job.relative_to(ROOT)), "--help").stdout


@pytest.mark.parametrize(
    ("scheduler", "component"), [("local_cwd", "jobs/pretrain.py"), ("kubernetes", "jobs/pretrain.py:pretrain")]
)
def test_the_literal_command_needs_neither_values_nor_docker_for_a_dry_run(scheduler, component):
    shown = torchx("run", "-s", scheduler, "--dryrun", component, "--j", "2:4x2")
    assert shown.returncode == 0, shown.stderr
    for part in ("hardviews.elastic.coordinator", "hardviews.elastic.agent", "2:4", "<data: URL of a packed dataset>"):
        assert part in shown.stdout
    assert ("127.0.0.1:" in shown.stdout) == (scheduler == "local_cwd")


def test_a_submission_names_every_value_that_it_lacks_where_it_can_be_said():
    refused = torchx("run", "-s", "local_cwd", "jobs/pretrain.py")
    assert refused.returncode == 2
    for part in ("--data", "HARDVIEWS_DATA", "--output", "HARDVIEWS_OUTPUT", ".torchxconfig"):
        assert part in refused.stderr
    assert "HARDVIEWS_IMAGE" not in refused.stderr
    assert "Traceback" not in refused.stderr


def test_an_unreadable_j_is_one_paragraph():
    refused = torchx("run", "-s", "local_cwd", "jobs/pretrain.py", "--j", "two", "--data", "d", "--output", "o")
    assert refused.returncode == 2
    assert "MIN:MAXxPROCESSES" in refused.stderr
    assert "Traceback" not in refused.stderr


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["jobs/pretrain.py", "--recipe", "nope"], "There is no recipe 'nope'"),
        (["jobs/pack.py", "--source", "/nonexist"], "There is no folder of images at '/nonexist'"),
    ],
)
def test_a_mistake_in_a_job_of_this_machine_is_one_paragraph_before_anything_starts(words, message, tmp_path):
    refused = torchx("run", "-s", "local_cwd", *words, "--data", f"{tmp_path}/d", HARDVIEWS_OUTPUT=f"{tmp_path}/o")
    assert (refused.returncode, refused.stdout) == (2, "")  # the handle of a started job would be there
    assert refused.stderr.startswith(f"torchx run: {message}")
    assert len(refused.stderr.splitlines()) == 1
    assert list(tmp_path.iterdir()) == []


def test_a_failing_job_fails_the_command_and_an_ordinary_one_shows_its_output():
    failed = torchx("run", "-s", "local_cwd", "utils.sh", "false")
    assert (failed.returncode, "The job failed; its messages are above." in failed.stderr) == (1, True)
    assert "AppStatus" not in failed.stderr
    assert torchx("run", "-s", "local_cwd", "utils.sh", "exit", "2").returncode == 2  # a mistake of the user
    said = torchx("run", "-s", "local_cwd", "utils.echo", "--msg", "good day")
    assert said.returncode == 0
    assert "good day" in said.stderr


def test_all_mistakes_of_a_submission_are_named_at_once(tmp_path):
    said = ["--data", "/d", "--output", "s3://b/o", "--tracking", "http://me:word@mlflow", "--memMB", "0"]
    said += ["--recpie", "smoke", "--ttl", "soon", "--node_selector", f"disk={'x' * 64}"]
    words = ["run", "-s", "kubernetes", "-cfg", "queues=high", "jobs/pretrain.py", "--j", "3:1x1", *said]
    words += ["--", "--training.epoch", "3"]
    refused = torchx(*words, KUBECONFIG=str(tmp_path / "none"))
    assert refused.returncode == 2
    assert refused.stdout == ""
    for part in (
        "queues is no run option of this scheduler. Did you mean queue?",
        "--recpie is no argument of pretrain. Did you mean --recipe?",
        "--ttl soon cannot be read",
        "-j 3:1x1",
        "--image",
        "0 MB",
        "password",
        "--data /d",
        "its value has 64 characters",
        "No Kubernetes",
        "Unrecognized options: --training.epoch, 3. Perhaps you meant: --training.epochs",
    ):
        assert part in refused.stderr
    assert "11 things are wrong" in refused.stderr
    assert "Traceback" not in refused.stderr


def test_a_dry_run_refuses_what_no_cluster_could_run_and_asks_none(tmp_path):
    refused = torchx("run", "-s", "kubernetes", "--dryrun", *PACK, "--cpu", "0", KUBECONFIG=str(tmp_path))
    assert refused.returncode == 2
    assert "0 CPU" in refused.stderr
    assert "cluster" not in refused.stderr


def test_options_in_the_file_are_read_and_unknown_ones_refused(tmp_path):
    file = tmp_path / "config"
    file.write_text("[kubernetes]\nqueue = vision\nttl = 60\ntolerations = dedicated=vision:NoSchedule\n")
    shown = torchx("run", "-s", "kubernetes", "--dryrun", *PACK, TORCHXCONFIG=str(file))
    assert shown.returncode == 0, shown.stderr
    for part in ("queue: vision", "ttlSecondsAfterFinished: 60", "value: vision"):
        assert part in shown.stdout
    file.write_text("[kubernetes]\nqueue = vision\ntlt = 60\n")
    refused = torchx("run", "-s", "kubernetes", "--dryrun", *PACK, TORCHXCONFIG=str(file))
    assert (refused.returncode, f"[kubernetes] in {file}: tlt is no run option" in refused.stderr) == (2, True)
    file.write_text("[kubernetes]\nqueue = vision\n[hardviews:site]\noutputs = s3://b/o\n")
    refused = torchx("run", "-s", "kubernetes", "--dryrun", *PACK, TORCHXCONFIG=str(file))
    assert (refused.returncode, "outputs is no value of a site. Did you mean output?" in refused.stderr) == (2, True)
    file.write_text("[kubernetes]\nqueue = vision\nttl = soon\n")
    refused = torchx("run", "-s", "kubernetes", "--dryrun", *PACK, TORCHXCONFIG=str(file))
    assert (refused.returncode, f"{file} cannot be read" in refused.stderr) == (2, True)


class Api(http.server.BaseHTTPRequestHandler):
    """Has everything that a job needs; notes the created objects."""

    created: ClassVar[list[str]] = []

    def do_GET(self):
        self.answer({"kind": "Any", "metadata": {}, "status": {"state": "Open"}})

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if "dryRun" not in self.path:
            self.created.append(body["metadata"]["name"])
        self.answer(body)

    def answer(self, value):
        data = json.dumps(value).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_):
        return


def test_a_bucket_that_is_missing_is_found_before_anything_is_submitted(s3, tmp_path, monkeypatch):
    monkeypatch.setattr(Api, "created", [])
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Api) as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        config = tmp_path / "kubeconfig"
        config.write_text(
            "apiVersion: v1\nkind: Config\ncurrent-context: c\n"
            f"clusters: [{{name: c, cluster: {{server: 'http://127.0.0.1:{server.server_address[1]}'}}}}]\n"
            "users: [{name: u, user: {token: t}}]\ncontexts: [{name: c, context: {cluster: c, user: u}}]\n"
        )
        words = ["run", "-s", "kubernetes", *PACK, "--image", "i"]
        refused = torchx(*words, "--data", "s3://nobody-has-this/d", KUBECONFIG=str(config))
        assert (refused.returncode, Api.created) == (2, []), refused.stderr
        assert "\ntorchx run: There is no bucket 'nobody-has-this'" in refused.stderr  # after a remark
        server.shutdown()


@pytest.mark.parametrize(
    "words",
    [["list", "-s", "kubernetes"], ["status", "kubernetes://torchx/n:x"], ["log", "kubernetes://torchx/n:x"]],
    ids=lambda words: words[0],
)
def test_commands_without_a_cluster_say_so_in_one_paragraph(words, tmp_path):
    refused = torchx(*words, KUBECONFIG=str(tmp_path / "none"))
    assert refused.returncode == 2
    assert "No Kubernetes cluster is known here" in refused.stderr
    assert "Traceback" not in refused.stderr


def test_components_and_schedulers_of_torchx_stay():
    assert {"dist.ddp", "utils.echo", "utils.sh"} <= get_components().keys()
    assert set(get_scheduler_factories()) == set(DEFAULT_SCHEDULER_MODULES)
    listed = torchx("runopts")
    assert listed.returncode == 0
    for scheduler in DEFAULT_SCHEDULER_MODULES:
        assert f"{scheduler}:" in listed.stdout
    assert "secrets=SECRETS" in listed.stdout  # the kubernetes of the list is ours


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        (["run", "-s", "kubernetess", "jobs/knn.py"], ["no scheduler 'kubernetess'. Did you mean kubernetes?"]),
        (["run", "-s", "local", "jobs/knn.py"], ["no scheduler 'local'. Did you mean local_cwd?"]),
        (["list", "-s", "kubernetess"], ["no scheduler 'kubernetess'. Did you mean kubernetes?"]),
        (["run", "--dryrn", "jobs/knn.py"], ["--dryrn is not an option of torchx run. Did you mean --dryrun?"]),
        (["run", "jobs/pretrain.py", "--dryrun"], ["--dryrun is an option of torchx run itself", "--dryrun FILE."]),
    ],
)
def test_options_of_torchx_are_refused_with_the_right_ones(words, parts):
    refused = torchx(*words)
    assert refused.returncode == 2
    for part in parts:
        assert part in refused.stderr
    assert "usage:" not in refused.stderr


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        (["jobs/knn.py", "--cpu", "1", "--cpu", "2"], ["Repeated", "--cpu", "Give each argument once"]),
        ([], ["missing component name", "jobs/pretrain.py"]),
    ],
)
def test_a_command_line_that_torchx_cannot_read_is_one_paragraph(words, parts):
    refused = torchx("run", "-s", "local_cwd", *words)
    assert refused.returncode == 2
    for part in parts:
        assert part in refused.stderr
    assert "usage:" not in refused.stderr
