"""`hardviews demo` on a folder of images such as people have, and its second run."""

import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from hardviews import cli, demo
from hardviews.demo import Demo, Outcome
from hardviews.errors import UserError

FORMATS = [("RGBA", "png"), ("L", "jpg"), ("RGB", "JPG"), ("P", "gif"), ("RGB", "webp")]


def make_images(folder: Path, each: int) -> Path:
    """Two classes of coloured noise in odd files, with a broken image and files that are no images among them."""
    random = np.random.default_rng(0)
    for name, low in (("Grand Canyon.v2", 0), ("flowers (red)", 90)):
        (folder / name).mkdir(parents=True)
        for number in range(each):
            mode, extension = FORMATS[number % len(FORMATS)]
            pixels = random.integers(low, low + 120, (9, 12, 3), dtype=np.uint8).repeat(8, 0).repeat(8, 1)
            Image.fromarray(pixels).convert(mode).save(folder / name / f"IMG {number:03d}.v1.{extension}")
    (folder / "flowers (red)" / "broken one.jpg").write_bytes(b"\xff\xd8\xff\xe0 not much of an image")
    (folder / "flowers (red)" / "notes.txt").write_text("not an image")
    (folder / "README").write_text("not an image either")
    return folder


@pytest.mark.walkthrough
@pytest.mark.timeout(900)  # four commands and three checks load the libraries, on a busy machine slowly
def test_own_images(tmp_path):
    """The whole demo by real jobs: two processes train, two jobs evaluate."""
    images = make_images(tmp_path / "my photos.2026", each=20)
    command = [sys.executable, "-m", "hardviews.cli", "demo", "--data", str(images), "--folder", str(tmp_path / "out")]
    done = subprocess.run([*command, "--epochs", "1"], capture_output=True, text=True, timeout=800, cwd=tmp_path)
    output = done.stdout
    assert re.search(r"skipped flowers \(red\)/broken one.jpg: \S+", output), output + done.stderr
    assert "notes.txt" not in output + done.stderr
    for job in ("pretrain.py --recipe photos", "knn.py", "linear_eval.py"):
        assert f"$ torchx run -s local_cwd jobs/{job} -- " in output, output + done.stderr
    assert re.search(r"ETA \d+:\d\d", done.stderr), done.stderr
    rows = dict(re.findall(r"^ *(raw pixels|(?:un|pre)trained encoder) +([\d. ]+?) *$", output, re.MULTILINE))
    assert len(rows) == 3, output + done.stderr
    pixels, untrained, pretrained = (list(map(float, row.split())) for row in rows.values())
    assert len(pixels) == 2
    worked = all(after > before for before, after in zip(untrained, pretrained, strict=True))
    assert done.returncode == (0 if worked else 2), output + done.stderr
    assert ("Pretraining did not beat the untrained encoder" in done.stderr) != worked
    assert "mlflow ui --backend-store-uri" in output
    assert f"sqlite:///{tmp_path}/out/mlflow.db" in output
    assert re.search(
        r"http://127.0.0.1:5000/#/experiments/1/runs/[0-9a-f]{32}\?workflowType=machine_learning\n", output
    )
    assert "Traceback" not in output + done.stderr
    assert "INFO" not in output + done.stderr


