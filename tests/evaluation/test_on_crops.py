"""Published protocols on random crops: one pass for all heads, an honest choice, and a process that is killed."""

import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from hardviews.data.folder import image_folder
from hardviews.data.index import Index
from hardviews.data.pack import pack
from hardviews.errors import UserError
from hardviews.evaluation.features.extract import Features, extract
from hardviews.evaluation.probe import top
from hardviews.evaluation.probes import head_states
from hardviews.evaluation.probes.head_states import open_states
from hardviews.evaluation.probes.linear import Linear, evaluate_linear
from hardviews.evaluation.probes.linear_protocols import MAE, MOCO, PROTOCOLS, SIMSIAM
from hardviews.evaluation.probes.on_crops import fit_on_crops
from hardviews.models.backbones import Backbone
from hardviews.models.encoder import Encoder, load, save
from hardviews.tracking.job import JOB
from hardviews.tracking.mlflow_run import Run
from hardviews.views.augmentation import Normalisation
from hardviews.world import ALONE
from tests.evaluation.sweeping import SMALL, fitted, numbers, small_vit, sweep_of, task_of
from tests.evaluation.test_evaluate import make_images
from tests.evaluation.test_features import PIXELS

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="session")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("coloured")
    for seed, (part, n) in enumerate({"train": 20, "test": 7}.items()):
        make_images(folder / "images" / part, n, seed)
        pack(image_folder(str(folder / "images" / part)), str(folder / part), shard_bytes=20_000)
    return folder


@pytest.fixture(scope="session")
def index(data):
    return Index.load(str(data / "train"))


@pytest.fixture(scope="session")
def kind():
    return small_vit()


@pytest.mark.parametrize(("threads", "readings"), [(1, 4), (2, 1)])
def test_a_head_of_a_sweep_equals_the_head_alone_bit_for_bit(index, kind, threads, readings):
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        sweep = sweep_of(index, kind=kind if readings > 1 else PIXELS)
        heads, rows = [one for one, _ in sweep.settings], task_of(sweep).fitted_K
        together = sweep.train(heads, rows, "together")
        assert len(together.mine) == 3 * readings
        for number, head in enumerate(heads):
            alone = sweep.train([head], rows, "alone").mine[0]
            assert alone.columns == together.mine[number].columns
            for name in ("weight_DL", "bias_L"):
                ours, theirs = (getattr(one.classifier, name) for one in (alone, together.mine[number]))
                assert torch.equal(ours, theirs)
        assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("name", sorted(set(PROTOCOLS) - {"cached"}))
def test_each_protocol_separates_colours_and_draws_no_global_random_number(index, name):
    published = PROTOCOLS[name]
    scale = published.batch / 20 if published.scaled else 1  # the rate is that of the published batch
    rates = tuple(rate * scale for rate in published.rates[-2:])
    protocol = replace(published, steps=60, batch=20, warmup=0.0, rates=rates, pooled_rates=())
    sweep = sweep_of(index, protocol, PIXELS)
    before = torch.get_rng_state()
    one = fitted(sweep)
    assert torch.equal(before, torch.get_rng_state())
    pixels = extract(index, PIXELS, sweep.images.preprocess, ALONE)
    # DINO's rates are for many more steps.
    assert top(1, one.predict(pixels)[""], pixels.labels_N) > (50 if name == "dino" else 80)


def test_one_pass_of_the_encoder_serves_all_heads_and_moves_nothing(index, kind):
    seen = []
    sweep = sweep_of(index, kind=kind, embed=lambda plain, images: seen.append(len(images)) or plain(images))
    digest, state = kind.encoder.digest, kind.encoder.training
    fitted(sweep, refit=False)
    held = int(task_of(sweep).held_out_N.sum())
    assert sum(seen) == 7 * 20 + held + 1  # the batches, the held-out images, and an empty one for the width
    assert kind.encoder.digest == digest and kind.encoder.training is state is False


