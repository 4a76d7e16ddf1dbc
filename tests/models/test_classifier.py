"""The classifier that leaves with an encoder: it comes back bit for bit, or not at all."""

import json

import pytest
import torch
from torch import nn

from hardviews.errors import UserError
from hardviews.models.backbones import Backbone
from hardviews.models.classifier import Classifier
from hardviews.models.encoder import Encoder, load, save
from hardviews.views.augmentation import Normalisation

NAMES = ("cat", "Hund", "\u732b", "x\ty")


@pytest.fixture
def classifier() -> Classifier:
    torch.manual_seed(1)
    return Classifier.of(nn.Linear(512, 6).state_dict(), NAMES)


@pytest.fixture
def encoder(classifier: Classifier) -> Encoder:
    torch.manual_seed(0)
    return Encoder(
        Backbone("resnet10t", small_stem=True), Normalisation(), None, 32, {"samples": 5}, classifier=classifier
    ).eval()


@pytest.mark.parametrize("where", ["{tmp}/run/encoder", "memory://bucket/classified"])
@pytest.mark.parametrize("named", ["", "/encoder.safetensors"])
def test_a_saved_classifier_comes_back_bit_for_bit(encoder, classifier, tmp_path, where, named) -> None:
    url = where.format(tmp=tmp_path)
    digest = save(encoder, url)
    back = load(url + named)
    assert back.digest == digest == encoder.digest
    assert back.classifier.digest == classifier.digest and back.classifier.names == NAMES
    features_ND = torch.randn(9, 512)
    assert torch.equal(back.classifier.logits(features_ND), classifier.logits(features_ND))


def test_the_description_has_the_classes_in_order(encoder, classifier, tmp_path) -> None:
    save(encoder, tmp_path / "encoder")
    assert sorted(path.name for path in (tmp_path / "encoder").iterdir()) == [
        *("classifier.safetensors", "encoder.json", "encoder.safetensors")
    ]
    described = json.loads((tmp_path / "encoder" / "encoder.json").read_text())["classifier"]
    assert described["names"] == list(NAMES) and described["digest"] == classifier.digest
    assert (described["classes"], described["num_features"]) == (6, 512)
    assert load(tmp_path).classifier.names == NAMES


def test_logits_are_those_of_the_linear_layer() -> None:
    for bias in (True, False):
        layer = nn.Linear(7, 3, bias=bias)
        features_ND = torch.randn(5, 7)
        found = Classifier.of(layer.state_dict())
        torch.testing.assert_close(found.logits(features_ND), layer(features_ND).detach(), rtol=0, atol=1e-6)
        assert (len(found), found.num_features, found.names) == (3, 7, ())


def test_the_digest_is_of_weights_and_names(classifier) -> None:
    others = [
        Classifier(classifier.weight_LD + 1e-3, classifier.bias_L, NAMES),
        Classifier(classifier.weight_LD, classifier.bias_L + 1e-3, NAMES),
        Classifier(classifier.weight_LD, classifier.bias_L, NAMES[::-1]),
    ]
    assert len({one.digest for one in (classifier, *others)}) == 4


def test_an_encoder_is_the_same_with_and_without_its_classifier(encoder, classifier, tmp_path) -> None:
    bare = Encoder(encoder.backbone, encoder.normalisation, encoder.network, 32)
    assert bare.digest == encoder.digest and bare.classifier is None
    save(bare, tmp_path / "bare")
    assert load(tmp_path / "bare").classifier is None
    save(encoder, tmp_path / "copied")
    (tmp_path / "copied" / "classifier.safetensors").unlink()  # whoever copies the encoder alone
    assert load(tmp_path / "copied").classifier is None


def test_a_damaged_classifier_and_that_of_another_encoder_are_refused(encoder, classifier, tmp_path) -> None:
    save(encoder, tmp_path)
    path = tmp_path / "classifier.safetensors"
    whole = path.read_bytes()
    cases = [whole[:-1] + bytes([whole[-1] ^ 1]), whole[: len(whole) // 2], b"", b"not a classifier"]
    for data in cases:
        path.write_bytes(data)
        with pytest.raises(UserError, match=r"classifier\.safetensors is damaged or not a classifier"):
            load(tmp_path)
    path.write_bytes(Classifier(classifier.weight_LD, classifier.bias_L, ()).to_bytes())
    with pytest.raises(UserError, match=r"is not the classifier that .* describes"):
        load(tmp_path)


def test_what_is_not_linear_is_refused() -> None:
    for module in (nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 2)), nn.Conv2d(3, 4, 1), nn.Identity()):
        with pytest.raises(ValueError, match="not a linear layer"):
            Classifier.of(module.state_dict())
    with pytest.raises(ValueError, match="3 names for 2 classes"):
        Classifier.of(nn.Linear(3, 2).state_dict(), ("a", "b", "c"))
