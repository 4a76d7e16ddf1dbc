import json

import fsspec
import pytest
import timm
import torch

from hardviews.errors import UserError
from hardviews.models.backbones import Backbone
from hardviews.models.batchnorm import add_adversarial_branch, branch_batchnorm
from hardviews.models.encoder import Encoder, load, save
from hardviews.views.augmentation import Normalisation

NORMALISATION = Normalisation((0.1, 0.2, 0.3), (0.5, 0.6, 0.7))


@pytest.fixture(params=["resnet10t", "test_vit"])
def encoder(request):
    torch.manual_seed(0)
    options = {"image_size": 32} if request.param == "test_vit" else {}
    backbone = Backbone(request.param, small_stem=True, **options)
    return Encoder(backbone, NORMALISATION, None, 32, {"run_id": "abc", "samples": 5}).eval()


def images(n=3, side=32):
    return torch.randint(0, 256, (n, 3, side, side), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))


def test_embed_normalises_and_leaves_the_mode_alone(encoder):
    encoder.train()
    features_BD = encoder.embed(images())
    assert encoder.training and encoder.network.training
    encoder.eval()
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in (NORMALISATION.mean, NORMALISATION.std))
    expected_BD = encoder.network((images().float() / 255 - mean) / std)
    torch.testing.assert_close(features_BD, expected_BD.detach(), atol=1e-5, rtol=1e-4)


def test_embed_moves_no_batchnorm_statistics(encoder):
    before = encoder.digest
    encoder.train().embed(images())
    assert encoder.digest == before


@pytest.mark.parametrize("where", ["{tmp}/run/encoder", "memory://bucket/encoder"])
def test_saved_encoder_comes_back_bit_for_bit(encoder, tmp_path, where):
    url = where.format(tmp=tmp_path)
    digest = save(encoder, url)
    back = load(url)
    assert back.digest == encoder.digest == digest
    assert (back.backbone, back.normalisation, back.image_size) == (encoder.backbone, NORMALISATION, 32)
    assert back.provenance == {"run_id": "abc", "samples": 5}
    assert not back.training
    assert torch.equal(back.embed(images()), encoder.embed(images()))
    description = json.loads(fsspec.open(f"{url}/encoder.json").open().read())
    assert description["digest"] == digest and description["num_features"] == encoder.num_features


def test_found_from_the_runs_folder(encoder, tmp_path):
    save(encoder, tmp_path / "encoder")
    assert load(tmp_path).digest == encoder.digest
    assert load(tmp_path / "encoder" / "encoder.safetensors").digest == encoder.digest


def test_saving_again_replaces_whole_files_and_leaves_nothing_else(encoder, tmp_path):
    save(encoder, tmp_path)
    with torch.no_grad():
        next(encoder.network.parameters()).add_(1)
    save(encoder, tmp_path)
    assert load(tmp_path).digest == encoder.digest
    assert sorted(p.name for p in tmp_path.iterdir()) == ["encoder.json", "encoder.safetensors"]


def test_weights_load_into_plain_timm(tmp_path):
    encoder = Encoder(Backbone("resnet10t"), NORMALISATION).eval()
    save(encoder, tmp_path)
    plain = timm.create_model("resnet10t", num_classes=0, checkpoint_path=str(tmp_path / "encoder.safetensors")).eval()
    x = torch.randn(2, 3, 64, 64)
    assert torch.equal(plain(x), encoder(x))


def test_auxiliary_batchnorm_is_left_out():
    backbone = Backbone("resnet10t", small_stem=True)
    torch.manual_seed(0)
    network = branch_batchnorm(backbone.build())
    add_adversarial_branch(network)
    assert any("adversarial" in key for key in network.state_dict())
    encoder = Encoder(backbone, NORMALISATION, network).eval()
    x = torch.randn(2, 3, 32, 32)
    torch.testing.assert_close(encoder(x), network.eval()(x))
    assert not any("adversarial" in key for key in encoder.state_dict())


def test_digest_tells_weights_and_normalisation_apart(encoder):
    other = Encoder(encoder.backbone, Normalisation(), encoder.network, encoder.image_size)
    assert other.digest != encoder.digest
    same = Encoder(encoder.backbone, NORMALISATION, encoder.network, encoder.image_size, {"run_id": "else"})
    assert same.digest == encoder.digest


def test_a_flipped_bit_a_cut_file_and_a_foreign_one_are_refused(encoder, tmp_path):
    save(encoder, tmp_path)
    path = tmp_path / "encoder.safetensors"
    whole = path.read_bytes()
    path.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    with pytest.raises(UserError, match="damaged"):
        load(tmp_path)
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UserError, match="cut short"):
        load(tmp_path)
    for foreign in (b"", b"not a model at all", timm.__file__.encode() * 9):
        path.write_bytes(foreign)
        with pytest.raises(UserError, match="not an encoder"):
            load(tmp_path)


def test_missing_encoder_says_where_it_was_looked_for(tmp_path):
    with pytest.raises(UserError, match=r"encoder/encoder\.safetensors"):
        load(tmp_path / "nowhere")


def test_exporting_a_network_draws_no_random_number(encoder):
    state = torch.get_rng_state()
    Encoder(encoder.backbone, NORMALISATION, encoder.network)
    assert torch.equal(state, torch.get_rng_state())


def test_floats_are_not_taken_for_pixels(encoder):
    with pytest.raises(TypeError, match="uint8"):
        encoder.embed(images().float())