def test_the_best_head_on_held_out_images_is_chosen_and_trained_again_on_all(index, kind):
    sweep = sweep_of(index, kind=kind)
    task = task_of(sweep)
    found = fitted(sweep)
    held = extract(index, sweep.images.embedding, sweep.images.preprocess, ALONE, batch_size=8).rows(task.chosen_on_K)
    accuracies = [
        top(1, found.trained.mine[number].scores(held.values_ND), held.labels_N)
        for number in range(len(sweep.settings))
    ]
    best = accuracies.index(max(accuracies))  # the first of equals: of fewer blocks, then of the smaller rate
    head, settings = sweep.settings[best]
    assert found.choice.settings == settings and found.choice.held_out_top1 == pytest.approx(max(accuracies))
    again = sweep.train([head], torch.arange(len(index)), "all").mine[0]
    assert torch.equal(found.chosen.classifier.weight_DL, again.classifier.weight_DL)
    assert not torch.equal(found.trained.mine[best].classifier.weight_DL, again.classifier.weight_DL)


def test_a_protocol_of_one_head_is_trained_on_all_images_and_chooses_nothing(index, kind):
    protocol = replace(SIMSIAM, epochs=2, batch=16)
    one = fitted(sweep_of(index, protocol, kind))
    sweep = sweep_of(index, protocol, kind)
    again = sweep.train([sweep.settings[0][0]], torch.arange(60), "all").mine[0]
    assert torch.equal(one.chosen.classifier.weight_DL, again.classifier.weight_DL)
    assert one.choice.held_out_top1 is None and one.choice.settings == {"lr": 0.1, "weight_decay": 0.0}


def test_too_few_images_to_choose_on_are_reported(index, kind):
    sweep = sweep_of(index, kind=kind)
    task = replace(task_of(sweep), held_out_N=torch.zeros(len(index), dtype=torch.bool))
    with pytest.raises(UserError, match="too few to hold some out"):
        fit_on_crops(sweep, task, False)


def test_weights_that_overflow_are_reported(index):
    wide = replace(PIXELS, embed=lambda images: PIXELS.embed(images) * 1e30)
    with pytest.raises(UserError, match="overflow at every learning rate of moco; give lower --rates"):
        fitted(sweep_of(index, replace(MOCO, epochs=2, batch=16, rates=(1e30,)), wide))


def test_features_that_are_not_finite_are_reported(index):
    broken = replace(PIXELS, embed=lambda images: PIXELS.embed(images) / 0)
    with pytest.raises(UserError, match="not finite"):
        fitted(sweep_of(index, replace(MOCO, epochs=1, batch=16), broken))


def test_a_best_rate_at_the_end_of_its_grid_is_reported(index):
    protocol = replace(MOCO, epochs=8, batch=16, rates=(1e-7, 1e-6, 0.3))
    assert "highest of its grid" in fitted(sweep_of(index, protocol, PIXELS)).choice.remarks[0]


def test_peeking_looks_at_every_epoch_only_if_asked(index, kind):
    protocol = replace(MAE, epochs=3, batch=20, warmup=0.0)
    test = Features(torch.randn(40, 192, generator=torch.Generator().manual_seed(0)), torch.arange(40) % 3)
    sweep = sweep_of(index, protocol, kind, peek=True)
    found = fitted(sweep)
    assert found.trained.epochs == 3
    each = []
    for epochs in (1, 2, 3):  # of a longer training: the same schedule up to there
        cut = sweep_of(index, protocol, kind, peek=True)
        kept = cut.train([cut.settings[0][0]], torch.arange(60), "again")
        head = kept.heads[0]
        head.restore(kept.training.epoch(epochs - 1)[0])
        each.append(top(1, kept.sweep.classifier_of(head).scores(test.values_ND), test.labels_N))
    assert found.peek(test) == max(each) and len(set(each)) > 1
    last = fitted(sweep_of(index, protocol, kind))
    assert last.peek(test) == each[-1] == top(1, found.predict(test)[""], test.labels_N)


def test_a_killed_evaluation_goes_on_and_ends_with_the_same_numbers(data, index, kind, cache):
    """Of the first call for the width and three for each step, the killed process made two in its third step."""
    states = cache.parent / "linear-heads"
    command = [sys.executable, "-m", "tests.evaluation.sweeping", str(data / "train"), "9"]
    killed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert len(list(states.glob("*/state.json"))) == 1

    def run(seen):
        sweep = sweep_of(index, kind=kind, peek=True, embed=lambda plain, images: seen.append(1) or plain(images))
        found = fitted(sweep)
        test = Features(torch.randn(9, sweep.width, generator=torch.Generator().manual_seed(0)), torch.arange(9) % 3)
        peeked = torch.tensor(found.peek(test))
        sweep.states.clear()
        assert list(states.iterdir()) == [] if states.exists() else True
        return numbers(found) | {"peek": peeked}

    of_resumed, of_whole = [], []
    before = torch.get_num_threads()
    torch.set_num_threads(1)  # as the killed process has
    try:
        resumed, whole = run(of_resumed), run(of_whole)
    finally:
        torch.set_num_threads(before)
    assert resumed.keys() == whole.keys() and all(torch.equal(value, whole[name]) for name, value in resumed.items())
    assert len(of_resumed) == len(of_whole) - 2 * 3


