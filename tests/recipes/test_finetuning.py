"""`hardviews finetune`: an encoder, a dataset and a recipe become a training on some of the labels."""

import sys
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from hardviews.cli import main
from hardviews.data.index import Index
from hardviews.data.pack import pack
from hardviews.errors import UserError
from hardviews.evaluation import subject
from hardviews.evaluation.subject import Subject
from hardviews.methods.supervised import SupervisedConfig
from hardviews.models.encoder import load
from hardviews.recipes.finetuning import read_finetune
from hardviews.runs.audit import audit
from hardviews.tracking.failures import MissingRun
from hardviews.tracking.mlflow_run import NullRun, Run
from hardviews.train.review import Review
from tests.data.helpers import Noise
from tests.train.runs import dying, packed, rows, simclr, train, weights

ONCE = ("--training.epochs", "1")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a dataset `shards` and a pretraining `run`, which no server knows."""
    folder = tmp_path_factory.mktemp("finetune")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Run, "start", lambda *_, **__: NullRun("f" * 32))
        patch.setattr(Review, "finish", lambda *_: None)
        train(simclr(1), packed(folder / "shards"), folder / "run")
    return folder


def words(place: Path, output: Path, *more: str) -> list[str]:
    named = ["--data", str(place / "shards"), "--output", str(output), "--project", str(place / "project")]
    return [str(place / "run"), "--recipe", "digits_finetune", *named, *more]


def test_the_recipe_is_for_the_encoders_network_pixels_and_classes(place: Path, tmp_path: Path) -> None:
    read = read_finetune(words(place, tmp_path / "tuned", "--training.epochs", "3", "--method.smoothing=0.1"))
    where, recipe = read.where, read.recipe
    encoder = load(str(place / "run"))
    assert recipe.backbone == encoder.backbone
    assert isinstance(recipe.method, SupervisedConfig)
    assert (recipe.method.classes, recipe.method.smoothing) == (2, 0.1)
    assert (recipe.method.view.size, recipe.method.view.normalisation) == (16, encoder.normalisation)
    assert recipe.training.epochs == 3
    assert (where.init, where.data) == (str(place / "run"), str(place / "shards"))
    assert not (tmp_path / "tuned").exists()


def test_some_labels_are_drawn_once_and_listed_in_the_output(place: Path, tmp_path: Path) -> None:
    output = tmp_path / "tuned"
    where = read_finetune(words(place, output, "--labels", "20-per-class")).where
    drawn = Index.load(where.data)
    assert Counter(drawn.labels.tolist()) == {0: 20, 1: 20}
    assert where.data == f"{output}/labelled/20-per-class-seed0/train"
    before = (output / "labelled").stat().st_mtime_ns
    assert read_finetune(words(place, output, "--labels", "20-per-class")).where == where
    assert (output / "labelled").stat().st_mtime_ns == before
    other = read_finetune(words(place, output, "--labels", "20-per-class", "--labels-seed", "1")).where
    assert set(Index.load(other.data).samples["crc32"]) != set(drawn.samples["crc32"])


@pytest.mark.parametrize("known", [True, False], ids=["same server", "another server"])
def test_a_tuned_run_is_exact_and_lies_below_its_pretraining(
    place: Path, tmp_path: Path, known: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    starts: list[dict[str, Any]] = []

    def start(*_: Any, **given: Any) -> NullRun:
        starts.append(given)
        if given.get("parent") and not known:
            raise MissingRun("The run is not there.")
        return NullRun("a" * 32)

    monkeypatch.setattr(Run, "start", start)
    monkeypatch.setattr(Review, "finish", lambda *_: None)
    output = tmp_path / "tuned"
    main(["finetune", *words(place, output, "--labels", "50%", "--training.epochs", "2")])
    assert not audit(str(output)).problems
    assert 0 <= rows(output)[-1]["accuracy/top1"] <= 1
    assert starts[0]["parent"] == "f" * 32
    last = starts[-1]["tags"]
    assert last["hardviews.init"] == str(place / "run")
    assert (len(starts), last.get("hardviews.pretraining_run")) == ((1, None) if known else (2, "f" * 32))
    first, second = (load(str(folder)).digest for folder in (place / "run", output))
    assert first != second


@pytest.mark.parametrize(
    ("more", "told"),
    [
        (("--labels", "10%"), "--labels 10% gives 9 images, fewer than a batch of 32"),
        (("--labels", "a few"), "is not a number of labels"),
        (("--recipe", "digits"), "does not train by labels alone"),
        (("--recipe", "digits_fine"), "Did you mean digits_finetune"),
        (("--run", "nowhere"), "There is no encoder at nowhere"),
        (("--data", "nowhere"), "There is no packed dataset at 'nowhere'"),
        (("--training.epoch", "3"), "--training.epochs"),
        (("--method.classes", "1"), "method.classes is 1"),
    ],
)
def test_mistakes_are_told_before_anything_is_written(
    place: Path, tmp_path: Path, more: tuple[str, ...], told: str
) -> None:
    given = words(place, tmp_path / "tuned")
    if more[0] in given:
        at = given.index(more[0])
        given[at : at + 2] = more
    elif more[0] == "--run":
        given[0] = more[1]
    else:
        given += more
    with pytest.raises(UserError, match=told.replace(".", r"\.")):
        read_finetune(given)
    assert not (tmp_path / "tuned").exists()


def test_the_encoder_is_read_once_and_a_run_that_was_begun_goes_on_without_it(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Run, "start", lambda *_, **__: NullRun("a" * 32))
    monkeypatch.setattr(Review, "finish", lambda *_: None)
    read: list[Any] = []

    def counted(url: Any) -> Any:
        read.append(url)
        return load(url)

    monkeypatch.setattr(subject, "load", counted)
    more = ("--labels", "50%", "--training.epochs", "2", "--training.checkpoint-steps", "1")
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    main(["finetune", *words(place, whole, *more)])
    assert read == [str(place / "run")]
    with dying(2):
        main(["finetune", *words(place, cut, *more)])
    read.clear()
    (place / "run").rename(place / "elsewhere")
    try:
        main(["finetune", *words(place, cut, *more)])
    finally:
        (place / "elsewhere").rename(place / "run")
    assert set(read) <= {str(place / "run")}
    assert weights(cut) == weights(whole)


@pytest.fixture(scope="module")
def tuned(place: Path) -> Path:
    """The output of a finished fine-tuning."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Run, "start", lambda *_, **__: NullRun("a" * 32))
        patch.setattr(Review, "finish", lambda *_: None)
        main(["finetune", *words(place, place / "tuned", "--labels", "50%", *ONCE)])
    return place / "tuned"


