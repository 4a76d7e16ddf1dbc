"""The published protocols as the papers and codes have them, and the features that their heads read."""

import pytest
import torch

from hardviews.errors import UserError
from hardviews.evaluation.features.readings import readings_of
from hardviews.evaluation.features.sources import Embedding, embedding
from hardviews.evaluation.linear_protocol import Reading
from hardviews.evaluation.probes.linear import Linear
from hardviews.evaluation.probes.linear_protocols import DINO, DINOV2, PROTOCOLS
from hardviews.models.backbones import Backbone
from hardviews.models.encoder import Encoder
from hardviews.views.augmentation import Normalisation

# Name: batch, learning rates as the codes print them, epochs or steps, optimizer, weight decay.
PUBLISHED = {
    "simsiam": (4096, [1.6], 90, "larc", 0.0),
    "moco": (256, [30.0], 100, "sgd", 0.0),
    "swav": (256, [0.3], 100, "sgd", 1e-6),
    "simclr": (4096, [1.6], 90, "nesterov", 1e-6),
    "byol": (1024, [0.2, 0.4, 0.8, 1.2, 1.6], 80, "nesterov", 0.0),
    "dino": (1024, [0.004], 100, "sgd", 0.0),
    "dinov2": (1024, [4e-5, 8e-5, 2e-4, 4e-4, 8e-4, 2e-3, 4e-3, 8e-3, 2e-2, 4e-2, 8e-2, 0.2, 0.4], 12_500, "sgd", 0.0),
    "mae": (16_384, [6.4], 90, "lars", 0.0),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_values_are_the_published_ones(name):
    batch, rates, length, optimizer, decay = PUBLISHED[name]
    found = PROTOCOLS[name]
    scale = found.batch / 256 if found.scaled else 1
    assert [rate * scale for rate in found.rates] == pytest.approx(rates)
    assert (found.batch, found.steps or found.epochs, found.optimizer) == (batch, length, optimizer)
    assert found.weight_decays == (decay,) and found.momentum == 0.9 and found.crops.scale == (0.08, 1.0)
    assert found.name == name and found.version >= 1 and found.source


def test_every_protocol_is_in_the_table():
    assert set(PUBLISHED) | {"cached"} == set(PROTOCOLS)


def vit(name="vit_tiny_patch16_224"):
    torch.manual_seed(1)
    encoder = Encoder(Backbone(name, image_size=32, patch_size=8), Normalisation(), None, 32).eval()
    return encoder, embedding("pretrained", encoder)


def images():
    return torch.randint(0, 256, (3, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def block_outputs(encoder):
    """Return the tokens (B, 1 + P, D) after each block and the final norm, by hooks on the blocks."""
    seen = []
    hooks = [block.register_forward_hook(lambda *call: seen.append(call[2])) for block in encoder.network.blocks]
    with torch.no_grad():
        encoder.embed(images())
        for hook in hooks:
            hook.remove()
        return [encoder.network.norm(tokens) for tokens in seen]


def test_dinov2_has_52_heads_of_one_pass():
    encoder, kind = vit()
    readings = readings_of(DINOV2, kind)
    assert len(readings.readings) * len(DINOV2.rates) == 52
    values = readings.embedding(kind).embed(images())
    tokens = block_outputs(encoder)
    patches = tokens[-1][:, 1:].mean(1)
    for reading in readings.readings:
        expected = [one[:, 0] for one in tokens[-reading.blocks :]] + ([patches] if reading.patches else [])
        found = values[:, readings.columns(reading, values.shape[1])]
        torch.testing.assert_close(found, torch.cat(expected, 1), atol=1e-5, rtol=1e-5)
    assert readings.embedding(kind).digest != kind.digest


def test_the_last_class_token_is_the_encoders_feature():
    encoder, kind = vit()
    readings = readings_of(PROTOCOLS["mae"], kind)
    assert readings.readings == (Reading(1),) and not readings.pooled
    torch.testing.assert_close(readings.embedding(kind).embed(images()), encoder.embed(images()))


def test_dino_reads_four_blocks_of_a_small_and_the_patches_of_a_wide_transformer():
    assert readings_of(DINO, vit()[1]).readings == (Reading(4),)
    assert readings_of(DINO, vit("vit_base_patch16_224")[1]).readings == (Reading(1, patches=True),)


def test_resnets_and_pixels_have_one_reading():
    torch.manual_seed(0)
    resnet = embedding("pretrained", Encoder(Backbone("resnet10t", small_stem=True), Normalisation(), None, 32).eval())
    for kind in (resnet, Embedding("pixels", "pixels", lambda images: images.float().flatten(1))):
        for protocol in PROTOCOLS.values():
            readings = readings_of(protocol, kind)
            assert readings.pooled and readings.readings == (Reading(),)
            assert readings.embedding(kind) is kind and readings.columns(Reading(), 512) == slice(0, 512)


def test_a_changed_protocol_says_so():
    assert Linear("run", protocol="simsiam").label.name == "simsiam"
    same = Linear("run", protocol="simsiam", epochs=90, sgd_batch=4096, rates=(0.1,))
    assert same.label.name == "simsiam" and same.label.tag == "simsiam 1"
    changed = Linear("run", protocol="simsiam", epochs=2, sgd_batch=64, rates=(0.1, 0.3))
    assert changed.label.name == "simsiam, changed"
    assert changed.label.tag == "simsiam 1, changed: epochs 2, sgd-batch 64, rates 0.1/0.3"
    assert Linear("run", protocol="mae", crop=96).label.tag == "mae 1, changed: crop 96"
    assert (
        Linear("run", protocol="dinov2", epochs=10).label.name == "dinov2, changed"
    )  # of the data, not of 1,250 steps
    assert Linear("run", epochs=2).label.name == ""


def test_the_record_has_the_values_of_the_protocol():
    found = Linear("run", protocol="dinov2").resolved()
    assert (found.steps, found.epochs, found.sgd_batch, found.rates) == (12_500, None, 1024, DINOV2.rates)
    found = Linear("run", protocol="moco", epochs=3).resolved()
    assert (found.steps, found.epochs, found.rates, found.momentum) == (None, 3, (30.0,), 0.9)


def test_rates_of_a_user_are_those_of_resnets_too():
    assert Linear("run", protocol="dino").used.pooled_rates == (0.075,)
    assert Linear("run", protocol="dino", rates=(1e-3,)).used.pooled_rates == ()


@pytest.mark.parametrize(
    ("options", "word"),
    [
        ({"protocol": "simsiam", "solver": "lbfgs"}, "--solver is an option of --protocol cached"),
        ({"protocol": "mae", "penalties": (1.0,)}, "--penalties"),
        ({"protocol": "mae", "standardise": False}, "--standardise"),
        ({"steps": 3}, "--steps is an option of a published protocol"),
        ({"peek": True}, "--peek"),
        ({"protocol": "mae", "steps": 3, "epochs": 3}, "--epochs or --steps"),
        ({"protocol": "vicreg"}, "--protocol is 'vicreg'"),
        ({"save_every": -1}, "--save-every"),
    ],
)
def test_options_of_another_protocol_are_refused(options, word):
    with pytest.raises(UserError, match=word):
        Linear("run", **options)
