"""Files that are no weights, of another layout or another network are refused in a sentence; nothing in them runs."""

import io
import os
import pickle
import re
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch

from hardviews.errors import UserError
from hardviews.foreign.contents import read
from hardviews.foreign.stand_ins import StandIn
from tests.foreign import files
from tests.foreign.test_layouts import opened


class Bomb:
    """Makes a file when it is unpickled without care."""

    def __init__(self, call, *arguments):
        self.call, self.arguments = call, arguments

    def __reduce__(self):
        return self.call, self.arguments


@pytest.fixture
def target(tmp_path):
    return tmp_path / "executed"


@pytest.mark.parametrize("call", ["system", "eval", "Path.touch", "getattr"])
@pytest.mark.parametrize("legacy", [False, True])
def test_code_in_a_file_is_refused_and_not_run(call, legacy, target, tmp_path):
    bombs = {
        "system": (os.system, f"touch {target}"),
        "eval": (eval, f"open({str(target)!r}, 'w')"),
        "Path.touch": (Path.touch, Path(target)),
        "getattr": (getattr, Path(target), "touch"),
    }
    held = files.simsiam(files.resnet()) | {"epoch": Bomb(*bombs[call])}
    torch.save(held, tmp_path / "bomb.pth", _use_new_zipfile_serialization=not legacy)
    with pytest.raises(UserError, match=r"holds more than weights: an object of .*weights_only=False"):
        read(str(tmp_path / "bomb.pth"))
    assert not target.exists()
    if call == "system":  # the bomb is one: an unsafe reader sets it off
        torch.load(tmp_path / "bomb.pth", weights_only=False)
        assert target.exists()


def test_a_plain_pickle_is_refused_and_not_run(target, tmp_path):
    (tmp_path / "plain.pkl").write_bytes(pickle.dumps(Bomb(os.system, f"touch {target}")))
    with pytest.raises(UserError, match=r"cannot be read|holds more than weights"):
        read(str(tmp_path / "plain.pkl"))
    assert not target.exists()


def test_harmless_objects_become_stand_ins(tmp_path):
    """Neither argparse nor NumPy makes an object: they are empty ones of ours."""
    held = files.dino(files.vit()) | {"row": np.arange(3), "number": np.float32(2)}
    contents = read(files.save(held, tmp_path / "checkpoint.pth"))
    assert all(type(contents.held[name]) is StandIn for name in ("args", "row", "number"))
    assert vars(contents.held["args"]) == {}


def test_a_whole_network_is_refused(tmp_path):
    path = files.save({"model": files.resnet(), "epoch": 1}, tmp_path / "lemniscate.pth.tar")
    with pytest.raises(UserError, match=r"an object of torchvision\.models\.resnet\.ResNet.*held\.state_dict\(\)"):
        read(path)


def test_the_conversion_that_is_advised_makes_a_file_that_is_read(tmp_path, monkeypatch):
    held = files.simsiam(files.resnet()) | {"hook": Bomb(print)}
    files.save(held, tmp_path / "old.pth")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError) as refused:
        read("old.pth")
    program = re.search(r"python -c '(.*?)'", str(refused.value))[1].replace("FILE", "old.pth")
    exec(program, {})
    assert opened("weights.pth").found.layout.name == "simsiam"
    text = (Path(__file__).parents[2] / "docs" / "import.md").read_text()
    lines = re.search(r"```text\n(.*?)```", text, re.DOTALL)[1].splitlines()
    assert program.split("; ") == ["import torch", *lines]


def test_a_torchscript_program_is_refused(tmp_path):
    torch.jit.trace(torch.nn.Linear(2, 2), torch.zeros(1, 2)).save(tmp_path / "traced.pt")
    with pytest.raises(UserError, match="holds more than weights: a TorchScript program"):
        read(str(tmp_path / "traced.pt"))


