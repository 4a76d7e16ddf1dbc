"""Any encoder can be put into a table: of a run, of a checkpoint, of a tracking run, of a file, of timm."""

import pickle
import sys
from dataclasses import replace

import pytest
import safetensors.torch
import timm
import torch

from hardviews.data.pack import pack
from hardviews.errors import UserError
from hardviews.evaluation.probes.knn import Knn, evaluate_knn
from hardviews.evaluation.subject import Subject
from hardviews.methods.dino import DINOConfig
from hardviews.models.backbones import Backbone
from hardviews.models.encoder import Encoder, load, save
from hardviews.runs.checkpoint import Checkpoints
from hardviews.runs.record import Record
from hardviews.runs.where import Where
from hardviews.strategies.random_views import RandomViews
from hardviews.tracking.mlflow_run import Run
from hardviews.train.loop import pretrain
from hardviews.views.augmentation import Normalisation
from tests.evaluation.test_features import Noise
from tests.train.runs import BATCH, simclr

NAME = "resnet10t"


@pytest.fixture(params=["backbone", "momentum"])
def trained(request, tmp_path):
    """The output of a finished training that exports its backbone, or a moving average of it."""
    pack(Noise(BATCH * 3), str(tmp_path / "data"), progress=False)
    recipe = simclr(1, checkpoint_steps=1)
    if request.param == "momentum":
        view = recipe.method.view
        method = DINOConfig(even=view, odd=view, locals=0, hidden=16, bottleneck=8, outputs=12)
        recipe = replace(recipe, method=method, strategy=RandomViews())
    where = Where(str(tmp_path / "data"), str(tmp_path / "output"), str(tmp_path / "tracking"))
    pretrain(recipe, where)
    return where.output


@pytest.fixture
def network():
    torch.manual_seed(3)
    return timm.create_model(NAME, num_classes=7)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({}, "name one encoder"),
        ({"run": "a", "encoder": "b"}, "name one encoder"),
        ({"run": "a", "weights": "w.pth"}, "--weights is for a network of timm, and a is none"),
        ({"encoder": "b", "image_size": 32}, "--image-size is for a network of timm"),
        ({"run": "a", "checkpoint": "last"}, "--checkpoint last is no checkpoint"),
        ({"encoder": "timm:resnet18", "checkpoint": "newest"}, "--checkpoint newest is no checkpoint"),
        ({"encoder": "timm:resnet18", "image_size": 0}, "--image-size is 0"),
    ],
)
def test_mistakes_are_reported_at_once(options, words):
    with pytest.raises(UserError, match=words):
        Subject(**options)


@pytest.mark.parametrize("kind", ["safetensors", "pth", "wrapped"])
def test_a_network_of_timm_with_weights_of_a_file(network, tmp_path, kind):
    state = network.state_dict()
    path = tmp_path / f"weights.{'safetensors' if kind == 'safetensors' else 'pth'}"
    if kind == "safetensors":
        safetensors.torch.save_file(state, path)
    else:
        content = {"state_dict": {f"module.{key}": value for key, value in state.items()}, "epoch": 3}
        torch.save(state if kind == "pth" else content, path)
    encoder = Subject(encoder=f"timm:{NAME}", weights=str(path)).open("project")
    images = torch.randint(0, 256, (2, 3, 64, 64), dtype=torch.uint8)
    configured = timm.get_pretrained_cfg(NAME)
    mean, std = (torch.tensor(values).reshape(3, 1, 1) for values in (configured.mean, configured.std))
    network.reset_classifier(0)
    with torch.no_grad():
        expected = network.eval()((images / 255 - mean) / std)
    torch.testing.assert_close(encoder.embed(images), expected, atol=1e-5, rtol=1e-4)
    assert encoder.image_size == configured.input_size[-1]


def test_an_untrained_network_of_timm_is_the_same_every_time():
    first, second = (Subject(encoder=f"timm:{NAME}", image_size=32).open("project") for _ in range(2))
    assert first.digest == second.digest and first.image_size == 32


