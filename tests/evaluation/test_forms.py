"""Evaluations of data in every form: folder, list file, torchvision set."""

import pytest

from hardviews.cli import main
from hardviews.data.pack_command import Packing
from hardviews.errors import UserError
from hardviews.evaluation.probes.fewshot import Fewshot, evaluate_fewshot
from hardviews.evaluation.probes.knn import Knn, evaluate_knn
from hardviews.evaluation.probes.linear import Linear, evaluate_linear
from hardviews.evaluation.probes.transfer import Transfer, run_transfer
from tests.data.layouts import class_folders, dtd, eurosat, list_of

SUBJECT = {"encoder": "timm:resnet10t", "image_size": 32, "device": "cpu", "baselines": False, "overlap": "off"}


@pytest.fixture
def forms(tmp_path, project):
    """The same images in every form; their content, so their held-out part too, is one."""
    photos = class_folders(tmp_path / "photos", 20)
    Packing(str(photos), str(tmp_path / "shards")).run()
    return [str(tmp_path / "shards"), str(photos), f"{photos}/?keys={keys_of(tmp_path)}"]


def keys_of(tmp_path):
    train = Packing(str(tmp_path / "photos"), str(tmp_path / "again")).given.parts(print)["train"]
    (tmp_path / "keys").write_text("".join(f"{train.key(i)}\n" for i in range(len(train))))
    return tmp_path / "keys"


def test_every_form_of_one_data_set_gives_the_same_scores(forms, project, client):
    runs = [evaluate_knn(Knn(**SUBJECT, data=data, project=str(project))) for data in forms]
    assert runs[0].metrics == runs[1].metrics == runs[2].metrics
    tests = {client.get_run(run.run_id).data.tags["hardviews.dataset.test"] for run in runs}
    assert len(tests) == 1  # so they can be compared


@pytest.mark.parametrize(("kind", "evaluate"), [(Linear, evaluate_linear), (Fewshot, evaluate_fewshot)])
def test_other_protocols_take_them_too(kind, evaluate, tmp_path, project, client):
    address = f"torchvision:DTD?root={dtd(tmp_path / 'root')}&split=train+val"
    result = evaluate(kind(**SUBJECT, data=address, project=str(project)))
    assert result.classes == 3
    assert client.get_run(result.run_id).info.run_name == f"{result.name} DTD/test, resnet10t, untrained"


def test_train_and_test_are_named_apart(tmp_path, project):
    for part, count in (("a", 8), ("b", 3)):
        class_folders(tmp_path / part, count, count)
    list_of(tmp_path / "b", tmp_path / "b.txt")
    config = Knn(**SUBJECT, train=f"{tmp_path}/a", test=f"{tmp_path}/b.txt", project=str(project))
    assert evaluate_knn(config).classes == 3
    with pytest.raises(UserError, match=r"--test cannot stand beside it\. Give --train and --test"):
        evaluate_knn(Knn(**SUBJECT, data=f"{tmp_path}/a", test=f"{tmp_path}/b.txt", project=str(project)))


def test_a_transfer_goes_on_without_the_sets_that_are_missing(tmp_path, project, capsys):
    sets = (
        f"torchvision:DTD?root={dtd(tmp_path / 'root')}",
        f"torchvision:DTD?root={tmp_path}/root&partition=2",
        f"torchvision:StanfordCars?root={tmp_path}/root",
        f"torchvision:EuroSAT?root={eurosat(tmp_path / 'root')}",
    )
    with pytest.raises(UserError, match=r"1 of 4 data sets were not evaluated\. StanfordCars: .*from a mirror"):
        run_transfer(Transfer(**SUBJECT, sets=sets, weights_l2=(1.0,), project=str(project)))
    said = capsys.readouterr().out
    assert "EuroSAT" in said and "DTD" in said and "DTD.2" in said


def test_a_missing_set_ends_the_command_with_a_sentence(tmp_path, project, capsys):
    words = ["--encoder", "timm:resnet10t", "--image-size", "32", "--project", str(project), "--device", "cpu"]
    with pytest.raises(SystemExit) as end:
        main(["knn", *words, "--data", f"torchvision:Food101?root={tmp_path}/none"])
    said = capsys.readouterr().err
    assert end.value.code == 2 and "food-101.tar.gz" in said and "Traceback" not in said
