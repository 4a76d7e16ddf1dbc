"""The exported encoder: a frozen backbone with the pixel statistics of its training, saved without pickle.

Shape suffixes: B images, C channels, H rows, W columns, D features.
"""

import os
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from hardviews.errors import UserError
from hardviews.models.backbones import Backbone
from hardviews.models.classifier import Classifier
from hardviews.models.described_file import UNREADABLE, of_bytes, to_bytes, to_text
from hardviews.models.described_file import digest as digest_of
from hardviews.models.encoder_files import CLASSIFIER, DESCRIPTION, WEIGHTS
from hardviews.storage.failures import Denied
from hardviews.storage.store import Store, open_store
from hardviews.views.augmentation import Normalisation

# Name under which timm and transformers look for weights: an export for them is an encoder of ours too.
TIMM_WEIGHTS = "model.safetensors"
# A state-dict entry with this path component belongs to the auxiliary BatchNorm branch, used only in training.
_AUXILIARY = "adversarial"

Interpolation = Literal["bicubic", "bilinear"]
_USUAL_FILTER: Interpolation = "bicubic"


class Encoder(nn.Module):
    """A backbone and its normalisation: images in, features out.

    Attributes:
        backbone: configuration of the network.
        normalisation: mean and standard deviation of its input.
        network: trained backbone, or None for random weights. The weights are copied, without entries of the auxiliary
            BatchNorm branch.
        image_size: pixels a side at which it was trained.
        provenance: origin of the weights, written beside them; evaluation reads `run_id`, the MLflow run of the
            pretraining, and `samples` seen.
        interpolation: filter that resizes images in evaluations.
        classifier: classifier of the features, if the training had one.
    """

    def __init__(
        self,
        backbone: Backbone,
        normalisation: Normalisation,
        network: nn.Module | None = None,
        image_size: int = 224,
        provenance: Mapping[str, Any] | None = None,
        interpolation: Interpolation = _USUAL_FILTER,
        classifier: Classifier | None = None,
    ) -> None:
        super().__init__()
        self.interpolation: Interpolation = interpolation
        self.backbone = backbone
        self.normalisation = normalisation
        self.image_size = image_size
        self.provenance = dict(provenance or {})
        self.classifier = classifier
        # An export in the middle of a training must not shift its random numbers.
        with torch.random.fork_rng(devices=[], enabled=network is not None):
            self.network = backbone.build()
        if network is not None:
            self.network.load_state_dict(exported_state(network.state_dict()))

    @property
    def num_features(self) -> int:
        """D: the width of the features."""
        return self.backbone.num_features

    def forward(self, pixels_BCHW: Tensor) -> Tensor:
        """Map normalised float images (B, 3, H, W) to features (B, D)."""
        features_BD: Tensor = self.network(pixels_BCHW)
        return features_BD

    def embed(self, images_BCHW: Tensor, through: Callable[[Tensor], Tensor] | None = None) -> Tensor:
        """Map uint8 images (B, 3, H, W) on any device to float32 features (B, D) on the encoder's device.

        This is done in eval mode. `through` is another map of the normalised pixels, in place of `forward`.
        """
        if images_BCHW.dtype != torch.uint8:
            raise TypeError(f"embed takes uint8 images, got {images_BCHW.dtype}; use forward for normalised floats")
        device = next(self.network.parameters()).device
        training = self.training
        self.eval()
        try:
            with torch.no_grad():
                pixels_BCHW = self.normalisation.normalise(images_BCHW.to(device))
                pixels_BCHW = pixels_BCHW.contiguous(memory_format=torch.channels_last)
                features_BD: Tensor = (through or self)(pixels_BCHW)
        finally:
            self.train(training)
        return features_BD.float()

    @property
    def form(self) -> "Form":
        """Everything but the weights."""
        return Form(self.backbone, self.normalisation, self.image_size, self.interpolation)

    @property
    def digest(self) -> str:
        """SHA-256 of backbone, normalisation and weights, but not of provenance and classifier."""
        return digest_of(self._architecture(), self.network.state_dict())

    def _architecture(self) -> dict[str, Any]:
        return architecture(self.backbone, self.normalisation, self.image_size, self.interpolation)


def architecture(
    backbone: Backbone, normalisation: Normalisation, image_size: int, interpolation: Interpolation = _USUAL_FILTER
) -> dict[str, Any]:
    """Return the description of an encoder without its weights, for JSON."""
    # The initialisation does not change a trained encoder; but an untrained one for comparison needs it.
    usual = ("zero_residual", *(("init",) if backbone.init == "normal" else ()))
    return {
        "backbone": {key: value for key, value in asdict(backbone).items() if key not in usual},
        "normalisation": {"mean": list(normalisation.mean), "std": list(normalisation.std)},
        "image_size": image_size,
        # Encoders with the usual filter keep the digests from before the setting existed.
        **({} if interpolation == _USUAL_FILTER else {"interpolation": interpolation}),
    }


@dataclass(frozen=True)
class Form:
    """An encoder without its weights: its network and its images."""

    backbone: Backbone
    normalisation: Normalisation
    image_size: int
    interpolation: Interpolation = _USUAL_FILTER

    @staticmethod
    def of(description: Mapping[str, Any]) -> "Form":
        """Read a description (see `architecture`).

        Raises:
            KeyError, TypeError, ValueError, UserError: it is not one.
        """
        normalisation = Normalisation(**{key: tuple(value) for key, value in description["normalisation"].items()})
        interpolation = description.get("interpolation", _USUAL_FILTER)
        return Form(Backbone(**description["backbone"]), normalisation, description["image_size"], interpolation)


