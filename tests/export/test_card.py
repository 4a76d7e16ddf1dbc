"""The model card: from the record of a run, from the tracking, and without either."""

import json
from dataclasses import replace
from pathlib import Path

import yaml

from hardviews.cli import main
from hardviews.export.card import card
from hardviews.export.facts import Facts, Score, collect
from hardviews.export.timm import Timm
from hardviews.models.encoder import load
from hardviews.runs.record import Record
from hardviews.tracking.mlflow_run import Run
from tests.export.encoders import make, saved


def rows(text: str) -> dict[str, str]:
    """The cells of all tables of two columns, by the first."""
    cells = [
        [cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line.startswith("|")
    ]
    return {row[0]: row[1] for row in cells if len(row) == 2}


def test_an_encoder_that_was_not_trained_by_us_is_described_by_what_is_known():
    text = card(make("resnet10t", 32, {}, small_stem=True), Facts(), "unknown")
    told = rows(text)
    unknown = ("recipe", "dataset", "epochs", "images seen", "end of the run", "health of the features")
    assert {told[name] for name in unknown} == {"unknown"}
    assert "the origin of the weights is unknown" in text
    assert "Not in the record: recipe, dataset, digest of the dataset" in text
    assert "with a small stem" in told["backbone"] and told["output"] == "512 features, float32"
    assert "Unknown: the tracking record was not at hand" in text
    assert "onnx:" in text and "timm:" not in text, "only the formats that can express it"


def test_the_header_is_what_the_hub_reads(small_vit):
    text = card(small_vit, Facts(), "cc-by-4.0: mine")
    _, header, _ = text.split("---\n", 2)
    told = yaml.safe_load(header)
    assert told["license"] == "cc-by-4.0: mine" and told["library_name"] == "timm"
    assert told["pipeline_tag"] == "image-feature-extraction" and "hardviews" in told["tags"]


def test_all_that_is_known_is_in_the_card(small_vit):
    facts = Facts(
        recipe="digits",
        settings={"method": "SimCLR", "training.batch": "64", "loader.reader.streams": "4"},
        data_name="photos",
        data_digest="d" * 64,
        images=1437,
        samples=71850,
        epochs="50",
        commit="abc123",
        versions={"hardviews": "0.1.0", "torch": "2.15.0"},
        run_id="f" * 32,
        verdict="Finished at step 1100; started once.",
        health="ok. No sign of a collapse.",
        scores=(Score("knn/top1_k20", 97.25, "e" * 64), Score("untrained/knn/top1_k20", 82.3, "e" * 64)),
        looked=True,
    )
    text = card(small_vit, facts, "apache-2.0", Timm(), "elsewhere")
    told = rows(text)
    assert told["dataset"] == "photos" and told["digest of the dataset"] == f"`{'d' * 64}`"
    assert told["images in the dataset"] == "1,437" and told["images seen"] == "71,850" and told["epochs"] == "50"
    assert told["commit of the code"] == "`abc123`" and told["versions"] == "hardviews 0.1.0, torch 2.15.0"
    assert told["end of the run"] == facts.verdict and told["health of the features"] == facts.health
    assert told["digest of the encoder"] == f"`{small_vit.digest}`" and told["tracking run"] == f"`{'f' * 32}`"
    assert "Settings: `method` = SimCLR, `training.batch` = 64." in text
    assert f"| knn/top1_k20 | 97.25 | `{'e' * 12}` |" in text and "| untrained/knn/top1_k20 | 82.30 |" in text
    assert 'timm.create_model("local-dir:elsewhere"' in text and "Licence of the weights: apache-2.0." in text
    assert "Not in the record" not in text


def test_facts_come_from_the_output_of_the_run(tmp_path):
    provenance = {"run_id": "r", "samples": 640, "recipe": "digits", "data": "d" * 64, "images": 64, "epochs": 10}
    output = saved(make("test_vit", 32, provenance, image_size=32), tmp_path / "run")
    Record("r", "digits", {"training.epochs": "10"}, "d" * 64, data="s3://bucket/photos/train").write(output)
    life = {"number": 1, "world": 1, "resumed": 0, "began": 0.0, "host": "h", "reached": 40, "updated": 1.0}
    (tmp_path / "run" / "lives").mkdir()
    (tmp_path / "run" / "lives" / "1.json").write_text(json.dumps(life | {"end": "finished"}))
    reports = [{"step": step, "samples": 16 * step, "loss": 1.0, "health/spread": 0.01} for step in (0, 40)]
    (tmp_path / "run" / "history.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in reports))
    facts = collect(load(output), output, "nothing")
    assert facts.health.startswith("collapsed. The spread of the features (health/spread) is 0.01 at step 40")
    assert (facts.recipe, facts.images, facts.samples, facts.epochs) == ("digits", 64, 640, "10")
    assert (facts.data_name, facts.data_digest) == ("photos", "d" * 64)
    assert facts.verdict == "Finished at step 40; started once."
    assert not facts.looked and not Path("nothing").exists()
    alone = collect(load(f"{output}/encoder/encoder.safetensors"), f"{output}/encoder/encoder.safetensors", "nothing")
    assert alone == replace(facts, data_name=None, settings={}, verdict=None, health=None)


def test_scores_come_from_the_tracking(project, tmp_path):
    with Run.start("hardviews", "digits", folder=project, tags={"hardviews.samples": "64"}) as pretraining:
        pretraining.set_tags({"mlflow.source.git.commit": "abc123", "hardviews.version": "0.1.0"})
        pretraining.set_tags({"hardviews.verdict.evidence": "ok. No sign of a collapse."})
    encoder = make("test_vit", 32, {"run_id": pretraining.run_id, "samples": 640}, image_size=32)
    output = saved(encoder, tmp_path / "run")
    for digest, value in ((encoder.digest, 50.0), (encoder.digest, 97.5), ("0" * 64, 12.0)):
        with Run.start("hardviews", "knn", folder=project, parent=pretraining.run_id) as run:
            run.set_tags({"hardviews.encoder": digest, "hardviews.dataset.test": "t" * 64})
            metrics = {"knn/top1_k100": 9.0, "knn/top1_k20": value, "pixels/knn/top1_k20": 90.0}
            run.log_metrics(metrics | {"linear/peek_best_top1": 99.0, "seconds": 3.0}, 640)
    facts = collect(load(output), output, str(project))
    assert facts.looked and facts.images == 64 and facts.commit == "abc123"
    assert facts.health == "ok. No sign of a collapse.", "no output of the run lies there"
    assert facts.versions == {"hardviews": "0.1.0"}
    expected = {"knn/top1_k20": 97.5, "knn/top1_k100": 9.0, "pixels/knn/top1_k20": 90.0}
    assert facts.scores == tuple(Score(name, value, "t" * 64) for name, value in expected.items())


def test_a_tracking_record_that_cannot_be_read_costs_only_the_scores(tmp_path, runs, caplog):
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "mlflow.db").write_bytes(b"not a database at all")
    facts = collect(load(runs["test_vit"]), runs["test_vit"], str(tmp_path / "broken"))
    assert not facts.looked and facts.recipe == "digits"
    assert "the card lacks its scores" in caplog.text


def test_the_command_writes_a_card_alone_and_beside_a_format(runs, capfd):
    main(["export", runs["resnet10t"], "--card", "--license", "mit"])
    assert sorted(p.name for p in Path("export-card").iterdir()) == ["README.md", "encoder.json"]
    assert 'license: "mit"' in Path("export-card/README.md").read_text()
    main(["export", runs["test_vit"], "--card", "--format", "torchvision", "--out", "x"])
    assert "x/torchvision.safetensors" in Path("x/README.md").read_text()
    assert "export-card: resnet10t, 512 features" in capfd.readouterr().out
