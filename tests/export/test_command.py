"""The command: its output, its refusals, and that it leaves nothing half-written."""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors import SafetensorError

from hardviews.cli import main
from hardviews.export.command import Export, run_export
from hardviews.export.timm import Timm
from hardviews.models.encoder import load
from tests.export.encoders import make, saved


def refused(capfd, *words: str) -> str:
    with pytest.raises(SystemExit) as end:
        main(["export", *words])
    said = capfd.readouterr().err
    assert end.value.code == 2 and said.startswith("hardviews: ") and said.count("\n") == 1, said
    return said


def listed() -> list[str]:
    return sorted(os.listdir())


def test_it_says_what_it_wrote_and_what_to_type(runs, capfd):
    main(["export", runs["resnet18"], "--format", "timm"])
    said = capfd.readouterr().out
    assert "model.safetensors" in said and "44.8 MB" in said
    assert "largest relative difference 0.0e+00" in said
    assert 'timm.create_model("local-dir:export-timm", pretrained=True)' in said
    assert listed() == ["export-timm"]
    assert oct(os.stat("export-timm").st_mode & 0o777) == oct(0o777 & ~current_umask())


def current_umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def test_an_export_is_exported_again(runs, capfd):
    main(["export", runs["test_vit"], "--format", "huggingface", "--out", "one"])
    main(["export", "one/model.safetensors", "--format", "timm", "--out", "deep/two"])
    assert load("deep/two").digest == load(runs["test_vit"]).digest


def test_an_encoder_in_an_object_store(resnet, capfd):
    from hardviews.models.encoder import save

    save(resnet, "memory://exports/run/encoder")
    main(["export", "memory://exports/run", "--format", "detectron2"])
    assert listed() == ["export-detectron2"]


@pytest.mark.parametrize(
    ("name", "form", "reason"),
    [
        ("resnet10t", "timm", "no argument of timm builds its small stem"),
        ("resnet10t", "huggingface", "no argument of timm builds its small stem"),
        ("resnet10t", "torchvision", "torchvision has no small stem"),
        ("resnet10t", "detectron2", "only plain ResNets"),
    ],
)
def test_a_small_stem_is_refused_with_the_formats_that_can(name, form, reason, runs, capfd):
    said = refused(capfd, runs[name], "--format", form)
    assert reason in said and said.endswith("these formats can: onnx, torch_export.\n")
    assert listed() == []


def test_a_transformer_is_refused_for_detectron2(runs, capfd):
    said = refused(capfd, runs["test_vit"], "--format", "detectron2")
    assert said.endswith("these formats can: timm, huggingface, torchvision, onnx, torch_export.\n")


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("test_convnext", {}),
        ("resnet50d", {}),
        ("deit3_small_patch16_224", {}),
        ("vit_tiny_patch16_224", {"image_size": 32, "patch_size": 8}),
        ("vit_small_patch14_reg4_dinov2", {}),
    ],
)
def test_torchvision_takes_what_it_has(name, options):
    from hardviews.export.torchvision import Torchvision
    from hardviews.models.backbones import Backbone
    from hardviews.models.encoder import Encoder
    from hardviews.views.augmentation import Normalisation

    with torch.device("meta"):
        side = 518 if "14" in name else 32
        encoder = Encoder(Backbone(name, **options), Normalisation(), None, side)
    assert (Torchvision().misfit(encoder) == "") == (name == "vit_tiny_patch16_224")


def test_options_that_mean_nothing(runs, capfd):
    run = runs["resnet18"]
    assert "--format timm | huggingface" in refused(capfd, run)
    assert "is for --format detectron2" in refused(capfd, run, "--format", "timm", "--allow-pickle")
    assert "--license is empty" in refused(capfd, run, "--format", "timm", "--license", " ")
    assert "torch_export" in refused(capfd, run, "--format", "tensorflow")
    assert "There is no encoder at" in refused(capfd, "nowhere", "--format", "timm")
    assert "s3://b/x is an address" in refused(capfd, run, "--format", "timm", "--out", "s3://b/x")
    assert listed() == []


def test_a_missing_package_is_a_sentence(runs, capfd, monkeypatch):
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "onnxscript" else found(name))
    said = refused(capfd, runs["resnet18"], "--format", "onnx")
    assert "needs onnxscript, which is not installed" in said and "pip install 'hardviews[export]'" in said


# Nothing half-written


def test_an_export_that_computes_something_else_is_refused(runs, capfd, monkeypatch):
    def skewed(self, encoder, folder, images):
        return original(self, encoder, folder, images) * (1 + 1e-4)

    original = Timm.features
    monkeypatch.setattr(Timm, "features", skewed)
    said = refused(capfd, runs["test_vit"], "--format", "timm", "--out", "deep/er/timm")
    assert "largest relative difference is 0.0001, and 1e-06 is admitted" in said
    assert listed() == []