def test_a_training_goes_on_from_any_step_also_with_another_number_of_parts(index, kind, monkeypatch):
    sweep = sweep_of(index, kind=kind, every=0.0)
    heads, rows = [one for one, _ in sweep.settings], task_of(sweep).fitted_K
    whole = sweep.train(heads, rows, "whole")
    sweep.states.clear()
    for stop in (1, 4, 6):
        seen = 0

        def embed(plain, images, stop=stop):
            nonlocal seen
            seen += len(images)
            if seen > 20 * stop + 2:
                raise KeyboardInterrupt
            return plain(images)

        with pytest.raises(KeyboardInterrupt):
            sweep_of(index, kind=kind, every=0.0, embed=embed).train(heads, rows, "cut")
        counted = []
        again = sweep_of(
            index, kind=kind, embed=lambda plain, images, c=counted: c.append(len(images)) or plain(images)
        )
        found = again.train(heads, rows, "again")
        assert sum(counted) == 20 * (7 - stop) + 1
        for number, one in whole.mine.items():
            assert torch.equal(one.classifier.weight_DL, found.mine[number].classifier.weight_DL)
        again.states.clear()


def test_kept_heads_of_other_settings_are_not_taken(index):
    sweep = sweep_of(index, kind=PIXELS)
    sweep.train([sweep.settings[0][0]], torch.arange(60), "first")
    folders = set((open_states("timm:none", ALONE, 60.0)._store).folders())
    for other in (
        sweep_of(index, replace(SMALL, momentum=0.8), PIXELS),
        replace(sweep, seed=1),
        replace(sweep, images=replace(sweep.images, micro_batch=9)),
        replace(sweep, images=replace(sweep.images, embedding=replace(PIXELS, digest="other"))),
    ):
        other.train([other.settings[0][0]], torch.arange(60), "other")
        now = set(sweep.states._store.folders())
        assert len(now) == len(folders) + 1
        folders = now
    sweep.train([sweep.settings[0][0]], torch.arange(50), "other rows")
    assert len(sweep.states._store.folders()) == len(folders) + 1


def test_damaged_heads_are_trained_again(index, caplog):
    sweep = sweep_of(index, kind=PIXELS)
    one = [sweep.settings[0][0]]
    whole = sweep.train(one, torch.arange(60), "first").mine[0].classifier.weight_DL
    (part,) = Path(sweep.states._store.path).glob("*/step-*/part-0-of-1.safetensors")
    part.write_bytes(part.read_bytes()[:100])
    assert torch.equal(sweep.train(one, torch.arange(60), "again").mine[0].classifier.weight_DL, whole)
    assert "cannot be read" in caplog.text


def test_heads_that_nobody_went_on_with_are_removed(index, monkeypatch):
    sweep = sweep_of(index, kind=PIXELS)
    sweep.train([sweep.settings[0][0]], torch.arange(60), "first")
    folder = Path(sweep.states._store.path)
    open_states("timm:none", ALONE, 60.0)
    assert len(list(folder.iterdir())) == 1
    monkeypatch.setattr(head_states, "_FORGOTTEN", -1.0)
    open_states("timm:none", ALONE, 60.0)
    assert list(folder.iterdir()) == []


def test_a_job_of_a_cluster_keeps_heads_in_the_runs_output(tmp_path, monkeypatch):
    output = tmp_path / "output"
    output.mkdir()
    here = str(tmp_path / "cache" / "linear-heads")
    assert open_states(str(output), ALONE, 60.0)._store.path == here
    monkeypatch.setenv(JOB, "local_cwd://hardviews/linear-1")
    assert open_states(str(output), ALONE, 60.0)._store.path == here
    monkeypatch.setenv(JOB, "kubernetes://hardviews/team:linear-1")
    assert open_states(str(output), ALONE, 60.0)._store.path == str(output / "linear-heads")
    assert open_states("timm:resnet18", ALONE, 60.0)._store.path == here
    assert open_states(str(tmp_path / "0123"), ALONE, 60.0)._store.path == here
    assert list(output.iterdir()) == []


