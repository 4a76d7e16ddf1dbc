"""`hardviews import` writes an encoder that every command takes like a run of ours, and that names its origin."""

import contextlib
import hashlib
import io
import json
import os
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from hardviews.cli import main
from hardviews.data.pack import pack
from hardviews.errors import UserError
from hardviews.evaluation.probes.knn import Knn, evaluate_knn
from hardviews.evaluation.subject import Subject
from hardviews.export.card import card
from hardviews.export.facts import collect
from hardviews.foreign.command import Import, run_import
from hardviews.models.encoder import load
from hardviews.runs.record import Record
from hardviews.runs.where import Where
from tests.evaluation.test_features import Noise
from tests.foreign import files
from tests.stores import empty_store


@pytest.fixture
def workplace(tmp_path, monkeypatch, project):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HARDVIEWS_CACHE", str(tmp_path / "cache"))
    return tmp_path


@pytest.fixture
def weights(workplace):
    return files.save(files.simsiam(files.resnet()), workplace / "simsiam_100ep.pth.tar")


def imports(project: Path, file: str, output: str = "runs/theirs", **options: object) -> str:
    """Import; return the output."""
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        run_import(Import(file, output, project=str(project), **options))
    return printed.getvalue()


def test_the_output_is_that_of_a_run_with_the_account_of_the_file(workplace, project, client, weights):
    network = files.resnet()
    printed = imports(project, weights)
    sha256 = hashlib.sha256(Path(weights).read_bytes()).hexdigest()
    encoder = load("runs/theirs")
    assert f"runs/theirs: resnet18, 512 features, digest {encoder.digest[:12]}" in printed
    assert "layout simsiam, part encoder, by the names in it" in printed and sha256 in printed
    assert "left over, as expected: encoder.fc. 2 (projection head), predictor. 2 (predictor)" in printed
    about = encoder.provenance["import"]
    assert (about["file"], about["sha256"], about["layout"]) == ("simsiam_100ep.pth.tar", sha256, "simsiam")
    assert (about["epoch"], about["arch"], about["unexpected"]) == (100, "resnet18", [])
    account = json.loads(Path("runs/theirs/import.json").read_text())
    assert account["digest"] == encoder.digest and account["run_id"] == encoder.provenance["run_id"]
    names = {name for group in account["left_over"] for name in group["names"]}
    assert names == {f"module.{part}.0.{kind}" for part in ("encoder.fc", "predictor") for kind in ("weight", "bias")}
    run = client.get_run(encoder.provenance["run_id"])
    assert run.info.status == "FINISHED" and run.info.run_name == "theirs"
    assert run.data.tags["hardviews.import.sha256"] == sha256 and run.data.params["layout"] == "simsiam"
    assert "simsiam_100ep.pth.tar" in run.data.tags["mlflow.note.content"]
    assert Subject(run=run.info.run_id).open(str(project)).digest == encoder.digest
    torch.manual_seed(1)
    images = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        assert torch.equal(encoder(images), network(images))


def test_the_same_import_again_goes_on_in_its_run_and_another_one_is_refused(workplace, project, client, weights):
    imports(project, weights)
    before = load("runs/theirs")
    imports(project, weights)
    assert load("runs/theirs").provenance["run_id"] == before.provenance["run_id"]
    other = files.save(files.moco(files.resnet(seed=3)), workplace / "moco.pth.tar")
    with pytest.raises(UserError, match=r"holds another encoder, imported from simsiam_100ep\.pth\.tar"):
        imports(project, other)
    assert load("runs/theirs").digest == before.digest
    with pytest.raises(UserError, match="holds imported weights"):
        Where("data", "runs/theirs").check()


def test_places_in_use_are_refused(workplace, project, weights):
    Record("id", "smoke", {}, "digest").write("runs/own")
    with pytest.raises(UserError, match="holds a training"):
        imports(project, weights, "runs/own")
    imports(project, weights)
    os.rename("runs/theirs/import.json", "kept.json")
    with pytest.raises(UserError, match="holds an encoder that was not imported"):
        imports(project, weights)


def test_nothing_is_left_by_a_file_that_is_refused(workplace, project, client):
    broken = workplace / "broken.pth"
    broken.write_bytes(b"\x80\x04nothing")
    runs = len(client.search_runs(["0"]))
    for file in (str(broken), "none.pth"):
        with pytest.raises(UserError):
            imports(project, file)
    assert not Path("runs").exists() and len(client.search_runs(["0"])) == runs


