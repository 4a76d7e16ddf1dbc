"""A bug report of whole, broken and half-written runs: it holds what is there, notes what is not, and no secret."""

import json
import os
import re
import zipfile
from pathlib import Path

import pytest

from hardviews.cli import main
from hardviews.doctor.bug_report import archive, machine, run
from hardviews.doctor.bug_report.archive import Archive
from hardviews.doctor.bug_report.command import BugReport, run_bug_report
from hardviews.doctor.bug_report.logs import _BYTES, _FILES, add_files, add_job
from hardviews.doctor.probes import PROBES
from hardviews.errors import UserError
from tests.doctor.api_server import JOBS, TOKEN, api_server
from tests.fake_s3 import DENIED

USER, HOME = "alicexyz", "/ho" + "me/alicexyz"
SECRETS = {
    "AWS_SECRET_ACCESS_KEY": "Xq7/Zt3+Pw9Lk2Mn5Vb8Rd1Fg4Hj6Ys0Ua3Ec7Ti",
    "AWS_SESSION_TOKEN": "planted-session",
    "MLFLOW_TRACKING_PASSWORD": "planted-password",
    "MLFLOW_TRACKING_TOKEN": "planted-bearer",
    "MY_API_KEY": "planted-api",
}
ELSEWHERE = (
    "planted-uri",
    "planted-header",
    "0123planted4567",
    "planted-unknown",
    "eyJhbGciOi" + "JSUzI1NiJ9.eyJpc3MiOiJrI",
)


def texts(path):
    with zipfile.ZipFile(path) as zipped:
        return {name: zipped.read(name).decode() for name in zipped.namelist()}


@pytest.fixture(autouse=True)
def quick(monkeypatch, tmp_path):
    """Look with one probe, and ask no command that imports torch; the user has a name."""
    monkeypatch.setattr(machine, "PROBES", [probe for probe in PROBES if probe.name == "Python"])
    monkeypatch.setattr(run, "_command", lambda archive, name, words: archive.add(name, f"{words}\n"))
    monkeypatch.setenv("USER", USER)
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def output(tmp_path):
    """A run with two checkpoints, the newest of which is not finished."""
    folder = tmp_path / "runs" / "first"
    for name in ("lives", "checkpoints/step-00000002", "checkpoints/step-00000004", "encoder"):
        (folder / name).mkdir(parents=True)
    settings = {"training.batch": "64", "note": f"by {USER} in {HOME}/data"}
    (folder / "run.json").write_text(
        json.dumps({"run_id": "r", "data": "s3://me:planted-uri@b/d", "settings": settings})
    )
    (folder / "lives" / "0001.json").write_text(json.dumps({"number": 1, "host": "node-7", "reached": 5}))
    (folder / "checkpoints" / "step-00000002" / "manifest.json").write_text('{"format": 3}')
    (folder / "checkpoints" / "step-00000004" / "model.distcp").write_bytes(bytes(100))
    (folder / "history.jsonl").write_text('{"step": 2, "loss": 5.0}\n{"step": 4, "lo')
    (folder / "encoder" / "encoder.safetensors").write_bytes(b"weights are never packed")
    return folder


def report(output, **words):
    return texts(run_bug_report(BugReport(str(output), output="report.zip", **words)))


def test_a_run_is_packed_and_listed(output, capsys):
    found = report(output)
    printed = capsys.readouterr().out
    assert set(found) == {
        *("run/files.txt", "run/run.json", "run/checkpoints.txt", "run/step-00000002-manifest.json"),
        *("run/history.jsonl", "run/lives/0001.json", "run/audit.json", "run/health.txt"),
        *("versions.json", "packages.txt", "environment.txt", "doctor.json", "notes.txt"),
    }
    assert all(name in printed for name in set(found) - {"notes.txt"})
    assert "read it before you send it" in printed
    assert "the checkpoint step-00000004 has no manifest.json" in found["notes.txt"]
    assert "step-00000004/model.distcp" in found["run/checkpoints.txt"]
    assert '"training.batch": "64"' in found["run/run.json"] and '"lo' in found["run/history.jsonl"]
    assert re.search(r"^torch==", found["packages.txt"], re.MULTILINE)
    assert json.loads(found["doctor.json"])["findings"][0]["what"] == "Python"
    assert "weights are never packed" not in "".join(found.values())
    assert Path("report.zip").stat().st_mode & 0o077 == 0


