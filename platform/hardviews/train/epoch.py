"""The number of samples that an epoch trains on."""

from hardviews.data.reader import Reader
from hardviews.errors import UserError
from hardviews.train.recipe import Training


def epoch_samples(reader: Reader, training: Training) -> int:
    """Return how many samples of a dataset fill whole global batches.

    Raises:
        UserError: there are fewer than one batch.
    """
    length = reader.order(training.seed, 0, training.batch, training.group).length
    samples = length // training.batch * training.batch
    if samples == 0:
        raise UserError(too_small(len(reader), length, training.batch, training.group * training.accumulate))
    return samples


def too_small(samples: int, length: int, batch: int, unit: int, more: str = "pack more images") -> str:
    """Return why a dataset does not fill a batch, and what to do.

    length: samples of an epoch. unit: samples of which a batch must be a multiple. more: how to get more samples.
    """
    most = length // unit * unit
    lower = (
        f"lower --training.batch to at most {most}, or" if most else "lower --training.batch and --training.group, or"
    )
    return f"The dataset has {samples} samples, fewer than one global batch of {batch}: {lower} {more}."