def of_weights(description: Mapping[str, Any], state: Mapping[str, Tensor], provenance: Mapping[str, Any]) -> Encoder:
    """Return the encoder of a description (see `architecture`) and of weights under plain timm keys.

    Raises:
        KeyError, TypeError, ValueError, RuntimeError, UserError: they do not fit together.
    """
    form = Form.of(description)
    encoder = Encoder(form.backbone, form.normalisation, None, form.image_size, provenance, form.interpolation)
    encoder.network.load_state_dict(exported_state(state))
    return encoder.eval()


def exported_state(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return a backbone's state dict under plain timm keys: without the auxiliary BatchNorm branch."""
    return {key: value for key, value in state.items() if _AUXILIARY not in key.split(".")}


def save(encoder: Encoder, url: str | os.PathLike[str]) -> str:
    """Write `encoder.safetensors` and `encoder.json` into the folder at a path or URL; return the digest.

    A classifier is written beside them, as `classifier.safetensors`, and both files describe it. The weights' file
    holds the description too, in its header's metadata, so it is complete by itself. The JSON is written last: if it
    exists, the export is complete. Each file appears whole or not at all. `timm.create_model(NAME, num_classes=0,
    checkpoint_path="encoder.safetensors")` reads the weights if the stem is not small.
    """
    store = open_store(os.fspath(url))
    description = describe(encoder)
    if encoder.classifier is not None:
        description["classifier"] = encoder.classifier.describe()
        store.write(CLASSIFIER, encoder.classifier.to_bytes())
    store.write(WEIGHTS, pack_weights(encoder, description))
    store.write(DESCRIPTION, to_text(description).encode())
    return str(description["digest"])


def describe(encoder: Encoder) -> dict[str, Any]:
    """Return the content of `encoder.json`: digest, backbone, normalisation, sizes, provenance."""
    return {
        "format": "hardviews encoder 1",
        "digest": encoder.digest,
        **encoder._architecture(),
        "num_features": encoder.num_features,
        "provenance": encoder.provenance,
    }


def pack_weights(encoder: Encoder, description: Mapping[str, Any]) -> bytes:
    """Return the bytes of a safetensors file: the weights under timm's keys, their description as metadata."""
    return to_bytes(encoder.network.state_dict(), description)


def load(url: str | os.PathLike[str]) -> Encoder:
    """Read the encoder at a path or URL, and its classifier if there is one.

    The place is the weights' file, its folder, a run's folder with `encoder/` in it, or an export for timm or
    transformers. The weights are checked against their digest.

    Raises:
        UserError: the file is missing, cut or foreign.
    """
    store, files = _places(os.fspath(url))
    data, found = None, ""
    denied: Denied | None = None
    for file in files:
        try:
            data, found = store.read(file), store.name(file)
            break
        except Denied as error:
            denied = denied or error  # S3 denies a missing file to a caller that may not list
        except (FileNotFoundError, NotADirectoryError):
            continue
    if data is None and denied is not None:
        raise denied
    if data is None and _is_file(os.fspath(url)):
        raise UserError(
            f"{url} is a file, and not an encoder that hardviews wrote. If it holds weights of another code, "
            f"import them: hardviews import {url} --output FOLDER. Then give that folder."
        )
    if data is None:
        raise UserError(
            f"There is no encoder at {url}: looked for {', '.join(map(store.name, files))}. Give the output folder "
            f"of a finished `hardviews pretrain`, or the folder that holds {WEIGHTS}."
        )
    try:
        state, description = of_bytes(data)
        encoder = of_weights(description, state, description["provenance"])
    except UNREADABLE as error:
        raise UserError(
            f"{found} is not an encoder that hardviews wrote, or is cut short ({error}). Export it again "
            f"from its checkpoint; or import weights of another code: hardviews import {found} --output FOLDER."
        ) from error
    if encoder.digest != description["digest"]:
        raise UserError(
            f"{found} is damaged: its weights do not match the digest in it. Export it again from its checkpoint."
        )
    if "classifier" in description:
        encoder.classifier = _beside(store, file, description["classifier"]["digest"])
    return encoder


def _is_file(url: str) -> bool:
    folder, _, file = url.rpartition("/")
    try:
        return bool(file) and open_store(folder or ("/" if url.startswith("/") else ".")).size(file) is not None
    except (UserError, OSError):  # a bucket without a key, or without the right to read
        return False


def _beside(store: Store, weights: str, digest: str) -> Classifier | None:
    """Read the classifier beside the weights' file; None if the weights were copied without it.

    Raises:
        UserError: the file is damaged, or belongs to another encoder.
    """
    file = weights.removesuffix(weights.rpartition("/")[2]) + CLASSIFIER
    try:
        classifier = Classifier.of_bytes(store.read(file))
    except (FileNotFoundError, NotADirectoryError, Denied):
        return None
    except ValueError as error:
        raise UserError(
            f"{store.name(file)} is damaged or not a classifier ({error}). Copy it again together with the encoder, or "
            "remove it: the encoder can be evaluated without."
        ) from error
    if classifier.digest != digest:
        raise UserError(
            f"{store.name(file)} is not the classifier that {store.name(weights)} describes. Copy both files together "
            "from one export."
        )
    return classifier


def _places(url: str) -> tuple[Store, list[str]]:
    """Return a folder and the files in it that may hold the weights."""
    if url.endswith(".safetensors"):
        folder, _, file = url.rpartition("/")
        return open_store(folder or "."), [file]
    return open_store(url), [WEIGHTS, f"encoder/{WEIGHTS}", TIMM_WEIGHTS]
