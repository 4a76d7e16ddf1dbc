"""The number of samples that an epoch trains on."""

from hardviews.data.reader import Reader
from hardviews.errors import UserError
from hardviews.train.recipe import Training

_TENTH = 10


def epoch_samples(reader: Reader, training: Training) -> int:
    """Return the number of samples of a dataset that fill whole global batches.

    Raises:
        UserError: the dataset has fewer samples than one batch.
    """
    length = _length(reader, training, training.batch)
    samples = length // training.batch * training.batch
    if samples == 0:
        raise UserError(too_small(len(reader), length, training.batch, training.group * training.accumulate))
    return samples


def left_out(reader: Reader, training: Training, processes: int) -> str:
    """Return a sentence with a better batch if each epoch leaves out more than a tenth of the images; else nothing.

    Each epoch leaves out different images.
    """
    total, used = len(reader), epoch_samples(reader, training)
    if (total - used) * _TENTH <= total:
        return ""
    unit = training.group * training.accumulate
    filled = {
        batch: _length(reader, training, batch) // batch * batch
        for batch in range(training.batch, unit * processes - 1, -unit)
    }
    best = max(filled, key=lambda batch: filled[batch])  # the largest of equally good ones
    advice = f" --training.batch {best} uses {'all' if filled[best] == total else f'{filled[best]:,}'}."
    return f"An epoch has {used:,} of {total:,} images, in whole batches of {training.batch:,}." + (
        advice if filled[best] > used else ""
    )


def _length(reader: Reader, training: Training, batch: int) -> int:
    return reader.order(training.seed, 0, batch, training.group).length


def too_small(samples: int, length: int, batch: int, unit: int, more: str = "pack more images") -> str:
    """Return why a dataset does not fill a batch, and what to do.

    `length` is the number of samples of an epoch. A batch must be a multiple of `unit` samples. `more` is the way to
    get more samples, in words.
    """
    most = length // unit * unit
    lower = (
        f"lower --training.batch to at most {most}, or" if most else "lower --training.batch and --training.group, or"
    )
    return f"The dataset has {samples} samples, fewer than one global batch of {batch}: {lower} {more}."
