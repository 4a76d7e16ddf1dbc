"""Waiting for an encoder: until it is there, the run fails, or the time is up."""

import json
import threading
import time
from dataclasses import asdict
from types import SimpleNamespace

import pytest
import torch

from hardviews.errors import UserError
from hardviews.evaluation import waiting
from hardviews.evaluation.knn import Knn, evaluate_knn
from hardviews.models.backbones import Backbone
from hardviews.models.encoder import Encoder, save
from hardviews.runs.life import Life
from hardviews.storage.store import open_store
from hardviews.views.augmentation import Normalisation


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
    waiting.wait_for_encoder(run, 60)
    assert time.monotonic() - began >= 1.9
    timer.join()
    waiting.wait_for_encoder(run, 60)
    waiting.wait_for_encoder(f"{run}/encoder", 60)
    waiting.wait_for_encoder(f"{run}/encoder/encoder.safetensors", 60)
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
        waiting.wait_for_encoder(run, 60)


def test_it_ends_when_the_time_is_up(run):
    with pytest.raises(UserError, match=r"no encoder within 0.3 s: no training has begun there.*--wait"):
        waiting.wait_for_encoder(run, 0.3)


def test_without_waiting_a_missing_encoder_is_an_error_at_once(run, tmp_path):
    with pytest.raises(UserError, match="There is no encoder"):
        evaluate_knn(Knn(run, data=str(tmp_path)))
