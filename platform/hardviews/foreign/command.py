"""`hardviews import`: weights of others become an encoder that is evaluated like one of ours."""

import hashlib
from dataclasses import dataclass, replace
from datetime import UTC, datetime

import tyro

from hardviews.checked import OPTION, above, at_least, each, finite, require
from hardviews.data.names import printable
from hardviews.errors import UserError
from hardviews.foreign.contents import read
from hardviews.foreign.imported import Imported, Inputs, imported, usual_inputs
from hardviews.foreign.layouts import Name
from hardviews.foreign.left_over import listed
from hardviews.foreign.record import KEY, account, origin, read_account, sentence, tags
from hardviews.models.backbones import Backbone
from hardviews.models.described_file import to_text
from hardviews.models.encoder import Encoder, Interpolation, save
from hardviews.models.encoder_files import IMPORT
from hardviews.runs.record import Record
from hardviews.storage.store import check_writable, open_store
from hardviews.storage.url import check_given, check_here
from hardviews.tracking.job import OUTPUT, USER, job_tags, user
from hardviews.tracking.mlflow_run import Run
from hardviews.views.augmentation import Normalisation, Triple


@dataclass(frozen=True)
class Import:
    """Makes an encoder out of a file with the weights of another code, to be evaluated like a run of ours.

    Attributes:
        file: file of weights (.pth, .pth.tar, .torch or .safetensors), at a path or an S3 address.
        output: new folder for the encoder, at a path or an S3 address; evaluations take it as --run.
        layout: how that code names its weights; by default the layout that fits the names in the file.
        backbone: network of timm, for example resnet50 or vit_small_patch16_224; by default recognised by the shapes.
        part: network of the file, for example teacher or student; by default the one that is usually evaluated.
        mean: mean of red, green and blue pixels in [0, 1]; by default as in the layout's own pretraining.
        std: deviation of these pixels.
        image_size: pixels a side of the images; by default 224, or 32 for a ResNet with a stem for small images, or the
            size of a transformer's position embeddings.
        interpolation: filter that resizes images in evaluations.
        project: folder of the tracking record, if MLFLOW_TRACKING_URI names no server.
        experiment: MLflow experiment that the import is logged to.
    """

    file: tyro.conf.Positional[str]
    output: str
    layout: Name | None = None
    backbone: str | None = None
    part: str | None = None
    mean: Triple | None = None
    std: Triple | None = None
    image_size: int | None = None
    interpolation: Interpolation | None = None
    project: str = ".hardviews"
    experiment: str = "hardviews"

    def __post_init__(self) -> None:
        """Refuse places and an experiment without a name, and sizes and pixel statistics that are none."""
        check_given(file=self.file, output=self.output)
        check_here(project=self.project)
        require(
            self,
            OPTION,
            mean=each(finite()).or_none(),
            std=each(above(0)).or_none(),
            image_size=at_least(1).note("pixels").or_none(),
        )
        if not self.experiment.strip():
            raise UserError("Import: experiment is empty; give the name of an MLflow experiment, new or not.")

    def inputs(self, usual: Inputs) -> Inputs:
        """Return the images of the encoder: the usual ones, with the options that are given."""
        normalisation = Normalisation(self.mean or usual.normalisation.mean, self.std or usual.normalisation.std)
        return Inputs(normalisation, self.image_size or usual.image_size, self.interpolation or usual.interpolation)


def run_import(config: Import) -> None:
    """Read the file, write the encoder, log both as a run, and print the findings.

    Raises:
        UserError: the file cannot be read, is of another layout or network, or the output is in use. Nothing is left.
    """
    check_writable("output", config.output)
    check_writable("project", config.project)
    backbone = None if config.backbone is None else Backbone(config.backbone)
    one = imported(read(config.file), config.layout, config.part, backbone)
    encoder = one.encoder(config.inputs(usual_inputs(one)), {})
    _check_free(config.output, encoder.digest)
    date = datetime.now(UTC).date().isoformat()
    about = origin(one, date)
    with _run(config, encoder, {KEY: about}) as run:
        encoder.provenance = {"run_id": run.run_id, KEY: about}
        _write(config.output, encoder, to_text(account(one, date, encoder.digest, run.run_id)))
        run.log_params(replace(config, layout=one.found.layout.name, backbone=encoder.backbone.name))
        run.set_note(_note(encoder, one))
        run.log_encoder(encoder)
    _report(config, encoder, one)


