"""Waiting for encoders and data: until they are there, a run fails, or the time is up."""

import json
import subprocess
import sys
import threading
import time
from dataclasses import asdict
from types import SimpleNamespace

import pytest
import torch

from hardviews.data.pack import pack
from hardviews.errors import UserError
from hardviews.evaluation.probes.knn import Knn, evaluate_knn
from hardviews.models.backbones import Backbone
from hardviews.models.encoder import Encoder, save
from hardviews.runs import waiting
from hardviews.runs.life import Life
from hardviews.runs.waiting import Dataset, EncoderOfRun, wait_for
from hardviews.runs.where import Where
from hardviews.storage.store import open_store
from hardviews.train.loop import pretrain
from hardviews.views.augmentation import Normalisation
from tests.data.helpers import Noise
from tests.train.runs import simclr


@pytest.fixture(params=["local", "s3"])
def run(request, tmp_path, monkeypatch):
    monkeypatch.setattr(waiting, "POLL", 0.1)
    monkeypatch.setattr(waiting, "EVERY", 0.5)
    if request.param == "s3":
        return request.getfixturevalue("s3").bucket() + "/runs/1"
    return str(tmp_path / "run")


def note(run, number, end=None, reached=7):
    life = Life(number, 2, 0, 1.0, "host", reached, time.time(), end)
    open_store(run).write(f"lives/{number:04d}.json", json.dumps(asdict(life)).encode())


def export(run):
    torch.manual_seed(0)
    return save(Encoder(Backbone("test_resnet"), Normalisation(), None, 16), f"{run}/encoder")


def test_it_waits_until_the_export_is_complete_and_says_for_what(run, caplog):
    note(run, 1, "failed")  # of another day: the run was started again, or is about to be
    timer = threading.Timer(2.0, export, [run])
    timer.start()
    began = time.monotonic()
    wait_for([EncoderOfRun(run)], 60)
    assert time.monotonic() - began >= 1.9
    timer.join()
    for place in (run, f"{run}/encoder", f"{run}/encoder/encoder.safetensors"):
        wait_for([EncoderOfRun(place)], 60)
    said = [record.getMessage() for record in caplog.records]
    assert len(said) >= 2
    assert f"waiting for the encoder of {run} since" in said[0]
    assert "life 1 is failed, at step 7" in said[0]


def test_it_ends_when_the_run_fails(run, monkeypatch):
    def sleep(seconds):
        note(run, 1, "failed", 9)  # after it has looked once: a run that had failed before may be started again

    note(run, 1)
    monkeypatch.setattr(waiting, "time", SimpleNamespace(monotonic=time.monotonic, sleep=sleep))
    with pytest.raises(UserError, match=r"failed at step 9, so there is no encoder"):
        wait_for([EncoderOfRun(run)], 60)


def test_it_ends_when_the_time_is_up(run):
    with pytest.raises(UserError, match=r"no encoder within 0.3 s: no training has begun there.*--wait"):
        wait_for([EncoderOfRun(run)], 0.3)


def test_without_waiting_a_missing_encoder_is_an_error_at_once(run, tmp_path):
    with pytest.raises(UserError, match="There is no encoder"):
        evaluate_knn(Knn(run, data=str(tmp_path)))


def test_a_dataset_is_waited_for_with_all_its_parts(run, caplog):
    pack(Noise(8), f"{run}/train", progress=False)
    with pytest.raises(UserError, match=r"none came within 0.3 s: \S+/test is not there yet\. Pack it"):
        wait_for([Dataset(run, ("train", "test"))], 0.3)
    wait_for([Dataset(run), Dataset(f"{run}/train")], 60)
    pack(Noise(4), f"{run}/test", progress=False)
    for place in (run, f"{run}/train"):  # a training takes either as its data
        wait_for([Dataset(place, ("train", "test"))], 60)
    assert "waiting for the packed dataset at" in caplog.records[0].getMessage()


def test_everything_that_does_not_come_is_named(run):
    with pytest.raises(UserError, match=r"There is no packed dataset.*wrote no checkpoint within 0.3 s"):
        wait_for([Dataset(f"{run}/data"), EncoderOfRun(run, checkpoint=True)], 0.3)


def test_waiting_needs_no_torch():
    code = "import sys, hardviews.launch.gate; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_a_pretraining_and_an_evaluation_wait_for_data(tmp_path, monkeypatch):
    monkeypatch.setattr(waiting, "POLL", 0.1)
    with pytest.raises(UserError, match=r"none came within 0.2 s"):
        pretrain(simclr(), Where(str(tmp_path / "data"), str(tmp_path / "run"), wait=0.2))
    with pytest.raises(UserError, match=r"There is no packed dataset.*exported no encoder"):
        evaluate_knn(Knn(str(tmp_path / "run"), data=str(tmp_path / "data"), wait=0.2))