@pytest.fixture
def pretrained(project, tmp_path):
    torch.manual_seed(0)
    encoder = Encoder(Backbone("resnet10t", small_stem=True), Normalisation(), None, 16)
    with Run.start("exp", "pretrain", folder=project) as run:
        pass
    encoder.provenance = {"run_id": run.run_id, "samples": 640}
    save(encoder, tmp_path / "output" / "encoder")
    return str(tmp_path / "output"), run.run_id


def test_the_record_names_the_protocol(data, project, client, pretrained, cache, capsys):
    output, parent = pretrained
    options = {"data": str(data), "project": str(project), "device": "cpu", "workers": 1, "protocol": "simclr"}
    result = evaluate_linear(Linear(output, epochs=4, sgd_batch=16, rates=(0.1, 1.0), **options))
    assert list(result.metrics) == ["pixels", "untrained", "pretrained"]
    assert (
        "simclr: 2 heads, 13 steps of 16 images, 3.85 passes of the encoder over 54 images" in capsys.readouterr().err
    )
    run = client.get_run(result.run_id)
    assert run.info.run_name == f"linear simclr, changed {data.name}/test"
    change = "simclr 1, changed: epochs 4, sgd-batch 16, rates 0.1/1"
    assert run.data.tags["hardviews.protocol"] == change and run.data.tags["hardviews.evaluation"] == f"linear {change}"
    assert {"linear/top1", "linear/held_out_top1", "linear/choice_lr", "linear/peek_best_top1"} <= set(run.data.metrics)
    assert run.data.metrics["pixels/linear/top1"] > 60
    assert run.data.params["epochs"] == "4" and run.data.params["momentum"] == "0.9"
    above = client.get_run(parent).data
    assert above.metrics["eval/linear_simclr_changed_top1"] == pytest.approx(
        result.metrics["pretrained"]["linear/top1"]
    )
    assert f"linear simclr, changed on {data.name}/test" in above.tags["mlflow.note.content"]
    assert result.headings["linear/top1"] == "linear simclr, changed\ntop-1"
    assert load(output).digest == result.digest
    left = cache.parent / "linear-heads"
    assert not left.exists() or list(left.iterdir()) == []


def test_nothing_that_is_chosen_depends_on_the_test_set(data, project, client, pretrained, tmp_path):
    """The same test images with turned labels change the scores on them, and nothing else."""
    other = tmp_path / "turned"
    for name, turned in (("blue", "green"), ("green", "red"), ("red", "blue")):
        (other / "images" / turned).mkdir(parents=True)
        for file in (data / "images" / "test" / name).iterdir():
            (other / "images" / turned / file.name).write_bytes(file.read_bytes())
    pack(image_folder(str(other / "images")), str(other / "test"))
    options = {"train": str(data / "train"), "project": str(project), "device": "cpu", "workers": 1, "baselines": False}
    config = Linear(pretrained[0], protocol="dinov2", steps=30, sgd_batch=16, rates=(1.0, 10.0), peek=True, **options)
    found = [evaluate_linear(replace(config, test=str(place / "test"))) for place in (data, other)]
    first, second = (dict(one.metrics["pretrained"]) for one in found)
    chosen = {name for name in first if "choice" in name or "held_out" in name}
    assert len(chosen) == 3 and all(first[name] == second[name] for name in chosen)
    assert first["linear/top1"] != second["linear/top1"]


def test_one_head_says_that_nothing_was_chosen(data, project, client, pretrained):
    output, parent = pretrained
    options = {"data": str(data), "project": str(project), "device": "cpu", "workers": 1, "baselines": False}
    result = evaluate_linear(Linear(output, protocol="moco", epochs=1, sgd_batch=16, **options))
    assert "No setting was chosen." in client.get_run(parent).data.tags["mlflow.note.content"]
    assert client.list_artifacts(result.run_id, "splits") == []
    assert "linear/held_out_top1" not in result.metrics["pretrained"]