@pytest.fixture
def jobs(monkeypatch):
    """The jobs that the demo would launch: (file, arguments, variables); pretraining leaves an encoder."""
    launched = []

    def launch(job, component, overrides, environment):
        launched.append((job, component, overrides, environment))
        output = Path(environment["HARDVIEWS_OUTPUT"])
        if job == "pretrain.py":
            (output / "encoder").mkdir(parents=True)
        return 1.0

    monkeypatch.setattr(demo, "_torchx", launch)
    monkeypatch.setattr(demo.torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(demo, "_accuracy", lambda *_: ({}, {}, "run"))
    return launched


def names(jobs):
    return [job for job, *_ in jobs]


def test_the_digits_take_the_command_without_arguments(jobs, tmp_path, monkeypatch):
    monkeypatch.setattr(demo, "_CHECKOUT", tmp_path)
    (tmp_path / "jobs").mkdir()
    (tmp_path / "jobs" / "pretrain.py").touch()
    monkeypatch.chdir(tmp_path)
    demo.measure(Demo())
    job, component, overrides, _ = jobs[0]
    assert (job, component, overrides) == ("pretrain.py", [], [])


def test_two_processes_do_not_share_a_gpu(jobs, tmp_path, monkeypatch):
    monkeypatch.setattr(demo.torch.cuda, "is_available", lambda: True)
    demo.measure(Demo(folder=str(tmp_path)))
    assert shlex.join(jobs[0][2]).startswith("--precision.device cpu")


def test_a_finished_run_is_evaluated_again(jobs, tmp_path, capsys):
    demo.measure(Demo(folder=str(tmp_path)))
    assert names(jobs) == ["pretrain.py", "knn.py", "linear_eval.py"]
    jobs.clear()
    capsys.readouterr()
    demo.measure(Demo(folder=str(tmp_path)))
    assert names(jobs) == ["knn.py", "linear_eval.py"]
    told = capsys.readouterr()
    assert "finished" in told.out
    assert "packing" not in told.err, "the data is packed already"


@pytest.mark.parametrize("words", [["--epochs", "0"], ["--epochs", "-1"], ["--seed", "-1"], ["--epochs", "x"]])
def test_numbers_out_of_range_are_refused_before_anything_is_packed(jobs, words, monkeypatch, tmp_path, capsys):
    monkeypatch.setenv("OMP_WAIT_POLICY", "PASSIVE")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as end:
        cli.main(["demo", *words])
    assert (end.value.code, jobs, list(tmp_path.iterdir())) == (2, [], [])
    assert words[0] in capsys.readouterr().err


@pytest.mark.parametrize("change", [{"seed": 1}, {"epochs": 3}])
def test_other_settings_are_another_run(jobs, tmp_path, change):
    demo.measure(Demo(folder=str(tmp_path)))
    demo.measure(Demo(folder=str(tmp_path), **change))
    outputs = {environment["HARDVIEWS_OUTPUT"] for *_, environment in jobs}
    assert len(outputs) == 2
    assert names(jobs).count("pretrain.py") == 2


def test_another_image_is_another_dataset(jobs, tmp_path):
    images = make_images(tmp_path / "images", each=20)
    config = Demo(data=str(images), folder=str(tmp_path / "out"))
    demo.measure(config)
    before = dict(jobs[0][3])
    demo.measure(config)
    assert names(jobs).count("pretrain.py") == 1
    Image.new("RGB", (40, 40)).save(images / "flowers (red)" / "new.png")
    demo.measure(config)
    assert names(jobs).count("pretrain.py") == 2
    after = jobs[-1][3]
    assert before["HARDVIEWS_DATA"] != after["HARDVIEWS_DATA"]


@pytest.mark.parametrize(("each", "batch", "group"), [(10, "16", "8"), (64, "64", "32")])
def test_the_recipe_is_fitted_to_the_collection(jobs, tmp_path, each, batch, group):
    images = make_images(tmp_path / "images", each)
    demo.measure(Demo(data=str(images), folder=str(tmp_path / "out")))
    words = jobs[0][2]
    assert words[words.index("--training.batch") + 1] == batch
    assert words[words.index("--training.group") + 1] == group


def test_too_few_images_are_refused(jobs, tmp_path):
    images = make_images(tmp_path / "images", each=5)
    with pytest.raises(UserError, match="needs at least 16"):
        demo.measure(Demo(data=str(images), folder=str(tmp_path / "out")))
    assert jobs == []


def test_a_folder_without_classes_is_refused(jobs, tmp_path):
    images = make_images(tmp_path / "images", each=10)
    with pytest.raises(UserError, match="has no class folders"):
        demo.measure(Demo(data=str(images / "flowers (red)"), folder=str(tmp_path / "out")))


def test_one_class_is_refused_each_time(jobs, tmp_path):
    images = make_images(tmp_path / "images", each=20)
    (images / "flowers (red)").rename(tmp_path / "elsewhere")
    for _ in range(2):
        with pytest.raises(UserError, match=r"one class only, Grand Canyon\.v2"):
            demo.measure(Demo(data=str(images), folder=str(tmp_path / "out")))
    assert jobs == []


def outcome(pretrained: float) -> Outcome:
    row = {"pixels": 99.0, "untrained": 70.0, "pretrained": pretrained}
    headings = {"knn/top1_k20": "k-NN\nk=20", "linear/top1": "linear\ntop-1"}
    return Outcome({"knn/top1_k20": row, "linear/top1": {**row, "pretrained": 90.0}}, headings, "run", 20, {})


def test_a_run_that_gains_nothing_is_said_to(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(demo, "measure", lambda _: outcome(70.0))
    images = shlex.quote(str(tmp_path / "my images"))
    with pytest.raises(SystemExit) as ended:
        cli.main(["demo", "--data", str(tmp_path / "my images")])
    assert ended.value.code == 2
    told = capsys.readouterr()
    assert "did not beat the untrained encoder" in told.err
    assert f"demo --data {images} --epochs 80" in told.err
    assert "untrained encoder" in told.out, "the table is shown all the same"


def test_a_run_that_gains_is_a_success(monkeypatch, capsys):
    monkeypatch.setattr(demo, "measure", lambda _: outcome(71.0))
    cli.main(["demo"])
    assert "71.0" in capsys.readouterr().out


def test_a_job_that_fails_ends_the_demo(tmp_path, monkeypatch):
    monkeypatch.setattr(demo, "_program", lambda name: Path("/bin/false"))
    with pytest.raises(UserError, match=r"jobs/pretrain\.py failed"):
        demo.measure(Demo(folder=str(tmp_path)))


def test_figures_that_wait_for_the_server_are_missed_in_words(tmp_path):
    from hardviews.tracking.mlflow_run import Run

    with Run.start("hardviews", "digits", folder=tmp_path) as run:
        run.log_metrics({"loss": 1.0}, 1)
    (tmp_path / "run.json").write_text(json.dumps({"run_id": run.run_id}))
    with pytest.raises(UserError, match="does not have the accuracies"):
        demo._accuracy(tmp_path, tmp_path)