def files(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_a_run_that_was_begun_is_not_of_another_encoder(place: Path, tuned: Path) -> None:
    before = files(tuned)
    with pytest.raises(UserError, match=r"began from another encoder at .*run "):
        read_finetune(["timm:resnet18", *words(place, tuned, "--labels", "50%", *ONCE)[1:]])
    assert files(tuned) == before


@pytest.mark.parametrize("labels", ["50%", "20-per-class"])
def test_an_encoder_that_was_never_there_is_told_before_the_output_is_compared(
    place: Path, tuned: Path, labels: str
) -> None:
    before = files(tuned)
    given = ["nowhere", *words(place, tuned, "--labels", labels, *ONCE, "--optimizer.learning-rate", "9")[1:]]
    with pytest.raises(UserError, match=rf"There is no encoder at nowhere.* began from the encoder at {place / 'run'}"):
        read_finetune(given)
    assert files(tuned) == before


def test_labels_of_other_data_are_not_those_that_were_drawn(place: Path, tmp_path: Path) -> None:
    output = tmp_path / "tuned"
    given = words(place, output, "--labels", "20-per-class")
    where = read_finetune(given).where
    other = list(given)
    other[other.index("--data") + 1] = packed(tmp_path / "other", samples=70)
    before = files(output)
    told = rf"drawn from {place / 'shards'}, .* give --data {place / 'shards'}; .* give another --output"
    with pytest.raises(UserError, match=told):
        read_finetune(other)
    # Older versions kept no note of the data: the images themselves are compared.
    (output / "labelled" / "20-per-class-seed0" / "drawn.json").unlink()
    with pytest.raises(UserError, match="drawn from other data"):
        read_finetune(other)
    assert read_finetune(given).where == where
    before.pop(str(output / "labelled" / "20-per-class-seed0" / "drawn.json"))
    assert files(output) == before
    # The same images, packed otherwise and elsewhere, give the same draw.
    pack(Noise(90), str(tmp_path / "again"), shard_bytes=90_000, seed=3)
    other[other.index("--data") + 1] = str(tmp_path / "again")
    assert read_finetune(other).where == where


@pytest.mark.parametrize(
    ("more", "told"),
    [
        (("50%", "--labels-seed", "1"), "50% seed 0, now 50% seed 1"),
        (("100%",), "50% seed 0, now 100%"),
        (("simclr-1%",), "50% seed 0, now simclr-1%"),
    ],
)
def test_a_run_that_was_begun_keeps_its_labels(place: Path, tuned: Path, more: tuple[str, ...], told: str) -> None:
    before = files(tuned)
    with pytest.raises(UserError, match=told):
        read_finetune(words(place, tuned, *ONCE, "--labels", *more))
    assert files(tuned) == before


def test_an_encoder_that_is_gone_keeps_its_name_in_the_record(
    place: Path, tuned: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    starts: list[Mapping[str, str]] = []

    def start(*_: Any, tags: Mapping[str, str], **__: Any) -> NullRun:
        starts.append(tags)
        return NullRun("a" * 32)

    monkeypatch.setattr(Run, "start", start)
    monkeypatch.setattr(Review, "finish", lambda *_: None)
    record = (tuned / "run.json").read_bytes()
    monkeypatch.chdir(place)
    again = ["finetune", "run", *words(place, tuned, "--labels", "50%", *ONCE)[1:]]  # from its folder
    monkeypatch.setattr(sys, "argv", ["hardviews", *again])
    (place / "run").rename(place / "elsewhere")
    try:
        main(again)
    finally:
        (place / "elsewhere").rename(place / "run")
    (tags,) = starts
    named = f"hardviews finetune {place / 'run'}"
    assert (tags["hardviews.init"], tags["mlflow.source.name"]) == (str(place / "run"), named)
    assert tags["hardviews.command"].startswith(f"{named} ")
    assert (tuned / "run.json").read_bytes() == record


def test_tables_call_a_tuned_encoder_so(place: Path, tuned: Path) -> None:
    for one in (Subject(run=str(tuned)), Subject(run=str(tuned), checkpoint="newest")):
        assert one.called(one.open("project")) == "fine-tuned encoder"
    pretrained = Subject(run=str(place / "run"))
    assert pretrained.called(pretrained.open("project")) == "pretrained encoder"
    # Named as any encoder, it has the name of its file.
    other = Subject(encoder=str(tuned))
    assert other.called(other.open("project")) == "encoder tuned"


def test_a_run_is_not_tuned_into_itself(place: Path) -> None:
    before = sorted(place.rglob("*"))
    with pytest.raises(UserError, match="is the run that is fine-tuned"):
        read_finetune(words(place, place / "run", "--output", f"{place / 'run'}/"))
    assert sorted(place.rglob("*")) == before


def test_classes_with_fewer_labels_than_asked_are_told(
    place: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    tuning = read_finetune(words(place, tmp_path / "tuned", "--labels", "500-per-class")).tuning
    assert "--labels 500-per-class: classes have fewer images; each gives 45." in caplog.text
    assert tuning.of_labels == "at most 500 labels per class (90 images, 45 of each class, seed 0)"


def test_weights_of_another_code_are_to_be_imported(place: Path, tmp_path: Path) -> None:
    for name in ("r18.pth", "model.safetensors"):
        (tmp_path / name).write_bytes(b"weights")
        given = [str(tmp_path / name), *words(place, tmp_path / "tuned")[1:]]
        with pytest.raises(UserError, match=f"hardviews import {tmp_path / name} --output"):
            read_finetune(given)


@pytest.mark.parametrize("inside", ["", "/", "/runs/tuned"])
def test_an_output_in_the_folder_of_the_data_is_refused(place: Path, tmp_path: Path, inside: str) -> None:
    packed(tmp_path / "both" / "train")
    given = words(place, tmp_path, "--labels", "50%", *ONCE)
    given[given.index("--data") + 1] = str(tmp_path / "both")
    given[given.index("--output") + 1] = f"{tmp_path / 'both'}{inside}"
    before = files(tmp_path)
    with pytest.raises(UserError, match="lies in the folder of the dataset"):
        read_finetune(given)
    assert files(tmp_path) == before


def test_the_recipe_has_to_be_named(place: Path, tmp_path: Path) -> None:
    given = words(place, tmp_path / "tuned")
    del given[given.index("--recipe") : given.index("--recipe") + 2]
    with pytest.raises(UserError, match="--recipe"):
        read_finetune(given)
    for asked in (["--help"], [str(place / "run"), "--recipe", "digits_finetune", "--help"]):
        with pytest.raises(SystemExit) as end:
            read_finetune(asked)
        assert not end.value.code
