"""Which encoder is evaluated on which data: the settings that all protocols share."""

from dataclasses import dataclass, replace
from typing import ClassVar, Literal, Self

from hardviews.checked import OPTION, above, at_least, require, within
from hardviews.data.address import is_unpacked
from hardviews.data.index import Index, is_dataset
from hardviews.data.on_the_fly import packed_pair, packed_parts
from hardviews.errors import UserError
from hardviews.evaluation.features.preprocess import Preprocess
from hardviews.evaluation.features.sources import Embedding
from hardviews.evaluation.overlap import Look
from hardviews.evaluation.subject import Subject
from hardviews.models.encoder import Interpolation
from hardviews.runs.waiting import Awaited, Dataset, EncoderOfRun, may_come
from hardviews.storage.url import check_given, check_here


@dataclass(frozen=True)
class Label:
    """The name of a published protocol in the record; empty for protocols of one form.

    Attributes:
        name: for example "simsiam", or "simsiam, changed".
        version: of its values.
        changes: the options that differ from the published ones, for example "epochs 2".
    """

    name: str = ""
    version: int = 0
    changes: str = ""

    def title(self, command: str) -> str:
        """Return the name of an evaluation for people: "linear simsiam"."""
        return f"{command} {self.name}".rstrip()

    @property
    def tag(self) -> str:
        """Name, version and changes."""
        return f"{self.name.split(',')[0]} {self.version}" + (f", changed: {self.changes}" if self.changes else "")