@pytest.mark.parametrize("kind", ["zip", "legacy", "safetensors"])
@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 0.999])
def test_a_file_that_is_cut_short_is_refused(kind, share, tmp_path):
    state = files.resnet().state_dict()
    buffer = io.BytesIO()
    if kind == "safetensors":
        import safetensors.torch

        buffer.write(safetensors.torch.save(state))
    else:
        torch.save({"state_dict": state}, buffer, _use_new_zipfile_serialization=kind == "zip")
    data = buffer.getvalue()
    path = tmp_path / f"cut.{'safetensors' if kind == 'safetensors' else 'pth'}"
    path.write_bytes(data[: int(share * len(data))])
    with pytest.raises(UserError, match=r"cut\.\w+ cannot be read: it is cut short"):
        read(str(path))


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"<!DOCTYPE html><html>Google Drive - Virus scan warning", "is a web page"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0", "is a pointer of Git LFS"),
        (b"\x80\x04not weights", "cannot be read"),
    ],
)
def test_what_downloads_leave_in_place_of_weights(data, words, tmp_path):
    (tmp_path / "weights.pth").write_bytes(data)
    with pytest.raises(UserError, match=words):
        read(str(tmp_path / "weights.pth"))


def test_places_without_a_file(tmp_path):
    with pytest.raises(UserError, match="there is no such file"):
        read(str(tmp_path / "none.pth"))
    with pytest.raises(UserError, match="is a folder"):
        read(str(tmp_path))
    for address in ("https://dl.fbaipublicfiles.com/dino/dino_deitsmall16_pretrain.pth", "hf://some/weights.pth"):
        with pytest.raises(UserError, match="Download the file yourself"):
            read(address)


@pytest.mark.parametrize("content", [[1, 2], {"epoch": 3}, {"state_dict": {"a": 1}}, torch.zeros(3)])
def test_a_file_without_a_state_dict(content, tmp_path):
    path = files.save(content, tmp_path / "nothing.pth")
    with pytest.raises(UserError, match="holds no state dict"):
        read(path)


def test_a_zip_of_other_things(tmp_path):
    with zipfile.ZipFile(tmp_path / "things.pth", "w") as archive:
        archive.writestr("readme.txt", "nothing")
    with pytest.raises(UserError, match="cannot be read"):
        read(str(tmp_path / "things.pth"))


# Layouts


@pytest.mark.parametrize(
    ("content", "wrong", "fitting"),
    [
        (files.simsiam, "moco", "simsiam"),
        (files.moco, "vissl", "moco"),
        (files.pycontrast, "simsiam", "pycontrast"),
        (files.mmselfsup, "torchvision", "mmselfsup"),
        (files.vissl, "mmselfsup", "vissl"),
        (files.swav, "dino", None),
        (files.barlow_twins, "timm", "wrapped"),
    ],
)
def test_a_wrong_layout_names_the_one_that_fits(content, wrong, fitting, tmp_path):
    path = files.save(content(files.resnet()), tmp_path / "weights.pth")
    if fitting is None:  # names of the backbone alone fit several layouts
        assert opened(path, wrong).found.layout.name == wrong
        return
    with pytest.raises(UserError, match=rf"does not have the layout {wrong}.* It fits --layout {fitting}\."):
        opened(path, wrong)


def test_a_file_that_no_layout_fits(tmp_path):
    held = {"params": {"haiku/w": torch.zeros(3), "haiku/b": torch.zeros(3)}, "step": 3}
    with pytest.raises(UserError, match=r"No encoder was found .*params with haiku/w"):
        opened(files.save(held, tmp_path / "byol.pth"))
    with pytest.raises(UserError, match=r"does not have the layout moco.* No other layout fits"):
        opened(files.save(held, tmp_path / "byol.pth"), "moco")


def test_the_vision_transformers_of_mmselfsup_have_names_of_their_own(tmp_path):
    state = {"backbone.patch_embed.projection.weight": torch.zeros(3), "backbone.layers.0.ln1.weight": torch.zeros(3)}
    path = files.save({"state_dict": state}, tmp_path / "mae.pth")
    with pytest.raises(UserError, match="No encoder was found"):
        opened(path)


def test_a_part_that_the_layout_or_the_file_lacks(tmp_path):
    path = files.save(files.dino(files.vit()), tmp_path / "checkpoint.pth")
    with pytest.raises(UserError, match="--part key: the layout dino has the parts teacher, student, backbone"):
        opened(path, "dino", "key")
    with pytest.raises(UserError, match="has the layout dino, which has the parts teacher, student, backbone: no key"):
        opened(path, part="key")
    held = files.dino(files.vit())
    del held["student"]
    with pytest.raises(UserError, match=r"looked for as backbone\.\* in student"):
        opened(files.save(held, tmp_path / "teacher.pth"), "dino", "student")