def _check_free(output: str, digest: str) -> None:
    """Refuse a place that holds a training, or another encoder."""
    if Record.read(output) is not None:
        raise UserError(f"{output} holds a training. Import into a folder of its own.")
    known = read_account(output)
    if known is not None and known.get("digest") != digest:
        raise UserError(
            f"{output} holds another encoder, imported from {known.get('file')}. Give another --output, or remove it."
        )
    if known is None and {"encoder.json", "encoder.safetensors"} & set(open_store(output).inside("encoder").files()):
        raise UserError(f"{output} holds an encoder that was not imported. Give another --output.")


def _run(config: Import, encoder: Encoder, provenance: dict[str, object]) -> Run:
    """Open the run of an import; the same import into the same output goes on in the run that it began."""
    output = config.output.rstrip("/")
    return Run.start(
        config.experiment,
        output.rpartition("/")[2] or output,
        folder=config.project,
        key=hashlib.sha256(f"import {encoder.digest} {output}".encode()).hexdigest(),
        tags={
            **tags(provenance),
            **job_tags(),
            "hardviews.encoder": encoder.digest,
            OUTPUT: config.output,
            USER: user(),
            "mlflow.source.name": "hardviews import",
        },
    )


def _write(output: str, encoder: Encoder, text: str) -> None:
    """Write the account, then the encoder; if the encoder cannot be written, the account goes again."""
    store = open_store(output)
    new = store.size(IMPORT) is None
    store.write(IMPORT, text.encode())
    try:
        save(encoder, f"{output.rstrip('/')}/encoder")
    except BaseException:
        if new:
            store.remove(IMPORT)
            store.remove_if_empty()
        raise


def _note(encoder: Encoder, one: Imported) -> str:
    lines = [sentence(encoder.provenance), "", *(f"* {line}" for line in _lines(encoder, one))]
    return "\n".join(lines)


def _lines(encoder: Encoder, one: Imported) -> list[str]:
    """Return lines about the weights read, the pixels, and left-over or missing parts."""
    fitted, pixels = one.fitted, encoder.normalisation
    expected = listed([group for group in one.groups if group.expected])
    unexpected = listed([group for group in one.groups if not group.expected])
    lines = [
        f"images: {encoder.image_size} pixels a side, mean {_numbers(pixels.mean)}, deviation {_numbers(pixels.std)}, "
        f"resized by {encoder.interpolation}",
        f"weights of the encoder: {len(fitted.state) - len(fitted.filled)}",
    ]
    if one.facts:
        lines.append("the file says: " + ", ".join(f"{name} {value}" for name, value in one.facts.items()))
    if expected:
        lines.append(f"left over, as expected: {', '.join(expected)}")
    if unexpected:
        lines.append(f"left over, NOT expected: {', '.join(unexpected)}")
    if fitted.filled:
        lines.append(f"missing, set to zero: num_batches_tracked {len(fitted.filled)}")
    lines += [f"converted from {kind} to float32: {count}" for kind, count in fitted.converted.items()]
    return lines


def _report(config: Import, encoder: Encoder, one: Imported) -> None:
    reason = "" if config.layout else ", by the names in it"
    print(
        f"{printable(config.output)}: {encoder.backbone.name}, {encoder.num_features} features, digest "
        f"{encoder.digest[:12]}"
    )
    print(f"  from {printable(one.contents.file)}, SHA-256 {one.contents.sha256}")
    print(f"  layout {one.found.layout.name}, part {one.found.place.part}{reason}")
    for line in _lines(encoder, one):
        print(f"  {printable(line)}")
    print(f"\nTo score it: hardviews knn --run {printable(config.output)} --data DATA")


def _numbers(values: tuple[float, ...]) -> str:
    return f"({', '.join(f'{value:g}' for value in values)})"