def test_secrets_that_are_planted_everywhere_are_in_no_byte(output, monkeypatch, tmp_path):
    for name, value in SECRETS.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://me:planted-uri@host:5000")
    monkeypatch.setenv("HTTPS_PROXY", f"http://{USER}:planted-uri@proxy")
    monkeypatch.setenv("HARDVIEWS_TIMELINE", str(tmp_path / "timeline"))
    lines = [f"{name} is {value}, {json.dumps(value)}" for name, value in SECRETS.items()]
    lines += ["Authorization: Bearer planted-header", f"token {ELSEWHERE[4]}.c2ln", f"in {HOME}/x by {USER}"]
    lines += ["GET https://b/k?X-Amz-Signature=0123planted4567&x=1", "secret_key: planted-unknown"]
    lines += ["http://a:planted-uri@host/x", "AKIAIOSFODNN7EXAMPLE"]
    planted = "\n".join(lines) + "\n"
    logs = tmp_path / "logs"
    logs.mkdir()
    (logs / f"{USER}-node-0.log").write_text(planted)
    (home := tmp_path / "private").write_text("words of a private file")
    (logs / "link.log").symlink_to(home)
    (tmp_path / "timeline").write_text(planted)
    for file in output.rglob("*.json*"):
        file.write_text(file.read_text() + planted)
    (output / planted.splitlines()[0].replace("/", "_")[:80]).touch()
    found = report(output, logs=(str(logs),))
    assert "logs/logs/USER-node-0.log" in found and "timeline.jsonl" in found
    whole = Path("report.zip").read_bytes() + "".join([*found, *found.values()]).encode()
    for secret in (*SECRETS.values(), *ELSEWHERE, USER, "AKIAIOSFODNN7EXAMPLE"):
        assert secret.encode() not in whole, secret
    assert "AWS_SECRET_ACCESS_KEY" not in found["environment.txt"]
    assert "http://***@host:5000" in found["environment.txt"]
    assert "/ho" + "me/USER/x by USER" in found["timeline.jsonl"]
    assert b"words of a private file" not in whole and "1 links to files outside of it" in found["notes.txt"]


@pytest.mark.parametrize(
    ("damage", "note"),
    [
        (lambda folder: (folder / "run.json").unlink(), "run/run.json is missing"),
        (lambda folder: os.truncate(folder / "run.json", 20), "run/run.json is cut or damaged"),
        (lambda folder: (folder / "run.json").write_bytes(b"\xff\xfe\x00"), "run/run.json is cut or damaged"),
        (lambda folder: os.truncate(folder / "lives" / "0001.json", 5), "run/lives/0001.json is cut or damaged"),
        (lambda folder: (folder / "lives" / "0001.json").unlink(), "no lives"),
        (lambda folder: (folder / "history.jsonl").unlink(), "run/history.jsonl is missing"),
    ],
)
def test_broken_runs_are_packed_as_far_as_they_go(output, damage, note):
    damage(output)
    assert note in report(output)["notes.txt"]


def test_a_long_history_keeps_its_end_and_the_report_its_size(output, monkeypatch):
    (output / "history.jsonl").write_text("".join(f'{{"step": {number}}}\n' for number in range(100_000)))
    found = report(output)
    assert found["run/history.jsonl"].endswith('{"step": 99999}\n') and found["run/history.jsonl"].startswith("{")
    assert "run/history.jsonl has the last" in found["notes.txt"]
    os.unlink("report.zip")
    monkeypatch.setattr(archive, "LARGEST", 60_000)
    found = report(output)
    assert sum(map(len, found.values())) <= 60_000
    assert "the report has its largest size" in found["notes.txt"]


def test_a_run_in_an_object_store(s3, output):
    place = f"{s3.bucket()}/runs/first"
    s3.client().put(f"{output}/", f"{place}/", recursive=True)
    s3.client().rm_file(f"{place}/history.jsonl")
    s3.client().pipe_file(f"{place}/checkpoints/step-00000002/history.jsonl", b'{"step": 2}\n')
    found = report(place)
    assert found["run/history.jsonl"] == '{"step": 2}\n' and "run/lives/0001.json" in found
    assert s3.environment["AWS_SECRET_ACCESS_KEY"] not in str(found)