def test_a_wrong_weight_shows(runs, capfd, monkeypatch):
    """The check reads the files, not the encoder."""
    original = Timm.write

    def wrong(self, subject, folder):
        state = subject.encoder.network.state_dict()
        key = next(key for key in state if key.endswith("norm1.weight"))
        before = state[key].clone()
        state[key][0] += 1
        original(self, subject, folder)
        state[key].copy_(before)

    monkeypatch.setattr(Timm, "write", wrong)
    assert "does not compute the features" in refused(capfd, runs["test_vit"], "--format", "timm")
    assert listed() == []


@pytest.mark.parametrize("kind", [RuntimeError, KeyboardInterrupt])
def test_an_interrupted_export_leaves_nothing(kind, runs, monkeypatch):
    def broken(self, subject, folder):
        (folder / "model.safetensors").write_bytes(b"half")
        raise kind

    monkeypatch.setattr(Timm, "write", broken)
    with pytest.raises(kind):
        run_export(Export(runs["test_vit"], "timm", out="deep/timm"))
    assert listed() == []


@pytest.mark.exports
@pytest.mark.skipif(os.geteuid() != 0, reason="mounts a small disk")
@pytest.mark.parametrize("form", ["timm", "torchvision", "onnx", "torch_export"])
def test_a_small_disk(form, runs, here):
    program = Path(sys.executable).parent / "hardviews"
    command = f"{program} export {runs['test_vit']} --format {form} --out small/x"
    inside = f"mount -t tmpfs -o size=600k tmpfs small && {command}; ls -A small"
    (here / "small").mkdir()
    done = subprocess.run(["unshare", "-m", "sh", "-c", inside], capture_output=True, text=True, timeout=240)
    assert "the disk is full. Free some space" in done.stderr and "Traceback" not in done.stderr
    assert done.stderr.count("hardviews: ") == 1 and done.stdout == "", "nothing is left"


def test_a_full_disk_is_a_sentence(runs, capfd, monkeypatch):
    """safetensors has an error of its own, which names the disk's in its text."""

    def full(self, subject, folder):
        raise SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")

    monkeypatch.setattr(Timm, "write", full)
    assert "the disk is full. Free some space" in refused(capfd, runs["test_vit"], "--format", "timm")
    assert listed() == []


def test_an_export_replaces_one_of_the_same_encoder(runs):
    run_export(Export(runs["test_vit"], "timm", out="x"))
    run_export(Export(runs["test_vit"], "torchvision", out="x"))
    assert sorted(os.listdir("x")) == ["encoder.json", "torchvision.safetensors"]
    assert listed() == ["x"]


def test_a_failed_replacement_keeps_the_old_export(runs, monkeypatch):
    run_export(Export(runs["test_vit"], "timm", out="x"))
    before = {p.name: p.read_bytes() for p in Path("x").iterdir()}
    monkeypatch.setattr(Timm, "features", lambda *_: torch.zeros(1, 1))
    with pytest.raises(Exception, match="does not compute"):
        run_export(Export(runs["test_vit"], "timm", out="x"))
    assert {p.name: p.read_bytes() for p in Path("x").iterdir()} == before and listed() == ["x"]


def test_a_folder_in_use_is_refused(runs, tmp_path, capfd):
    run = runs["test_vit"]
    words = [run, "--format", "timm", "--out"]
    Path("empty").mkdir()
    main(["export", *words, "empty"])
    Path("photos").mkdir()
    Path("photos/a.png").touch()
    assert "is not an export of hardviews" in refused(capfd, *words, "photos")
    Path("file").touch()
    assert "exists and is not a folder" in refused(capfd, *words, "file")
    assert "is not an export of hardviews" in refused(capfd, *words, f"{run}/encoder"), "the encoder itself"
    other = saved(make("test_vit", 64, image_size=48, seed=7), tmp_path / "other")
    assert "of another encoder" in refused(capfd, other, "--format", "timm", "--out", "empty")
    Path("empty/notes.txt").touch()
    assert "other files too (notes.txt)" in refused(capfd, *words, "empty")
    Path("empty/notes.txt").unlink()
    config = json.loads(Path("empty/config.json").read_text()) | {"mine": 1}
    Path("empty/config.json").write_text(json.dumps(config))
    assert "config.json in it was changed" in refused(capfd, *words, "empty")
    assert load(run) and "mine" in json.loads(Path("empty/config.json").read_text())
