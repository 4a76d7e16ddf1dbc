"""Mistakes in the command of a job, found by the code that its own processes run."""

import os

import pytest

from hardviews.data.pack import pack
from hardviews.errors import UserError
from hardviews.launch.command_check import Job, check, check_words, look_at
from hardviews.launch.invited import Invited
from hardviews.launch.preflight import Preflight, job_of
from hardviews.recipes import RECIPES
from hardviews.storage.sight import Remark
from hardviews.train.trainer import without_numbers
from jobs.knn import knn
from jobs.pack import pack as packing
from tests.data.helpers import Noise
from tests.launch.kubernetes.jobs import job

PLACES = ["--data", "s3://b/d", "--output", "s3://b/o"]


def found(*words: str, **changes) -> list[str]:
    return check(Job(["pretrain", *words], **{"nodes": (1, 2, 1)} | changes))[0]


@pytest.mark.parametrize(
    ("words", "changes", "parts"),
    [
        (["smok", *PLACES], {}, ["There is no recipe 'smok'", "Did you mean smoke?"]),
        (["", *PLACES], {}, ["There is no recipe ''"]),
        ([*PLACES, "smoke"], {}, ["The recipe comes first, before --data: pretrain smoke --data SHARDS"]),
        (["--training.epochs=3"], {}, ["The recipe comes first, before --training.epochs=3: pretrain digits "]),
        (["smoke", *PLACES, "--training.epoch", "3"], {}, ["--training.epoch", "--training.epochs"]),
        (["smoke", *PLACES, "--training.epochs=x"], {}, ["training.epochs"]),
        (["smoke", *PLACES, "extra"], {}, ["extra"]),
        (["smoke", *PLACES, "--dryrun"], {}, ["--dryrun is an option of torchx run", "torchx run --dryrun FILE."]),
        (["smoke", *PLACES, "--training.epochs", "0"], {}, ["training.epochs is 0"]),
        (["smoke", *PLACES, "--help"], {}, ["hardviews pretrain --help"]),
        (["smoke", *PLACES, "--training.batch", "64"], {"nodes": (1, 3, 1)}, ["-j 1:3x1", "at most -j 1:2x1"]),
        (["smoke", *PLACES], {"nodes": (2, 4, 8)}, ["-j 2:4x8", "6 groups of 32", "-j 1:1x6"]),
        (["smoke", *PLACES, "--training.accumulate", "3"], {"nodes": (1, 3, 1)}, ["2 groups", "3 micro-batches"]),
        (["smoke", *PLACES, "--training.accumulate", "4"], {}, ["4 micro-batch", "multiple of 128"]),
        (["smoke", *PLACES, "--training.group", "256"], {}, ["multiple of 256"]),
        (["photos_moco", *PLACES, "--training.group", "1"], {}, ["training.group is 1", "method.batchnorm"]),
        (["photos_hexa_moco", *PLACES, "--training.group", "1", "--method.batchnorm", "all"], {}, ["CutMix"]),
        (["photos", *PLACES, "--training.batch", "1", "--training.group", "1"], {"nodes": (1, 1, 1)}, ["SimCLR"]),
        (["smoke", "--data", "s3://b/d", "--output", "s3://b/d/run"], {}, ["lies in the packed dataset"]),
        (["smoke", *PLACES], {"scratch": 3}, ["64000000000 bytes", "3 MB", "cache-bytes 2850000", "--scratch 67369"]),
        (["smoke", *PLACES, "--precision.device", "cuda"], {"gpu": 0}, ["precision.device is cuda", "--gpu"]),
    ],
)
def test_every_mistake_in_a_pretraining_is_one_sentence(words, changes, parts):
    (message,) = found(*words, **changes)
    for part in parts:
        assert part in message
    assert "\n" not in message


def test_all_that_can_be_read_is_named_at_once():
    places = ["--data", "s3://b/d", "--output", "s3://b/d"]
    assert len(found("smoke", *places, "--precision.device", "cuda", nodes=(1, 9, 1), scratch=3, gpu=0)) == 4