def test_a_store_that_does_not_let_us_in(fake_s3):
    fake_s3.refuse("ListObjectsV2", by=DENIED)
    found = report(f"{fake_s3.url}/run")
    assert "nothing of the run could be read: Access to" in found["notes.txt"]
    assert "versions.json" in found


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["nowhere"], "There is no folder nowhere"),
        (["s3:/b/run"], "lacks '://'"),
        (["runs/first", "--output", "x.tar"], "must end with .zip"),
        (["runs/first", "--output", "none/x.zip"], "there is no folder"),
        (["runs/first", "--output", "taken.zip"], "exists already"),
        (["runs/first", "--logs", "none.log"], "none.log does not exist"),
        (["runs/first", "--job", "pretrain"], "not the handle of a job"),
    ],
)
def test_mistakes_leave_nothing(output, capsys, words, text):
    Path("taken.zip").write_text("mine")
    with pytest.raises(SystemExit) as ended:
        main(["bug-report", *words])
    assert ended.value.code == 2 and text in capsys.readouterr().err
    assert sorted(path.name for path in Path().glob("*zip*")) == ["taken.zip"]
    assert Path("taken.zip").read_text() == "mine"


def test_an_empty_folder_is_no_run(tmp_path):
    with pytest.raises(UserError, match="There is nothing at"):
        report(tmp_path / "runs" if (tmp_path / "runs").mkdir() is None else "")


def test_a_job_of_a_cluster(tmp_path, monkeypatch):
    home = "/api/v1/namespaces/team"
    pod = {"metadata": {"name": "pretrain-x-trainer-0", "managedFields": [1]}, "spec": {"password": "planted-unknown"}}
    event = {"involvedObject": {"name": "pretrain-x"}, "type": "Warning", "reason": "R", "message": "no room"}
    with api_server() as api:
        monkeypatch.setattr("kubernetes.config.kube_config.KUBE_CONFIG_DEFAULT_LOCATION", api.kubeconfig(tmp_path))
        api.objects[f"{JOBS}/namespaces/team/jobs/pretrain-x"] = {"metadata": {"name": "pretrain-x"}}
        api.objects[f"{home}/pods"] = {"items": [pod]}
        api.objects[f"{home}/events"] = {"items": [event]}
        api.objects[f"{home}/pods/pretrain-x-trainer-0/log"] = b"step 5\nAuthorization: Bearer planted-header\n"
        packed = Archive()
        add_job(packed, "kubernetes://torchx/team:pretrain-x")
        other = Archive()
        add_job(other, "team:another")
        packed.write(Path("job.zip"))
    found = texts("job.zip")
    assert "step 5" in found["job/pretrain-x-trainer-0.log"] and "no room" in found["job/events.txt"]
    assert "managedFields" not in found["job/pods.json"]
    assert other.notes == ["the namespace team has no job another"]
    assert not re.search("planted", str(found)) and TOKEN not in str(found)


def test_of_many_logs_the_newest_are_packed_and_no_line_is_cut(tmp_path):
    folder = tmp_path / "logs"
    folder.mkdir()
    for number in range(_FILES + 2):
        file = folder / f"{number:02}.log"
        file.write_text(f"line {number}\n")
        os.utime(file, (0, 1000 - number))  # the last by name are the oldest
    (folder / "00.log").write_text("x" * (_BYTES + 1))
    packed = Archive()
    add_files(packed, ["logs"])
    assert sorted(name for name in packed.sizes) == [f"logs/logs/{number:02}.log" for number in range(1, _FILES)]
    assert packed.notes == [
        f"logs/logs/00.log is not packed: its last line has more than {_BYTES:,} bytes",
        f"logs holds {_FILES + 2} files; the newest {_FILES} are packed",
    ]


def test_a_cluster_that_does_not_answer(monkeypatch, tmp_path):
    monkeypatch.setattr("kubernetes.config.kube_config.KUBE_CONFIG_DEFAULT_LOCATION", str(tmp_path / "none"))
    packed = Archive()
    add_job(packed, "team:pretrain-x")
    assert "No Kubernetes cluster is known here" in packed.notes[0]
