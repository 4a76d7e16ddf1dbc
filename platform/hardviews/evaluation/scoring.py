"""Which encoder is scored on which data: the settings that all evaluations share."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Literal, Self

from hardviews.checked import OPTION, at_least, require
from hardviews.errors import UserError
from hardviews.evaluation.features.preprocess import Preprocess
from hardviews.evaluation.label import Label
from hardviews.evaluation.overlap import Look
from hardviews.evaluation.subject import Subject
from hardviews.models.encoder import Interpolation
from hardviews.storage.url import check_given, check_here


@dataclass(frozen=True)
class Scoring(Subject, ABC):
    """Which encoder is scored, on which data.

    Attributes:
        data: the folder with packed `train` and `test` datasets (path or URL), or its dataset `train`; or a folder of
            class folders, a list file, or `torchvision:NAME?root=FOLDER`, each of which is packed into the cache.
        test: the test dataset, instead of the one in `data`; all forms of `data` are taken.
        overlap: search for test images that are copies of training or pretraining images: by their bytes, or fully, by
            their appearance; `auto` is full for sets of up to 200,000 images.
        resize: pixels of the shorter side; by default the size of the encoder's training.
        crop: pixels of the central crop; by default the size of the encoder's training.
        batch_size: images encoded at once.
        workers: threads that decode images; 0 is taken for 1.
        device: device of the encoder; `auto` takes a GPU if there is one.
        project: folder of the tracking record, if MLFLOW_TRACKING_URI does not name a server.
        experiment: MLflow experiment that the evaluation is logged to.
        wait: seconds to wait for data that are still being packed, and for the encoder of a run that is still trained.
    """

    data: str | None = None
    test: str | None = None
    overlap: Look = "auto"
    resize: int | None = None
    crop: int | None = None
    batch_size: int = 256
    workers: int = 4
    device: Literal["auto", "cpu", "cuda"] = "auto"
    project: str = ".hardviews"
    experiment: str = "hardviews"
    wait: float = 0.0

    def __post_init__(self) -> None:
        """Refuse sizes and counts that are none, and places and an experiment without a name."""
        super().__post_init__()
        check_given(data=self.data, test=self.test)
        check_here(project=self.project)
        require(
            self,
            OPTION,
            resize=at_least(1).or_none(),
            crop=at_least(1).or_none(),
            batch_size=at_least(1),
            workers=at_least(0),
            wait=at_least(0).note("seconds"),
        )
        if not self.experiment.strip():
            raise UserError("Evaluation: experiment is empty; give the name of an MLflow experiment, new or not.")

    def preprocess(self, image_size: int, interpolation: Interpolation = "bicubic") -> Preprocess:
        """Return how images become the input of an encoder of images of that size, resized by that filter."""
        return Preprocess.of(image_size, self.resize, self.crop, interpolation)

    @property
    def label(self) -> Label:
        """Return which published protocol this is."""
        return Label()

    def resolved(self) -> Self:
        """Return the same with the values of its protocol in the options that were left out, for the record."""
        return self

    @abstractmethod
    def places_of_data(self) -> tuple[str, ...]:
        """Return the addresses of the data as they are now, packed or not.

        Raises:
            UserError: no data are given.
        """

    @abstractmethod
    def located(self) -> Self:
        """Return the same with the addresses of the parts, if `data` names a packed dataset.

        Raises:
            UserError: the store does not answer, or `data` is a dataset of another name.
        """
