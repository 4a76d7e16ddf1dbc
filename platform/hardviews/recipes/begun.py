"""A fine-tuning that an output holds already: the settings that a later command may change.

The encoder and the labels are facts of the beginning. Later lives read neither the encoder nor the draw again, so a
command that names others would only make the record of the run wrong.
"""

import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from hardviews.elastic.environment import launched
from hardviews.errors import UserError
from hardviews.models.encoder import Encoder, Form
from hardviews.runs.record import Record
from hardviews.train.init import open_encoder
from hardviews.train.tuning import Source


@dataclass(frozen=True)
class Start:
    """The encoder that a fine-tuning begins from, or began from.

    Attributes:
        source: for the record.
        form: form of its network and images.
        place: for the record: as the command names it, or as the first one did if it is gone from there.
        opened: gives away the encoder.
    """

    source: Source
    form: Form
    place: str
    opened: Callable[[], Encoder]

    @staticmethod
    def of(encoder: Encoder, place: str, labels: str) -> "Start":
        """Return the start of a new run. labels: that are drawn, with their seed."""
        known = {name: str(encoder.provenance.get(name, "")) for name in ("run_id", "recipe")}
        return Start(Source(encoder.digest, **known, place=place, labels=labels), encoder.form, place, [encoder].pop)


def of_begun(output: str, begun: Record, named: str, project: str, labels: str) -> Start:
    """Return the start of the run in an output; refuse a command that names another encoder or other labels.

    An encoder that cannot be opened in its first place is gone: the run goes on without it. named: the encoder in the
    command. labels: labels of the command.

    Raises:
        UserError: the command names an encoder that is not there, or an encoder or labels that the run did not begin
        from.
    """
    source, place = Source(**begun.source), named
    encoder: Encoder | None = None
    if launched().restarts:  # the first processes of the job have looked
        place = source.place or named
    else:
        try:
            encoder = open_encoder(named, project)
        except UserError as error:
            if source.place and not _same_place(source.place, named):
                raise UserError(
                    f"{error} {output} holds a run that began from the encoder at {source.place}: the run goes on if "
                    "the command names that, even if it is gone from there."
                ) from error
            place = source.place or named
    if source.labels and source.labels != labels:
        raise UserError(
            f"{output} holds a run on other labels ({source.labels}, now {labels}). To continue the run, give its "
            "--labels and --labels-seed; to train on others, give another --output."
        )
    if encoder is not None:
        _check_same(output, source, named, encoder)
    return Start(source, Form.of(begun.encoder), place, partial(_again, output, source, place, project))


def _same_place(one: str, other: str) -> bool:
    """Return whether two words name the same place, seen from the current folder."""
    return one == other or os.path.abspath(one) == os.path.abspath(other)


def _again(output: str, source: Source, place: str, project: str) -> Encoder:
    """Read the encoder again, for a run that has no checkpoint yet."""
    encoder = open_encoder(place, project)
    _check_same(output, source, place, encoder)
    return encoder


def _check_same(output: str, source: Source, named: str, encoder: Encoder) -> None:
    if encoder.digest == source.digest:
        return
    first = f" at {source.place}" if source.place and source.place != named else ""
    raise UserError(
        f"{output} holds a run that began from another encoder{first} ({source.digest[:12]}) than the one that is at "
        f"{named} now ({encoder.digest[:12]}). To continue the run, name its encoder; to fine-tune this one, give "
        "another --output."
    )