def test_files_of_other_networks_and_of_more_than_weights_are_refused(network, tmp_path):
    other = tmp_path / "other.safetensors"
    safetensors.torch.save_file(timm.create_model("resnet18", num_classes=0).state_dict(), other)
    code = tmp_path / "code.pth"
    code.write_bytes(pickle.dumps({"state_dict": sys.exit}))
    cases = [
        (str(other), f"not of {NAME}: the file lacks|does not|No encoder"),
        (str(code), "objects in a file may run code|cannot be read"),
        (f"{tmp_path}/none.pth", "there is no such file"),
    ]
    torch.save([1, 2], tmp_path / "list.pth")
    cases.append((f"{tmp_path}/list.pth", "holds no state dict"))
    (tmp_path / "cut.safetensors").write_bytes(other.read_bytes()[:100])
    cases.append((f"{tmp_path}/cut.safetensors", "cannot be read"))
    for path, words in cases:
        with pytest.raises(UserError, match=words):
            Subject(encoder=f"timm:{NAME}", weights=path).open("project")
    deeper = tmp_path / "deeper.safetensors"  # holds all that the shallower network needs, and more
    safetensors.torch.save_file(timm.create_model("resnet34", num_classes=10).state_dict(), deeper)
    with pytest.raises(UserError, match=r"holds layer1\.2\.\S+ and \d+ more that the network does not have"):
        Subject(encoder="timm:resnet18", weights=str(deeper)).open("project")
    with pytest.raises(UserError, match="no network named"):
        Subject(encoder="timm:resnet0").open("project")


def test_the_encoder_of_an_mlflow_run_is_fetched(project, tmp_path, capsys):
    encoder = Encoder(Backbone(NAME, small_stem=True), Normalisation(), None, 16)
    with Run.start("exp", "pretrain", folder=project) as run:
        encoder.provenance = {"run_id": run.run_id, "samples": 64}
        run.log_encoder(encoder, step=64)
    found = Subject(run=run.run_id).open(str(project))
    assert found.digest == encoder.digest and found.provenance["run_id"] == run.run_id
    with Run.start("exp", "empty", folder=project) as empty:
        pass
    with pytest.raises(UserError, match="has logged no encoder yet"):
        Subject(run=empty.run_id).open(str(project))
    with pytest.raises(UserError, match="is not in the tracking store"):
        Subject(run="0" * 32).open(str(project))


def test_the_newest_checkpoint_of_a_training_is_evaluated(trained, tmp_path):
    """Of a real training whose last checkpoint and export are the same weights."""
    output = trained
    exported = load(output)
    newest = Subject(run=output, checkpoint="newest").open("project")
    assert newest.digest == exported.digest
    assert newest.provenance["samples"] == exported.provenance["samples"]
    (name, *earlier) = Checkpoints(output).names()
    assert Subject(run=output, checkpoint=name).open("project").digest == exported.digest
    assert earlier and Subject(run=output, checkpoint=earlier[0]).open("project").digest != exported.digest
    with pytest.raises(UserError, match="has no checkpoint step-00009999"):
        Subject(run=output, checkpoint="step-00009999").open("project")
    with pytest.raises(UserError, match="no run at"):
        Subject(run=str(tmp_path), checkpoint="newest").open("project")
    record = Record.read(output)
    Record(record.run_id, record.recipe, record.settings, record.dataset).write(str(tmp_path / "old"))
    with pytest.raises(UserError, match="an older version wrote it"):
        Subject(run=str(tmp_path / "old"), checkpoint="newest").open("project")


def test_a_foreign_encoder_gets_a_run_of_its_own(project, client, tmp_path):
    for part, count in (("train", 30), ("test", 12)):
        pack(Noise(count), str(tmp_path / part), progress=False)
    places = {"train": f"{tmp_path}/train", "test": f"{tmp_path}/test", "project": str(project), "device": "cpu"}
    result = evaluate_knn(Knn(encoder=f"timm:{NAME}", image_size=32, **places))
    run = client.get_run(result.run_id)
    assert run.info.status == "FINISHED" and "mlflow.parentRunId" not in run.data.tags
    assert run.data.params["encoder"] == f"timm:{NAME}" and "knn/top1" in run.data.metrics


def test_files_of_exported_encoders_are_encoders(tmp_path):
    encoder = Encoder(Backbone(NAME, small_stem=True), Normalisation(), None, 16)
    save(encoder, tmp_path / "kept")
    assert Subject(encoder=str(tmp_path / "kept")).open("project").digest == encoder.digest
