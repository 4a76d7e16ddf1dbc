"""Checks of a job's places before it is submitted."""

import json
import threading
from dataclasses import asdict, replace

import pytest

from hardviews.data.index import Index
from hardviews.data.pack import pack
from hardviews.data.pack_command import Packing
from hardviews.data.places import look_at_evaluation, look_at_packing
from hardviews.errors import UserError
from hardviews.runs.checkpoint import Checkpoints
from hardviews.runs.life import Life
from hardviews.runs.manifest import Progress
from hardviews.runs.record import Record
from hardviews.runs.where import Where
from hardviews.storage.sight import Unseen
from hardviews.storage.store import open_store
from hardviews.train import places
from hardviews.train.monitor_config import MonitorConfig
from hardviews.train.places import look_at_run
from tests.data.helpers import Noise
from tests.train.runs import simclr


@pytest.fixture
def bucket(s3):
    return s3.bucket()


@pytest.fixture
def data(bucket):
    """The address of a folder with a packed `train`."""
    pack(Noise(40), f"{bucket}/data/train", shard_bytes=40_000)
    return f"{bucket}/data"


def found(data, output, recipe=None, **where) -> list[str]:
    return list(look_at_run(Where(data, output, **where), recipe or simclr()))


def begin(output: str, data: str, recipe=None) -> None:
    """Write the record of a run, as its first life does."""
    recipe = recipe or simclr()
    Record("id", recipe.name, recipe.settings(), Index.load(f"{data}/train").digest, data=data).write(output)


def test_places_in_order_show_nothing(bucket, data):
    assert found(data, f"{bucket}/run") == []
    assert found(f"{data}/train", f"{bucket}/run") == []
    begin(f"{bucket}/run", data)
    assert found(data, f"{bucket}/run") == []


def test_missing_data_and_buckets_are_named_together_in_the_words_of_the_training(bucket):
    none, output = found(f"{bucket}/nothing", "s3://nobody-has-this/run")
    with pytest.raises(UserError) as error:
        Index.load(f"{bucket}/nothing")
    assert none == str(error.value)
    assert "There is no bucket 'nobody-has-this'" in output


def test_a_dataset_that_is_too_small_is_refused(bucket, data):
    (message,) = found(data, f"{bucket}/run", simclr(batch=64))
    assert "40 samples, fewer than one global batch of 64" in message


def test_an_output_that_lies_in_the_dataset_is_refused(data):
    (message,) = found(data, f"{data}/train/run")
    assert "lies in the packed dataset" in message


def test_an_output_of_another_recipe_is_refused_with_every_setting(bucket, data):
    output = f"{bucket}/run"
    begin(output, data)
    other = simclr(epochs=3, seed=5)
    (message,) = found(data, output, other)
    for part in ("holds a run", "training.epochs was 2, now 3", "training.seed was 0, now 5", "--accept-changes"):
        assert part in message
    assert found(data, output, other, accept_changes=True) == []
    # Once there is a checkpoint, the order of the samples cannot change any more.
    progress = Progress(3, 48, "id", simclr().digest(), Index.load(f"{data}/train").digest, 1)
    Checkpoints(output).save({}, progress)
    (message,) = found(data, output, other, accept_changes=True)
    assert "training.seed cannot change" in message


def test_an_output_of_another_dataset_is_refused(bucket, data):
    pack(Noise(50), f"{bucket}/other", shard_bytes=40_000)
    begin(f"{bucket}/run", data)
    (message,) = found(f"{bucket}/other", f"{bucket}/run")
    assert "holds a run on another dataset" in message


def test_an_output_is_compared_though_its_dataset_is_missing(bucket, data):
    begin(f"{bucket}/run", data)
    assert len(found(f"{bucket}/nothing", f"{bucket}/run", simclr(epochs=3))) == 2


@pytest.mark.parametrize(("changes", "refused"), [({}, True), ({"leaving": True}, False), ({"end": "finished"}, False)])
def test_an_output_that_another_job_trains_is_refused(bucket, data, monkeypatch, changes, refused):
    output = f"{bucket}/run"
    begin(output, data)
    life, store, over = (
        Life(2, 1, 0, 0.0, "host-7", 5, 0.0, job="pretrain-x", **changes),
        open_store(output),
        threading.Event(),
    )

    def live() -> None:
        step = 5
        while not over.wait(0.1):
            step += 1
            store.write("lives/0002.json", json.dumps(asdict(replace(life, reached=step))).encode())

    store.write("lives/0002.json", json.dumps(asdict(life)).encode())
    thread = threading.Thread(target=live)
    thread.start()
    try:
        messages = found(data, output)
    finally:
        over.set()
        thread.join()
    assert len(messages) == refused
    for part in ("is being trained by another job (pretrain-x)", "life 2 on host-7", "another --output"):
        assert all(part in message for message in messages)


def test_a_life_that_ended_without_notice_is_over(bucket, data, monkeypatch):
    monkeypatch.setattr(places, "SILENCE", 0.5)
    begin(f"{bucket}/run", data)
    life = Life(1, 1, 0, 0.0, "host", 5, 0.0, job="pretrain-x")
    open_store(f"{bucket}/run").write("lives/0001.json", json.dumps(asdict(life)).encode())
    assert found(data, f"{bucket}/run") == []


def test_a_place_that_cannot_be_seen_from_here_is_not_a_mistake(bucket, data, s3, monkeypatch):
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
    with pytest.raises(Unseen, match="signature"):
        found(data, f"{bucket}/run")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.setattr(places, "PATIENCE", 0.1)
    with pytest.raises(Unseen, match="nothing listens"):
        found(data, f"{bucket}/run")
    # Folders are those of the machine that runs the job.
    assert found("/nowhere/data", "/nowhere/run") == []


def test_evaluations_and_packing_look_too(bucket, data):
    urls = (f"{data}/train", f"{data}/test")
    (message,) = look_at_evaluation(urls, f"{bucket}/run")
    assert f"There is no packed dataset at '{data}/test'" in message
    (message,) = look_at_evaluation((f"{data}/train",), "s3://nobody-has-this/run")
    assert "There is no bucket" in message
    (message,) = look_at_packing(Packing("photographs", data))
    assert "already holds a packed dataset" in message
    assert list(look_at_packing(Packing("photographs", data, overwrite=True))) == []
    assert list(look_at_packing(Packing("photographs", f"{bucket}/new"))) == []
    (message,) = look_at_packing(Packing("photographs", "s3://nobody-has-this/new"))
    assert "There is no bucket" in message


def test_labelled_data_of_the_monitor_is_looked_at(bucket, data):
    output = f"{bucket}/run"

    def said(address: str) -> list[str]:
        return found(data, output, replace(simclr(), monitor=MonitorConfig(address)))

    (message,) = said(f"{bucket}/nothing")
    assert "--monitor.data" in message and "`train` and `test`" in message
    for part, n in (("train", 30), ("test", 21)):
        pack(Noise(n), f"{bucket}/labelled/{part}", shard_bytes=40_000)
    assert said(f"{bucket}/labelled") == []
    # A folder of the machines of the job, which this one need not have.
    assert said("labelled") == []