# Networks


def changed(change, content=files.simsiam, prefix="module.encoder."):
    held = content(files.resnet())
    change(held["state_dict"], prefix)
    return held


def test_weights_that_are_missing_or_too_many(tmp_path):
    lacking = changed(lambda state, prefix: state.pop(f"{prefix}layer4.1.conv2.weight"))
    with pytest.raises(UserError, match=r"not of resnet18: the file lacks layer4\.1\.conv2\.weight"):
        opened(files.save(lacking, tmp_path / "lacking.pth"))
    further = changed(lambda state, prefix: state.update({f"{prefix}layer4.1.conv9.weight": torch.zeros(2)}))
    with pytest.raises(UserError, match=r"holds module\.encoder\.layer4\.1\.conv9\.weight that the network does not"):
        opened(files.save(further, tmp_path / "further.pth"))


def test_another_network_is_named(tmp_path):
    path = files.save(files.simsiam(files.resnet(34)), tmp_path / "weights.pth")
    for name in ("resnet18", "resnet50"):
        with pytest.raises(UserError, match=rf"not of {name}.*Its shapes are those of resnet34"):
            opened(path, backbone=name)
    with pytest.raises(UserError, match="timm has no network named 'resnet0'"):
        opened(path, backbone="resnet0")


def test_a_network_that_shapes_do_not_tell_is_asked_for(tmp_path):
    def widen(state, prefix):
        state[f"{prefix}conv1.weight"] = torch.zeros(128, 3, 7, 7)

    path = files.save(changed(widen), tmp_path / "w2.pth")
    with pytest.raises(UserError, match=r"do not say which network they are of\. Name it by --backbone"):
        opened(path)
    with pytest.raises(UserError, match=r"conv1\.weight of shape \(128, 3, 7, 7\) instead of \(64, 3, 7, 7\)"):
        opened(path, backbone="resnet18")


def test_whole_and_broken_numbers(tmp_path):
    def quantise(state, prefix):
        state[f"{prefix}conv1.weight"] = state[f"{prefix}conv1.weight"].to(torch.int8)

    def break_(state, prefix):
        state[f"{prefix}bn1.weight"] = torch.full((64,), float("nan"))

    with pytest.raises(UserError, match=r"conv1\.weight in whole numbers \(torch\.int8\)"):
        opened(files.save(changed(quantise), tmp_path / "int8.pth"))
    with pytest.raises(UserError, match=r"not finite, in module\.encoder\.bn1\.weight"):
        opened(files.save(changed(break_), tmp_path / "nan.pth"))


def test_two_towers_of_other_colours_are_refused(tmp_path):
    """CMC's encoders see one and two channels of YDbDr."""
    state = {}
    for tower, channels in (("encoder1", 1), ("encoder2", 2)):
        state |= files.under(f"module.{tower}.", files.resnet())
        state[f"module.{tower}.conv1.weight"] = torch.zeros(64, channels, 7, 7)
    path = files.save({"model": state, "contrast": {"memory_1": torch.zeros(2, 2)}}, tmp_path / "CMC.pth")
    with pytest.raises(UserError, match=r"takes images of 1 colour channel\(s\)"):
        opened(path)
    with pytest.raises(UserError, match=r"module\.encoder2\.conv1\.weight.* 2 colour channel"):
        opened(path, part="encoder2")


def test_the_small_transformer_of_moco_v3_would_compute_other_features(tmp_path):
    """Its 12 heads leave no trace in the shapes of its weights."""
    small = files.vit("vit_small_patch16_224")
    path = files.save(files.moco_v3(small), tmp_path / "vit-s-300ep.pth.tar")
    with pytest.raises(UserError, match="12 heads in a block"):
        opened(path)
    assert opened(files.save(files.dino(small), tmp_path / "dino.pth")).fitted.backbone.name == "vit_small_patch16_224"


def test_position_embeddings_of_no_square(tmp_path):
    network = files.vit()
    state = network.state_dict() | {"pos_embed": torch.zeros(1, 150, 192)}
    with pytest.raises(UserError, match="150 position embeddings, which are not 1 and those of a square"):
        opened(files.save(state, tmp_path / "strip.pth"))
