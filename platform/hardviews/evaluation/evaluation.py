"""Which encoder is evaluated on which data: the settings of all protocols that are fitted on training images."""

from dataclasses import dataclass, replace
from typing import ClassVar, Self

from hardviews.checked import OPTION, above, at_least, require, within
from hardviews.data.address import is_unpacked
from hardviews.data.index import Index, is_dataset
from hardviews.data.on_the_fly import packed_pair, packed_parts
from hardviews.errors import UserError
from hardviews.evaluation.features.sources import Embedding
from hardviews.evaluation.features.stages import of_stage
from hardviews.evaluation.label import Label
from hardviews.evaluation.scoring import Scoring
from hardviews.runs.waiting import Awaited, Dataset, EncoderOfRun, may_come
from hardviews.storage.url import check_given


@dataclass(frozen=True)
class Evaluation(Scoring):
    """Which encoder is evaluated, on which data.

    Attributes:
        train: the training dataset, instead of the one in `data`; all forms of `data` are taken.
        baselines: score raw pixels and the same network with random weights too.
        held_out: the share of the training set to choose settings on, of each class, at most 10,000 samples.
        seed: seed of the random weights and of the protocol's draws.
        stage: stage of the network whose pooled features are used. Stage 1 is the stem of a ResNet, or the first block
            of a vision transformer. By default the features of the whole network are used.
    """

    train: str | None = None
    baselines: bool = True
    held_out: float = 0.1
    seed: int = 0
    stage: int | None = None

    takes_label_sets: ClassVar[bool] = True
    """Whether images may have several classes."""

    def __post_init__(self) -> None:
        """Refuse a share that is none, and places without a name."""
        super().__post_init__()
        check_given(train=self.train)
        require(self, OPTION, held_out=above(0, below=1), seed=within(0, 2**32 - 1), stage=at_least(1).or_none())

    def urls(self) -> tuple[str, str]:
        """Return the addresses of the training and the test dataset."""
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
        """Return the things that other jobs may still be making: packed datasets, the encoder of a run."""
        if self.data is not None and (self.train is None or self.test is None):
            sets = [Dataset(self.data, ("train", "test"))] if may_come(self.data) else []
        else:
            sets = [Dataset(url) for url in self.urls() if may_come(url)]
        found: list[Awaited] = list(sets)
        return [*found, EncoderOfRun(self.place, self.checkpoint is not None)] if self.waits else found

    def check_data(self, train: Index) -> None:
        """Refuse data that these settings cannot evaluate on; by default none.

        Raises:
            UserError: a place is missing; the message has the remedy.
        """

    def places_of_data(self) -> tuple[str, ...]:
        """Return the addresses of the data as they are now, packed or not."""
        alone = self.train is None and self.test is None
        return (self.data,) if self.data is not None and alone and is_unpacked(self.data) else self.urls()

    def packed(self) -> tuple[str, str]:
        """Return the addresses of the packed training and test dataset; pack unpacked ones into the cache.

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

    @property
    def on_crops(self) -> bool:
        """Return whether the protocol reads the training images itself, and needs no features of central crops."""
        return False

    @property
    def chooses(self) -> bool:
        """Return whether there are several settings to choose from on held-out images."""
        return True

    @property
    def label(self) -> Label:
        """Return which stage is read, if not the whole network."""
        return Label() if self.stage is None else Label(f"stage {self.stage}")

    def read(self, kind: Embedding) -> Embedding:
        """Return the map to the features that the protocol reads."""
        return of_stage(kind, self.stage)

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