@dataclass(frozen=True)
class Evaluation(Subject):
    """Which encoder is evaluated, on which data.

    Attributes:
        data: the folder with packed `train` and `test` datasets (path or URL), or its dataset `train`; or a folder of
            class folders, a list file, or `torchvision:NAME?root=FOLDER`, each of which is packed into the cache.
        train: the training dataset, instead of the one in `data`; all forms of `data` are taken.
        test: the test dataset, instead of the one in `data`; all forms of `data` are taken.
        baselines: score raw pixels and the same network with random weights too.
        held_out: the share of the training set to choose settings on, of each class, at most 10,000 samples.
        overlap: look for test images that are copies of training or pretraining images: by their bytes, or fully, by
            what they look like; `auto` is full for sets of up to 200,000 images.
        resize: pixels of the shorter side; by default what the encoder was trained at.
        crop: pixels of the central crop; by default what the encoder was trained at.
        batch_size: images encoded at once.
        workers: threads that decode images; 0 is taken for 1.
        device: `auto` takes a GPU where there is one.
        seed: of the random weights and of what the protocol draws.
        project: folder of the tracking record, where MLFLOW_TRACKING_URI names no server.
        experiment: MLflow experiment that the evaluation is logged to.
        wait: seconds to wait for data that are still being packed, and for the encoder of a run that is still trained.
    """

    data: str | None = None
    train: str | None = None
    test: str | None = None
    baselines: bool = True
    held_out: float = 0.1
    overlap: Look = "auto"
    resize: int | None = None
    crop: int | None = None
    batch_size: int = 256
    workers: int = 4
    device: Literal["auto", "cpu", "cuda"] = "auto"
    seed: int = 0
    project: str = ".hardviews"
    experiment: str = "hardviews"
    wait: float = 0.0

    takes_label_sets: ClassVar[bool] = True
    """Whether images may have several classes."""

    def __post_init__(self) -> None:
        """Refuse sizes and counts that are none, and places and an experiment without a name."""
        super().__post_init__()
        check_given(data=self.data, train=self.train, test=self.test)
        check_here(project=self.project)
        require(
            self,
            OPTION,
            resize=at_least(1).or_none(),
            crop=at_least(1).or_none(),
            held_out=above(0, below=1),
            batch_size=at_least(1),
            workers=at_least(0),
            seed=within(0, 2**32 - 1),
            wait=at_least(0).note("seconds"),
        )
        if not self.experiment.strip():
            raise UserError("Evaluation: experiment is empty; give the name of an MLflow experiment, new or not.")

    def urls(self) -> tuple[str, str]:
        """The addresses of the training and the test dataset."""
        found = []
        for name, given in (("train", self.train), ("test", self.test)):
            if given is None and self.data is None:
                raise UserError(
                    f"Evaluation: no {name} data given. Give --data FOLDER (which holds packed `train` and "
                    f"`test` datasets) or --{name} URL."
                )
            found.append(given or f"{str(self.data).rstrip('/')}/{name}")
        return found[0], found[1]

    def awaited(self) -> list[Awaited]:
        """Return what other jobs may still be making: packed datasets, the encoder of a run."""
        if self.data is not None and (self.train is None or self.test is None):
            sets = [Dataset(self.data, ("train", "test"))] if may_come(self.data) else []
        else:
            sets = [Dataset(url) for url in self.urls() if may_come(url)]
        found: list[Awaited] = list(sets)
        return [*found, EncoderOfRun(self.place, self.checkpoint is not None)] if self.waits else found

    def check_data(self, train: Index) -> None:
        """Refuse data that these settings cannot evaluate on; by default none.

        Raises:
            UserError: saying what to do.
        """

    def places_of_data(self) -> tuple[str, ...]:
        """Return the addresses of the data as they are now, packed or not."""
        alone = self.train is None and self.test is None
        return (self.data,) if self.data is not None and alone and is_unpacked(self.data) else self.urls()

    def packed(self) -> tuple[str, str]:
        """Return the addresses of the packed training and test dataset; pack into the cache what is not packed yet.

        Raises:
            UserError: a data set is not there, has no labels, or a class of its test part is not in the training part.
        """
        if self.data is None or (self.train is not None and self.test is not None) or not is_unpacked(self.data):
            return packed_pair(*self.urls())
        if self.train is None and self.test is None:
            return packed_parts(self.data)
        given = "train" if self.train is not None else "test"
        raise UserError(
            f"Evaluation: --data {self.data} is packed with both of its parts, so --{given} cannot stand beside it. "
            "Give --train and --test."
        )

    def preprocess(self, image_size: int, interpolation: Interpolation = "bicubic") -> Preprocess:
        """Return how images become the input of an encoder of images of that size, resized by that filter."""
        return Preprocess.of(image_size, self.resize, self.crop, interpolation)

    @property
    def label(self) -> Label:
        """Return which published protocol this is."""
        return Label()

    @property
    def on_crops(self) -> bool:
        """Return whether the protocol reads the training images itself, and needs no features of central crops."""
        return False

    @property
    def chooses(self) -> bool:
        """Return whether there are several settings to choose from on held-out images."""
        return True

    def read(self, kind: Embedding) -> Embedding:
        """Return the map to the features that the protocol reads."""
        return kind

    def resolved(self) -> Self:
        """Return the same with the values of its protocol in the options that were left out, for the record."""
        return self

    def located(self) -> Self:
        """Return the same evaluation with `data` naming the folder of the parts, if it names their `train`.

        Raises:
            UserError: the store does not answer, or `data` is a dataset of another name.
        """
        if self.data is None or (self.train is not None and self.test is not None) or is_unpacked(self.data):
            return self
        return replace(self, data=_folder_of_parts(self.data))


def _folder_of_parts(data: str) -> str:
    """Return the folder that holds the parts: `data`, or the folder above it if `data` is the part `train`.

    A training takes either as its data.
    """
    address = data.rstrip("/")
    folder, slash, name = address.rpartition("/")
    if not is_dataset(address) or is_dataset(f"{address}/train"):
        return address
    if name != "train":
        raise UserError(
            f"--data {data} is a packed dataset itself, and an evaluation needs two. Give them by --train and --test, "
            "or give --data the folder that holds them as `train` and `test`."
        )
    return folder if slash else "."
