"""Settings of the measurements during training, and the place of their labelled images."""

from dataclasses import dataclass

from hardviews.checked import require, within
from hardviews.data.index import Index, NoDataset
from hardviews.errors import UserError
from hardviews.evaluation.checks import check_datasets
from hardviews.storage.url import check_given

_COUNTS = 10**9


@dataclass(frozen=True)
class MonitorConfig:
    """Settings of the measurements of the representation during training.

    Attributes:
        data: folder (path or URL) with packed `train` and `test` datasets that have labels, for k-NN and few-shot. None
            measures health alone, which needs no labels.
        steps: steps between two measurements; the first and the last step are always measured. 0 never measures. None
            chooses a number for which all measurements take less than 2 % of the time.
        images: number of training images whose features are measured; None chooses by the width of the features.
        labelled: most images of the labelled datasets, half of them for testing.
    """

    data: str | None = None
    steps: int | None = None
    images: int | None = None
    labelled: int = 10_000

    def __post_init__(self) -> None:
        """Refuse invalid counts, and a folder without a name."""
        if self.data is not None:
            check_given(**{"monitor.data": self.data})
        require(
            self,
            "monitor",
            steps=within(0, _COUNTS).note("0 for never").or_none("to choose by the cost"),
            images=within(2, 2**20).or_none("to choose by the width of the features"),
            labelled=within(80, 10**6),
        )

    def datasets(self, patience: float | None = None) -> tuple[Index, Index] | None:
        """Return the labelled datasets, None if there are none.

        Raises:
            UserError: one of them is missing, has no labels, or cannot test the other.
        """
        if self.data is None or self.steps == 0:
            return None
        folder = self.data.rstrip("/")
        try:
            bank, test = (Index.load(f"{folder}/{part}", patience) for part in ("train", "test"))
        except NoDataset as error:
            raise UserError(
                f"--monitor.data {self.data} must be a folder with two packed datasets that have labels, `train` and "
                f"`test`. {error}"
            ) from error
        check_datasets(bank, test)
        return bank, test


def check_held_out(test: Index, training: Index) -> None:
    """Refuse to test on the training dataset itself.

    Raises:
        UserError: the datasets are equal; the message names the dataset.
    """
    if test.digest == training.digest:
        raise UserError(
            f"--monitor.data: its test part, {test.url}, is the dataset that the run trains on. Give a test part that "
            "was held out."
        )