def test_nothing_is_left_by_an_encoder_that_cannot_be_written(workplace, project, weights, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("hardviews.foreign.command.save", full)
    with pytest.raises(OSError, match="No space"):
        imports(project, weights)
    assert not Path("runs/theirs").exists()


def test_the_images_are_those_of_the_options(workplace, project, weights):
    options = {"mean": (0.1, 0.2, 0.3), "std": (0.5, 0.5, 0.5), "image_size": 96, "interpolation": "bilinear"}
    imports(project, weights, **options)
    encoder = load("runs/theirs")
    assert (encoder.normalisation.mean, encoder.normalisation.std) == ((0.1, 0.2, 0.3), (0.5, 0.5, 0.5))
    assert (encoder.image_size, encoder.interpolation) == (96, "bilinear")
    imports(project, weights, "runs/usual")
    assert load("runs/usual").digest != encoder.digest
    evaluation = Knn(run="runs/theirs", data="data")
    assert evaluation.preprocess(encoder.image_size, encoder.interpolation).interpolation == "bilinear"
    for wrong in ({"std": (0.1, 0.0, 0.1)}, {"image_size": 0}, {"experiment": " "}, {"output": ""}):
        with pytest.raises(UserError):
            replace(Import(weights, "runs/x"), **wrong)


def test_evaluations_are_children_of_the_import_and_stand_in_one_table(workplace, project, client, weights, capsys):
    for part, count in (("train", 30), ("test", 12)):
        pack(Noise(count), f"data/{part}", progress=False)
    moco = files.save(files.moco(files.resnet(seed=3)), workplace / "moco_200ep.pth.tar")
    results = []
    for file, output in ((weights, "runs/simsiam"), (moco, "runs/moco")):
        imports(project, file, output, image_size=32)
        places = {"data": "data", "project": str(project), "device": "cpu", "baselines": False}
        results.append(evaluate_knn(Knn(run=output, **places)))
    run = client.get_run(results[0].run_id)
    assert run.data.tags["mlflow.parentRunId"] == load("runs/simsiam").provenance["run_id"]
    assert run.data.tags["hardviews.import.file"] == "simsiam_100ep.pth.tar"
    assert "Weights imported from simsiam_100ep.pth.tar (layout simsiam" in run.data.tags["mlflow.note.content"]
    assert "eval/knn_top1" in client.get_run(run.data.tags["mlflow.parentRunId"]).data.metrics
    capsys.readouterr()
    main(["compare", "runs/simsiam", "runs/moco", "--project", str(project)])
    compared = capsys.readouterr().out
    assert "knn data/test: top-1 on 12 test images" in compared and "simsiam" in compared and "moco" in compared
    main(["health", "runs/moco", "--data", "data/train", "--device", "cpu"])
    assert "health/rankme" in capsys.readouterr().out
    main(["export", "runs/moco", "--format", "timm", "--out", "exported"])
    assert load("exported").digest == load("runs/moco").digest
    encoder = load("runs/moco")
    text = card(encoder, collect(encoder, "runs/moco", str(project)), "unknown")
    assert "hardviews did not train it. Weights imported from moco_200ep.pth.tar" in text
    assert "| knn/top1 |" in text


def test_the_command(workplace, weights, capsys, monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    with contextlib.suppress(FileExistsError):
        Path(".hardviews").symlink_to(empty_store())
    main(["import", weights, "--layout", "simsiam", "--backbone", "resnet18", "--output", "runs/theirs"])
    assert "layout simsiam, part encoder\n" in capsys.readouterr().out
    with pytest.raises(SystemExit) as ended:
        main(["import", weights, "--layout", "moco", "--output", "runs/other"])
    said = capsys.readouterr().err
    assert ended.value.code == 2 and "It fits --layout simsiam." in said and "Traceback" not in said
    with pytest.raises(SystemExit) as ended:
        main(["import", "--help"])
    assert ended.value.code == 0
    shown = capsys.readouterr().out
    for option in ("--layout", "--backbone", "--part", "--output", "--interpolation"):
        assert option in shown


def test_files_and_outputs_in_an_object_store(workplace, project, weights, fake_s3):
    fake_s3.files["weights.pth.tar"] = Path(weights).read_bytes()
    imports(project, f"{fake_s3.url}/weights.pth.tar", f"{fake_s3.url}/runs/theirs")
    assert load(f"{fake_s3.url}/runs/theirs").provenance["import"]["file"] == "weights.pth.tar"
    assert {"runs/theirs/import.json", "runs/theirs/encoder/encoder.json"} <= set(fake_s3.files)
    with pytest.raises(UserError, match="there is no such file"):
        imports(project, f"{fake_s3.url}/none.pth", f"{fake_s3.url}/runs/none")
