import pytest
import torch
from sklearn.linear_model import LogisticRegression

from hardviews.cli import main
from hardviews.data.pack import pack
from hardviews.errors import UserError
from hardviews.evaluation.features.extract import Features
from hardviews.evaluation.features.preprocess import Preprocess
from hardviews.evaluation.probe import Task
from hardviews.evaluation.probes.transfer import Transfer, fit_transfer, metric_of, run_transfer, table
from hardviews.evaluation.result import Result
from hardviews.models.backbones import Backbone
from hardviews.models.encoder import Encoder, save
from hardviews.tracking.mlflow_run import Run
from hardviews.views.augmentation import Normalisation
from hardviews.world import ALONE
from tests.evaluation.test_features import Noise
from tests.evaluation.test_linear import problem

ENCODER = {"encoder": "timm:resnet10t", "image_size": 32, "device": "cpu", "baselines": False}


@pytest.fixture
def sets(tmp_path):
    for name, count in (("cifar10", 40), ("pets", 34)):
        for part, more in (("train", 20), ("test", 0)):
            pack(Noise(count + more), str(tmp_path / name / part), progress=False)
    return [f"{tmp_path}/cifar10", f"{tmp_path}/pets"]


def test_the_choice_and_the_refit_are_those_of_scikit_learn():
    scale = torch.logspace(-2, 2, 6)  # of `problem`; this protocol does not standardise
    train, test = (Features((f.values_ND - 5) / scale, f.labels_N) for f in problem(noise=2.0))
    held = torch.arange(len(train)) % 5 == 0
    weights = (100.0, 1.0, 0.01)
    fitted = fit_transfer(Transfer("run", sets=("x",), weights_l2=weights), Task(train, held, 4, ALONE))
    x, y = train.values_ND.double(), train.labels_N

    def sklearn(weight, rows):
        # scikit-learn minimises |w|^2 / 2 + C * sum of losses: C = 1 / weight.
        return LogisticRegression(C=1 / weight, max_iter=50000, tol=1e-10).fit(x[rows], y[rows])

    accuracy = {weight: 100 * sklearn(weight, ~held).score(x[held], y[held]) for weight in weights}
    chosen = fitted.choice.settings["l2"]
    assert accuracy[chosen] == max(accuracy.values()) == pytest.approx(fitted.choice.held_out_top1)
    every = torch.ones(len(train), dtype=torch.bool)
    expected = sklearn(chosen, every).predict(test.values_ND.double())
    assert torch.equal(fitted.predict(test)[""].argmax(1), torch.from_numpy(expected))


def test_nothing_of_the_shorter_side_is_cut_off():
    assert Transfer("run", sets=("x",)).preprocess(224) == Preprocess(224, 224)
    assert Transfer("run", sets=("x",), crop=96, resize=128).preprocess(224) == Preprocess(128, 96)


def test_every_set_has_its_own_metric():
    assert [metric_of(name) for name in ("cifar10", "Flowers-102", "oxford_iiit_pet", "pets")] == [
        *("top1", "mean_class", "mean_class", "mean_class")
    ]
    assert metric_of("pets", "top1") == "top1"
    assert [metric_of(name) for name in ("FGVCAircraft.family", "OxfordIIITPet", "DTD.2")] == [
        *("mean_class", "mean_class", "top1")
    ]
    metrics = {"pretrained": {"transfer/top1": 70.0, "transfer/mean_class": 60.0}}
    found = {name: Result("transfer", metrics, {}, "", "") for name in ("cifar10", "pets")}
    cells = [list(column.cells) for column in table(found).columns]
    assert cells[1][:2] == ["top-1", "mean per class"] and cells[2] == ["70.0", "60.0", "65.0"]


def test_the_command_evaluates_all_sets(sets, project, client, capsys):
    main(["transfer", "--encoder", "timm:resnet10t", "--image-size", "32", "--device", "cpu", "--no-baselines",
          "--project", str(project), "--weights-l2", "1", "100", "--sets", *sets])  # fmt: skip
    said = capsys.readouterr().out
    assert "cifar10" in said and "pets" in said and "mean per class" in said


def test_a_set_that_is_not_there_is_reported_and_the_others_are_evaluated(sets, project, tmp_path, capsys):
    places = (sets[0], f"{tmp_path}/none")
    config = Transfer(**ENCODER, sets=places, weights_l2=(1.0,), project=str(project))
    with pytest.raises(UserError, match=r"1 of 2 data sets were not evaluated\. none: There is no packed dataset"):
        run_transfer(config)
    assert "cifar10" in capsys.readouterr().out
    with pytest.raises(UserError, match="name the data sets"):
        Transfer(**ENCODER)


def test_every_set_has_a_run_and_a_headline_of_its_own_also_in_one_job(sets, project, client, tmp_path, monkeypatch):
    """A job that is started again goes on in its runs: their test sets distinguish them."""
    monkeypatch.setenv("TORCHX_JOB_ID", "kubernetes://torchx/ns:transfer-abc")
    encoder = Encoder(Backbone("resnet10t", small_stem=True), Normalisation(), None, 16)
    with Run.start("hardviews", "pretrain", folder=project) as run:
        encoder.provenance = {"run_id": run.run_id, "samples": 64}
    save(encoder, tmp_path / "output")
    where = {"project": str(project), "device": "cpu", "baselines": False}
    found = run_transfer(Transfer(str(tmp_path / "output"), sets=tuple(sets), weights_l2=(1.0,), **where))
    assert len({result.run_id for result in found.values()}) == 2
    assert {"eval/transfer_cifar10_top1", "eval/transfer_pets_top1"} <= client.get_run(run.run_id).data.metrics.keys()