@pytest.mark.parametrize(
    ("words", "scratch"),
    [
        (["smoke", *PLACES], None),
        (["smoke", *PLACES, "--training.epochs=3"], None),
        (["smoke", "--data", "<data: URL of a packed dataset>", "--output", "<output: URL>"], None),
        (["smoke", *PLACES], 70_000),
        (["smoke", *PLACES, "--loader.reader.cache-bytes", "2850000"], 3),
        (["smoke", *PLACES, "--loader.reader.cache-bytes", "0"], 3),
        (["smoke", *PLACES, "--loader.reader.cache-folder", "/mounted"], 3),
        (["smoke", "--data", "/mounted/d", "--output", "s3://b/o"], 3),
    ],
)
def test_a_command_without_mistakes_has_none(words, scratch):
    assert found(*words, nodes=(1, 6, 1), scratch=scratch) == []


@pytest.mark.parametrize(
    "name", ["smoke", "photos_hexa_dcluster", "digits_swav", "ibot_vits16_100_hvs", "hexa_moco_r50_200"]
)
def test_recipes_are_built_without_numbers(name):
    """One that could not be would not be checked."""
    assert without_numbers(RECIPES[name]()) is not None


@pytest.mark.parametrize(
    ("words", "part"),
    [
        (["knn", "--run", "o", "--data", "d", "--neighbour", "5"], "--neighbours"),
        (["knn", "--run", "o", "--data", "d", "--neighbours", "0"], "neighbours is (0,)"),
        (["linear", "--run", "o", "--data", "d", "--epoch", "5"], "--epochs"),
        (["linear", "--run", "o"], "no train data given"),
        (["fewshot", "--run", "o", "--data", "d", "--shots", "0"], "--shots is (0,)"),
        (["linear", "--run", "o", "--data", "d", "--wait", "-5"], "--wait is -5"),
        (["pack", "--source", "digits", "--out", "o", "--shard-byte", "5"], "--shard-bytes"),
        (["pack", "--source", "d", "--out", "o", "--torchvision", "CocoDetection"], "Supported are CIFAR10"),
        (["knn", "--run", "o", "--data", "d", "--device", "cuda"], "no GPU"),
    ],
)
def test_other_commands_are_read_too(words, part):
    (message,) = check(Job(words, gpu=0))[0]
    assert part in message


@pytest.mark.parametrize(
    ("variables", "part"),
    [
        ({"HARDVIEWS_WATCHDOG": "step=soon"}, "HARDVIEWS_WATCHDOG is 'step=soon'"),
        ({"HARDVIEWS_PATIENCE": "long"}, "HARDVIEWS_PATIENCE is 'long'"),
        ({"MLFLOW_TRACKING_URI": "localhost:5000"}, "MLFLOW_TRACKING_URI is localhost:5000"),
    ],
)
def test_the_environment_of_a_job_of_this_machine_is_read(variables, part):
    (message,) = found("smoke", *PLACES, here=True, variables=variables)
    assert part in message


