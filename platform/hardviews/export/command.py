"""`hardviews export`: an encoder in the format of another library, checked, and its model card."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
import tyro

from hardviews.data.names import printable
from hardviews.errors import UserError
from hardviews.export.card import FILE, card
from hardviews.export.comparison import BATCHES, difference, fixed_images, own_features
from hardviews.export.detectron2 import Detectron2
from hardviews.export.facts import collect
from hardviews.export.format import Format, Subject, check_packages
from hardviews.export.formats import FORMATS, check_fits
from hardviews.export.place import check_free, published
from hardviews.models.encoder import Encoder, load
from hardviews.storage.url import check_given, check_here

Name = Literal["timm", "huggingface", "torchvision", "detectron2", "onnx", "torch_export"]


@dataclass(frozen=True)
class Export:
    """Hands an encoder to another library, or writes its model card.

    Attributes:
        run: the output of a pretraining, or an exported encoder's folder or file (path or URL).
        format: format of the export; see docs/export.md.
        card: write a model card, README.md, from the run's record; alone, or into the folder of the format.
        out: new folder; by default `export-FORMAT`. An untouched export of the same encoder is replaced.
        license: licence of the weights, for the card and for timm, for example apache-2.0.
        allow_pickle: for detectron2, which reads only pickles: write one in place of safetensors.
        project: folder of the tracking record, in which the card looks for scores, if MLFLOW_TRACKING_URI is not set.
    """

    run: tyro.conf.Positional[str]
    format: Name | None = None
    card: bool = False
    out: str | None = None
    license: str = "unknown"
    allow_pickle: bool = False
    project: str = ".hardviews"

    def __post_init__(self) -> None:
        """Refuse places that are not named, and an export of nothing."""
        check_given(run=self.run)
        check_here(out=self.out, project=self.project)
        if self.format is None and not self.card:
            raise UserError(f"Say what to export: --format {' | '.join(FORMATS)}, or --card for a model card.")
        if self.allow_pickle and self.format != "detectron2":
            raise UserError("--allow-pickle is for --format detectron2; no other format needs a pickle. Leave it out.")
        if not self.license.strip() or "\n" in self.license:
            raise UserError("--license is empty or has several lines; give a tag such as apache-2.0, or leave it out.")


def run_export(config: Export) -> None:
    """Export, check, and print how to load the result.

    Raises:
        UserError: the encoder cannot be read or expressed, a package is missing, the folder is in use, or the export
        does not compute the same features. Nothing is left then.
    """
    form = None if config.format is None else FORMATS[config.format]
    if config.allow_pickle:
        form = Detectron2(pickled=True)
    if form is not None:
        check_packages(form)
    encoder = load(config.run)
    if form is not None:
        check_fits(form, encoder)
    out = config.out or f"export-{config.format or 'card'}"
    check_free(Path(out).expanduser().absolute(), encoder.digest)
    text = ""
    if config.card or (form is not None and form.has_card):
        facts = collect(encoder, config.run, config.project)
        text = card(encoder, facts, config.license, form, _quoted(out))
    about = {"format": config.format or "card", "license": config.license}
    measured = None
    with published(out, encoder, about) as folder:
        if form is not None:
            form.write(Subject(encoder, config.license), folder)
            measured = check(form, encoder, folder)
        if text:
            (folder / FILE).write_text(text, encoding="utf-8")
    _report(encoder, form, out, measured)


def check(form: Format, encoder: Encoder, folder: Path) -> float:
    """Return the largest relative difference between the features of an export and of the encoder.

    Raises:
        UserError: it is larger than the format admits, or the export cannot be loaded.
    """
    images_BCHW = fixed_images(encoder.image_size)
    largest = 0.0
    for batch in BATCHES:
        with torch.random.fork_rng(devices=[]):
            found_BD = form.features(encoder, folder, images_BCHW[:batch])
        largest = max(largest, difference(found_BD, own_features(encoder, images_BCHW[:batch])))
    if largest > form.bound:
        raise UserError(
            f"The {form.name} export of {encoder.backbone.name} does not compute the features of the encoder: on "
            f"{len(images_BCHW)} images the largest relative difference is {largest:.2g}, and {form.bound:g} is "
            "admitted. Nothing was kept. Choose another format, and report this as an error of hardviews."
        )
    return largest


def _report(encoder: Encoder, form: Format | None, out: str, measured: float | None) -> None:
    """Print the written files, the result of the check, and the lines to load them."""
    print(f"{printable(out)}: {encoder.backbone.name}, {encoder.num_features} features, digest {encoder.digest[:12]}")
    for path in sorted(Path(out).expanduser().iterdir()):
        print(f"  {path.name:24} {_size(path.stat().st_size):>9}")
    if form is None:
        return
    if measured is not None:
        print(f"checked on 8 fixed images: largest relative difference {measured:.1e}, {form.bound:g} is admitted")
    print("\nTo load it:\n")
    print("\n".join(f"    {line}".rstrip() for line in form.loading(encoder, _quoted(out)).splitlines()))


def _quoted(folder: str) -> str:
    """Return the name of a folder as it stands between double quotes in Python."""
    return json.dumps(printable(folder))[1:-1]


def _size(count: int) -> str:
    return f"{count / 1e6:.1f} MB" if count >= 1e6 else f"{count / 1e3:.1f} kB"
