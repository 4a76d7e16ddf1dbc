"""Features of a stage: against hooks on the modules of the network, and their use in a command."""

import pytest
import timm
import torch

from hardviews.cli import main
from hardviews.errors import UserError
from hardviews.evaluation.features.sources import embedding
from hardviews.evaluation.features.stages import check_stage, of_stage, stages_of
from hardviews.evaluation.probes.knn import Knn, evaluate_knn
from hardviews.evaluation.probes.linear import Linear, evaluate_linear
from hardviews.models.backbones import Backbone
from hardviews.models.encoder import Encoder, save
from hardviews.tracking.mlflow_run import Run
from hardviews.views.augmentation import Normalisation
from tests.evaluation.test_evaluate import data

__all__ = ["data"]

IMAGES = torch.randint(0, 256, (3, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
MODULES = {
    "resnet10t": ["act1", "layer1", "layer2", "layer3", "layer4"],
    "test_vit": [f"blocks.{i}" for i in range(6)],
    "test_convnext": [f"stages.{i}" for i in range(4)],
}


def encoder_of(name: str) -> Encoder:
    torch.manual_seed(0)
    size = {"image_size": 32} if "vit" in name else {}
    encoder = Encoder(Backbone(name, **size), Normalisation(), None, 32)
    for parameter in encoder.network.parameters():
        if parameter.ndim == 1:
            parameter.data += 0.1 * torch.randn(parameter.shape)  # zeros would let nothing through
    return encoder


@pytest.mark.parametrize("name", MODULES)
def test_features_are_the_pooled_output_of_the_stages_module(name: str) -> None:
    encoder = encoder_of(name)
    network, kind = encoder.network, embedding("pretrained", encoder)
    assert stages_of(network) == len(MODULES[name])
    for stage, module in enumerate(MODULES[name], 1):
        seen = []
        handle = network.get_submodule(module).register_forward_hook(lambda _, __, out, seen=seen: seen.append(out))
        encoder.embed(IMAGES)
        handle.remove()
        wanted = network.norm(seen[0]).detach()[:, 0] if "vit" in name else seen[0].detach().mean((2, 3))
        found = of_stage(kind, stage)
        torch.testing.assert_close(found.embed(IMAGES), wanted)
        assert found.digest == f"{kind.digest} stage {stage}"


@pytest.mark.parametrize("name", ["resnet10t", "test_vit"])
def test_the_last_stage_has_the_features_of_the_network(name: str) -> None:
    encoder = encoder_of(name)
    kind = embedding("pretrained", encoder)
    torch.testing.assert_close(of_stage(kind, stages_of(encoder.network)).embed(IMAGES), kind.embed(IMAGES))


def test_a_transformer_without_a_class_token_has_the_mean_of_its_patches() -> None:
    encoder = encoder_of("test_vit")
    encoder.network.global_pool = "avg"
    found = of_stage(embedding("pretrained", encoder), 2).embed(IMAGES)
    with torch.no_grad():
        pixels = encoder.normalisation.normalise(IMAGES)
        tokens = encoder.eval().network.patch_embed(pixels)
        tokens = encoder.network._pos_embed(tokens)
        tokens = encoder.network.norm(encoder.network.blocks[1](encoder.network.blocks[0](tokens)))
    torch.testing.assert_close(found, tokens[:, 1:].mean(1), rtol=1e-4, atol=1e-5)


def test_pixels_and_no_stage_are_left_as_they_are() -> None:
    encoder = encoder_of("resnet10t")
    for source, stage in (("pixels", 3), ("pretrained", None)):
        kind = embedding(source, encoder)  # type: ignore[arg-type]
        assert of_stage(kind, stage) is kind


def test_a_stage_that_is_not_there_is_refused() -> None:
    encoder = encoder_of("resnet10t")
    check_stage(encoder, 5)
    check_stage(encoder, None)
    with pytest.raises(UserError, match="resnet10t has 5 stages; give 1 to 5, or leave it out"):
        check_stage(encoder, 6)
    with pytest.raises(UserError, match="stage"):
        Knn("run", data="shards", stage=0)
    with pytest.raises(UserError, match="--stage is an option of --protocol cached"):
        Linear("run", data="shards", protocol="simsiam", stage=3)


def test_a_network_without_stages_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    encoder = encoder_of("resnet10t")
    monkeypatch.delattr(timm.models.resnet.ResNet, "forward_intermediates")
    with pytest.raises(UserError, match="resnet10t has no stages that timm numbers; leave --stage out"):
        check_stage(encoder, 1)


@pytest.fixture
def trained(project, tmp_path):
    """The output folder of a pretraining job and the id of its run."""
    with Run.start("exp", "pretrain", folder=project) as run:
        pass
    torch.manual_seed(0)
    encoder = Encoder(Backbone("resnet10t", small_stem=True), Normalisation(), None, 16)
    encoder.provenance = {"run_id": run.run_id, "samples": 640}
    save(encoder, tmp_path / "output" / "encoder")
    return str(tmp_path / "output"), run.run_id


def test_the_record_names_the_stage(data, project, client, trained):
    """Scores of a stage have a name of their own: they do not take the place of the encoder's."""
    output, parent = trained
    options = {"data": str(data), "baselines": False, "project": str(project), "device": "cpu"}
    whole = evaluate_knn(Knn(output, **options))
    for evaluate, config in ((evaluate_knn, Knn), (evaluate_linear, Linear)):
        result = evaluate(config(output, stage=2, **options))
        assert result.label == "stage 2" and "Features are those of stage 2 of 5, pooled." in result.remarks
        run = client.get_run(result.run_id)
        assert run.info.run_name == f"{result.name} stage 2 {data.name}/test"
        assert run.data.tags["hardviews.evaluation"] == f"{result.name} stage 2"
        assert run.data.params["stage"] == "2"
        above = client.get_run(parent).data
        assert f"eval/{result.name}_stage_2_top1" in above.metrics
    assert whole.label == "" and "eval/knn_top1" in above.metrics
    assert above.metrics["eval/knn_top1"] == pytest.approx(whole.metrics["pretrained"]["knn/top1"])


def test_the_command_takes_a_stage_and_refuses_one_that_is_not_there(data, project, trained, capsys):
    output, _ = trained
    words = ["--run", output, "--data", str(data), "--no-baselines", "--project", str(project), "--device", "cpu"]
    main(["knn", *words, "--stage", "3"])
    assert "stage 3 of 5, pooled" in " ".join(capsys.readouterr().out.split())
    with pytest.raises(SystemExit):
        main(["knn", *words, "--stage", "9"])
    assert "resnet10t has 5 stages; give 1 to 5" in " ".join(capsys.readouterr().err.split())