def test_a_gpu_that_this_machine_lacks_is_missed_before_the_start(monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    (message,) = found("smoke", *PLACES, "--precision.device", "cuda", here=True)
    assert "torch sees none on this machine" in message
    (message,) = check(Job(["knn", "--run", "o", "--data", "d", "--device", "cuda"], here=True))[0]
    assert "PyTorch sees no GPU here" in message
    assert found("smoke", *PLACES, "--precision.device", "cuda") == []


def test_folders_are_looked_at_if_the_processes_run_here(tmp_path):
    data, output = f"{tmp_path}/data", f"{tmp_path}/run"
    commands = {
        "There is no packed dataset": ["pretrain", "smoke", "--data", data, "--output", output],
        "There is no folder of images at": ["pack", "--source", f"{tmp_path}/images", "--out", data],
        "There is no packed dataset at": ["knn", "--run", output, "--data", data],
    }
    for part, words in commands.items():
        for here in (True, False):
            mistakes, look = check(Job(words, here=here))
            assert mistakes == []
            seen = list(look())
            assert bool(seen) is here
            assert all(part in message for message in seen)
    (tmp_path / "run").write_text("a file")
    pack(Noise(300), f"{data}/train", shard_bytes=400_000)
    (message,) = check(Job(commands["There is no packed dataset"], here=True))[1]()
    assert f"{tmp_path}/run" in message
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data", "run"]  # nothing was made


def test_the_command_of_a_job_is_found_in_its_roles():
    asked = job_of(job("--a", "1", j="2:4x8", gpu=8), 5)
    assert asked.words == ["pretrain", "digits", "--data", "s3://b/d", "--output", "s3://b/o", "--a", "1"]
    assert (asked.nodes, asked.scratch, asked.gpu) == ((2, 4, 8), 5, 8)
    assert job_of(job(), local=True).gpu is None
    assert job_of(knn(data="d", output="o")).words[:3] == ["knn", "--run", "o"]
    assert job_of(packing(source="s", data="d")).words == ["pack", "--source", "s", "--out", "d"]
    app = job()
    app.roles[1].args[:2] = ["-m", "http.server"]
    assert job_of(app) is None


@pytest.mark.parametrize(
    ("words", "said"), [(["--run", "x"], "no train data given"), (["--ks", "0"], "Unrecognized options: --ks")]
)
def test_an_evaluation_on_several_nodes_is_checked_before_it_starts(words, said):
    with pytest.raises(UserError, match=said):
        check_words(["knn", *words], Invited(1, 1, 2), "")
    check_words(["knn", "--run", "x", "--data", "d"], Invited(1, 1, 2), "")
    check_words(["transfer", "--run", "x", "--sets", "a", "b"], Invited(1, 1, 2), "")


def test_what_is_not_to_be_looked_at_is_not():
    def never():
        raise AssertionError

    assert look_at(never, None) == {"mistakes": [], "remarks": [], "unseen": None}
    assert look_at(None, {}) == {"mistakes": [], "remarks": [], "unseen": None}


def test_a_place_that_cannot_be_seen_is_no_mistake(monkeypatch):
    monkeypatch.setattr("os.environ", dict(os.environ))

    def broken():
        yield "There is no bucket."
        yield Remark("The job waits.")
        raise OSError("no route")

    said = {"mistakes": ["There is no bucket."], "remarks": ["The job waits."], "unseen": "OSError: no route"}
    assert look_at(broken, {}) == said


def test_a_process_of_its_own_checks_words_and_places(s3):
    bucket = s3.bucket()
    pack(Noise(8), f"{bucket}/taken/train", shard_bytes=40_000)
    words = ["pack", "--source", "photographs", "--out"]
    flight = Preflight(Job([*words, f"{bucket}/taken"]))
    try:
        assert flight.words() == ([], [], None)
        (mistake,), remarks, failure = flight.places(s3.environment)
        assert f"'{bucket}/taken/train' already holds a packed dataset" in mistake
        assert (remarks, failure) == ([], None)
        flight.begin(Job([*words, f"{bucket}/free", "--shard-bites", "1"]))
        (mistake,), _, failure = flight.words()
        assert ("--shard-bytes" in mistake, failure) == (True, None)
        flight.begin(Job([*words, f"{bucket}/free"]))
        assert flight.words() == ([], [], None)
        assert flight.places(s3.environment) == ([], [], None)
    finally:
        flight.close()
    assert flight._process.poll() is not None


def test_a_check_that_cannot_run_says_why(monkeypatch):
    monkeypatch.setattr("hardviews.launch.preflight._CHECK", "hardviews.launch.nothing")
    flight = Preflight(Job(["pretrain"]))
    try:
        mistakes, _, failure = flight.words()
        assert mistakes == []
        assert "No module named hardviews.launch.nothing" in failure
        assert flight.places({})[0] == []
    finally:
        flight.close()
