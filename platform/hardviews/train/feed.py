"""The data of this rank, from any place of the run on."""

from collections.abc import Generator, Iterator

from hardviews.batch import Batch
from hardviews.clock import Calendar, Clock
from hardviews.data.reader import Reader
from hardviews.data.shares import Portion
from hardviews.elastic.worker import advanced
from hardviews.objective.objective import Objective
from hardviews.train.loader import RawBatch, ShareDataset, load, to_batch
from hardviews.train.recipe import Recipe
from hardviews.world import World


class Feed:
    """Makes this rank's shares of the run's micro-batches."""

    def __init__(self, recipe: Recipe, reader: Reader, calendar: Calendar, objective: Objective, world: World) -> None:
        self.recipe, self.reader, self.calendar = recipe, reader, calendar
        self.objective, self.world = objective, world
        self._open: Generator[RawBatch, None, None] | None = None

    def run(self, progress: int) -> Iterator[RawBatch]:
        """Return the shares from `progress` samples to the end of the run."""
        self._open = self.batches(progress, self.calendar.epochs)
        return self._open

    def batches(self, progress: int, epochs: int) -> Generator[RawBatch, None, None]:
        """Yield the shares from `progress` samples until `epochs` epochs are over."""
        loader, training, world = self.recipe.loader, self.recipe.training, self.world
        portion = Portion(
            seed=training.seed,
            epoch=self.calendar.at(progress).epoch,
            consumed=self.calendar.consumed(progress),
            global_batch=training.batch,
            group=training.group,
            accumulate=training.accumulate,
            rank=world.rank,
            world=world.size,
        )
        canvas = loader.canvas if loader.on_device(world.device) else None
        labelled = self.objective.method.labelled
        dataset = ShareDataset(self.reader, self.objective.plan, portion, canvas, epochs, labelled)
        return load(loader, dataset, world.device)

    def epoch(self, clock: Clock) -> Iterator[Batch]:
        """Iterate over the views of one epoch, for a method that looks at all images before it begins."""
        for raw in self.batches(clock.epoch * self.calendar.per_epoch, clock.epoch + 1):
            advanced()
            yield to_batch(raw, self.objective, clock, self.recipe.training.group, self.world.device)

    def close(self) -> None:
        """End the workers, also a worker that waits for a store."""
        if self._open is not None:
            self._open.close()
