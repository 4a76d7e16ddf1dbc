"""The model card: description, origin and scores of an encoder, and the way to load it."""

import json
from collections.abc import Sequence

from hardviews.evaluation.features.preprocess import Preprocess
from hardviews.export.facts import Facts, Score
from hardviews.export.format import Format
from hardviews.export.formats import fitting
from hardviews.models.encoder import Encoder

FILE = "README.md"
_UNKNOWN = "unknown"
# Settings of a recipe that say most about a training.
_SHOWN = ("method", "strategy", "optimizer.name", "optimizer.learning_rate", "training.batch", "training.seed")


def card(encoder: Encoder, facts: Facts, license: str, written: Format | None = None, folder: str = "") -> str:
    """Return the card as Markdown, with the header that the Hugging Face Hub reads.

    `license`: licence of the weights, as a tag of the Hub. `written`: the format beside the card, if any, and its
    folder; the folders of other formats have their default names.
    """
    parts = [
        _header(license),
        f"# {encoder.backbone.name}{f', pretrained by {facts.recipe}' if facts.recipe else ''}",
        _summary(encoder, facts),
        "## Input and output\n\n" + _table(_input(encoder)),
        "## Training\n\n" + _table(_training(facts)) + _settings(facts) + _missing(facts),
        "## Scores\n\n" + _scores(facts),
        "## Intended use\n\n" + _USE,
        "## Load it\n\n" + _loading(encoder, written, folder),
        "## Identity and licence\n\n" + _identity(encoder, facts, license),
    ]
    return "\n\n".join(parts) + "\n"


_USE = (
    "The features are for nearest neighbours, linear classifiers, clustering, and as the start of a fine-tuning. The "
    "encoder has no classifier of its own. It was not tested for bias, for safety, or on images unlike those of its "
    "training. Test it on your own data before a decision depends on it."
)


def _header(license: str) -> str:
    lines = [
        "---",
        f"license: {json.dumps(license)}",
        "library_name: timm",
        "pipeline_tag: image-feature-extraction",
        "tags: [timm, transformers, self-supervised, hardviews]",
        "---",
    ]
    return "\n".join(lines)


def _summary(encoder: Encoder, facts: Facts) -> str:
    if facts.recipe:
        origin = f"hardviews pretrained it without labels, by the recipe `{facts.recipe}`."
    elif facts.imported:
        origin = f"hardviews did not train it. {facts.imported}"
    else:
        origin = "hardviews has no record of its training: the origin of the weights is unknown."
    return f"An image encoder: {encoder.num_features} features of an image. {origin}"


def _input(encoder: Encoder) -> list[tuple[str, str]]:
    preprocess = Preprocess.of(encoder.image_size, interpolation=encoder.interpolation)
    return [
        ("backbone", f"`{encoder.backbone.name}`{' with a small stem' if encoder.backbone.small_stem else ''}"),
        ("image", f"RGB, short side resized to {preprocess.resize} ({preprocess.interpolation}), central "
                  f"{preprocess.crop} x {preprocess.crop} pixels"),
        ("pixels", f"in [0, 1], minus {_numbers(encoder.normalisation.mean)}, divided by "
                   f"{_numbers(encoder.normalisation.std)}"),
        ("output", f"{encoder.num_features} features, float32"),
    ]  # fmt: skip


def _training(facts: Facts) -> list[tuple[str, str]]:
    data = facts.data_name or _UNKNOWN
    digest = f"`{facts.data_digest}`" if facts.data_digest else _UNKNOWN
    versions = ", ".join(f"{name} {version}" for name, version in facts.versions.items())
    return [
        ("recipe", f"`{facts.recipe}`" if facts.recipe else _UNKNOWN),
        ("dataset", data),
        ("digest of the dataset", digest),
        ("images in the dataset", _count(facts.images)),
        ("epochs", facts.epochs or _UNKNOWN),
        ("images seen", _count(facts.samples)),
        ("commit of the code", f"`{facts.commit}`" if facts.commit else _UNKNOWN),
        ("versions", versions or _UNKNOWN),
        ("end of the run", facts.verdict or _UNKNOWN),
        ("health of the features", facts.health or _UNKNOWN),
    ]


def _settings(facts: Facts) -> str:
    shown = [f"`{name}` = {facts.settings[name]}" for name in _SHOWN if name in facts.settings]
    return f"\n\nSettings: {', '.join(shown)}." if shown else ""


def _missing(facts: Facts) -> str:
    """Return a sentence that names the unknown."""
    unknown = [name for name, value in _training(facts) if value == _UNKNOWN]
    return f"\n\nNot in the record: {', '.join(unknown)}." if unknown else ""


def _scores(facts: Facts) -> str:
    if not facts.scores:
        reason = (
            "The tracking record has no evaluation of this encoder."
            if facts.looked
            else "Unknown: the tracking record was not at hand."
        )
        return f"{reason} `hardviews knn` and `hardviews linear` score it."
    lines = ["Test accuracy of frozen features, in per cent.", "", "| metric | value | test data |", "|---|---|---|"]
    return "\n".join(lines + [_row(score) for score in facts.scores])


def _row(score: Score) -> str:
    return f"| {score.name} | {score.value:.2f} | `{score.test[:12] or _UNKNOWN}` |"


def _loading(encoder: Encoder, written: Format | None, folder: str) -> str:
    parts = ["`hardviews export RUN --format FORMAT` writes a folder for each of these. Give the place of yours."]
    for form in fitting(encoder):
        here = written is not None and written.name == form.name
        lines = written.loading(encoder, folder) if written and here else form.loading(encoder, f"export-{form.name}")
        parts.append(f"{form.name}:\n\n```python\n{lines}\n```")
    return "\n\n".join(parts)


def _identity(encoder: Encoder, facts: Facts, license: str) -> str:
    rows = [("digest of the encoder", f"`{encoder.digest}`"), ("tracking run", f"`{facts.run_id or _UNKNOWN}`")]
    owner = " The owner of the run states it with `--license`." if license == _UNKNOWN else ""
    return (
        f"{_table(rows)}\n\nLicence of the weights: {license}.{owner} The licence of the images may limit the use of "
        "the weights. The code of hardviews is under Apache-2.0."
    )


def _table(rows: Sequence[tuple[str, str]]) -> str:
    return "\n".join(["| | |", "|---|---|", *(f"| {name} | {value.replace('|', '/')} |" for name, value in rows)])


def _count(number: int | None) -> str:
    return _UNKNOWN if number is None else f"{number:,}"


def _numbers(values: Sequence[float]) -> str:
    return f"({', '.join(f'{value:g}' for value in values)})"
