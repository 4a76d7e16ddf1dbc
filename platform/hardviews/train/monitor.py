"""Measures the representation while it trains: k-NN, few-shot and health, at fixed steps.

It does not change the training: it encodes with copies of the networks in evaluation mode, draws no random numbers, and
chooses its images by a hash. All ranks encode a share, and rank 0 computes.

Shape legend: B images of one pass, M of all passes, D features, P features of the projector, Q views of an image.
"""

import logging
import math
from collections.abc import Callable
from copy import deepcopy
from dataclasses import replace

import torch
from torch import Tensor, nn

from hardviews.clock import Calendar
from hardviews.collectives import gather_rows
from hardviews.data.index import Index
from hardviews.data.reader import Reader, ReaderConfig
from hardviews.elastic.worker import Phase, advanced, doing
from hardviews.errors import UserError
from hardviews.evaluation.features.extract import Features
from hardviews.evaluation.monitoring.online import PREFIX as ONLINE
from hardviews.evaluation.monitoring.online import SHOTS, enough_shots, online_scores
from hardviews.evaluation.monitoring.specimens import VIEWS, Specimens
from hardviews.health.figures import PREFIX as HEALTH
from hardviews.health.figures import figures
from hardviews.models.backbones import Backbone
from hardviews.models.encoder import Encoder, exported_state
from hardviews.objective.objective import Objective
from hardviews.train.monitor_config import MonitorConfig, check_held_out
from hardviews.train.sight import Sight
from hardviews.views.plan import Plan
from hardviews.world import World

PROJECTOR = f"{HEALTH}projector/"

_SHARE = 0.01  # share of the training's cost by the estimate below, which omits some; the true share is below 0.02
_MOST = 100  # most measurements of a run, without the first one
_LEAST_IMAGES, _IMAGES_PER_FEATURE = 512, 4
_BATCH = 128  # images encoded at once; fixed, so that no number depends on the number of processes

logger = logging.getLogger(__name__)


class Monitor:
    """Measures at fixed steps of a run."""

    def __init__(
        self,
        config: MonitorConfig,
        backbone: Backbone,
        objective: Objective,
        reader: Reader,
        calendar: Calendar,
        world: World,
    ) -> None:
        """Choose the images, and the steps at which they are measured; check the labelled datasets.

        Raises:
            UserError: a dataset is missing, incomplete or not suitable.
        """
        self.config, self.backbone, self.method, self.world = config, backbone, objective.method, world
        self.every = 0
        self._encoder: Encoder | None = None
        self._labels: dict[str, Tensor] | None = None
        self._last = calendar.step(calendar.total)
        if config.steps == 0:
            return
        view = self.method.plan().pools[0].augmentation
        width = backbone.num_features
        images = config.images or max(_LEAST_IMAGES, _IMAGES_PER_FEATURE * width)
        # A reader of its own: the counters of the training's reader are metrics.
        self.specimens = Specimens(Reader(reader.index, reader.config), view, min(images, len(reader)))
        datasets = config.datasets()
        if datasets is not None:
            check_held_out(datasets[1], reader.index)
            readers = [Reader(index, _whole(reader.config)) for index in datasets]
            for labelled in readers:
                labelled.check()
            self.specimens.add_labelled(readers[0], readers[1], config.labelled)
            self._labels = {name: torch.from_numpy(self.specimens.labels(name)) for name in ("bank", "test")}
            if not enough_shots(self._labels["bank"]):
                world.say(f"monitor: a class has fewer than {SHOTS} images to learn from, so few-shot is not measured")
        self.every = config.steps or interval(calendar, objective.plan, len(self.specimens))

    def labelled(self) -> list[Index]:
        """Return the labelled datasets, for training and for testing; empty if there are none."""
        return (
            [part.reader.index for part in self.specimens.parts if part.name in ("bank", "test")] if self.every else []
        )

    def due(self, step: int) -> bool:
        """Return whether the representation is measured after this step: at the start, at intervals, at the end."""
        return self.every > 0 and (step % self.every == 0 or step == self._last)

    def load(self) -> None:
        """Read this rank's images, so that a damaged one is found before anything is trained.

        Raises:
            UserError: an image cannot be read.
        """
        if self.every:
            for places in self._shares()[self.world.rank]:
                self.specimens.pixels(places)
                advanced()
            self.specimens.close()

    def measure(self, look: Callable[[Sight], None] | None = None) -> dict[str, float]:
        """Return all figures by metric on rank 0, and nothing on other ranks; every rank calls this.

        `look` is called on rank 0 with the measurement.
        """
        with doing(Phase.EPOCH), torch.no_grad():
            values_MD, projected_MP = self._encode()
            if not self.world.leads:
                return {}
            if look is not None and self._encoder is not None:
                look(Sight(self.specimens, self._encoder, values_MD, projected_MP, self._labels))
            return self._figures(values_MD, projected_MP)

    def _figures(self, values_MD: Tensor, projected_MP: Tensor | None) -> dict[str, float]:
        found: dict[str, float] = {}
        images, views = self.specimens.place("images"), self.specimens.place("views")
        for prefix, made in ((HEALTH, values_MD), (PROJECTOR, projected_MP)):
            if made is not None:
                of_one = figures(made[images], made[views].unflatten(0, (-1, VIEWS)))
                found |= {f"{prefix}{name}": value for name, value in of_one.items()}
        if self._labels is not None:
            bank, test = (
                Features(values_MD[self.specimens.place(name)], labels) for name, labels in self._labels.items()
            )
            scores = online_scores(bank, test, self.world.device)
            found |= {f"{ONLINE}{name}": value for name, value in scores.items()}
        return found

    def _encode(self) -> tuple[Tensor, Tensor | None]:
        """Return the features (M, D) of all images, and the projector's features (M, P) if there is one."""
        device = self.world.device
        encoder, head = self._networks()
        width = encoder.num_features
        probe_1P = head(torch.zeros(1, width, device=device)) if head is not None else None
        columns = width + (0 if probe_1P is None else probe_1P.shape[1])
        parts = [torch.empty(0, columns, device=device)]
        shares = self._shares()
        for places in shares[self.world.rank]:
            parts.append(self._rows(places, columns, encoder, head))
            advanced()
        self.specimens.close()
        gathered, _ = gather_rows(torch.cat(parts))
        order_M = torch.tensor([place for share in shares for places in share for place in places], device=device)
        values_M = torch.empty_like(gathered)
        values_M[order_M] = gathered
        return values_M[:, :width], None if head is None else values_M[:, width:]

    def _rows(
        self, places: list[int], columns: int, encoder: Encoder, head: Callable[[Tensor], Tensor] | None
    ) -> Tensor:
        """Return the networks' outputs for some images; NaN if the images cannot be read.

        A failed measurement must not end the run, and other ranks wait for these rows.
        """
        try:
            pixels_BCHW = self.specimens.pixels(places)
        except UserError as error:
            logger.warning("monitor: not measured: %s", error)
            return torch.full((len(places), columns), math.nan, device=self.world.device)
        features_BD = encoder.embed(pixels_BCHW)
        return features_BD if head is None else torch.cat([features_BD, head(features_BD).float()], 1)

    def _networks(self) -> tuple[Encoder, nn.Module | None]:
        """Return copies of the present exported network and of the projector behind it."""
        method = self.method
        if self._encoder is None:
            augmentation = method.plan().pools[0].augmentation
            encoder = Encoder(self.backbone, augmentation.normalisation, method.exported, augmentation.size)
            self._encoder = encoder.to(self.world.device, memory_format=torch.channels_last).eval()  # type: ignore[call-overload]
        else:
            self._encoder.network.load_state_dict(exported_state(method.exported.state_dict()))
        head = method.exported_head
        return self._encoder, None if head is None else deepcopy(head).float().eval()

    def _shares(self) -> list[list[list[int]]]:
        """Return the places of each pass of each rank."""
        total, size = len(self.specimens), self.world.size
        passes = [list(range(first, min(first + _BATCH, total))) for first in range(0, total, _BATCH)]
        return [passes[rank::size] for rank in range(size)]


def interval(calendar: Calendar, plan: Plan, images: int) -> int:
    """Return the steps between two measurements of `images` images: a function of recipe and dataset alone.

    A measured image costs a forward pass. A trained sample costs three passes for each trained full-size view, and one
    for each candidate if views are chosen. Small views are not counted. A run always has a measurement before its first
    step and one after the last.
    """
    pools = [pool for pool in plan.pools if pool.target]
    sample = sum(3 * pool.slots + (pool.candidates if pool.candidates > pool.slots else 0) for pool in pools)
    affordable = int(_SHARE * sample * calendar.total / images)
    return math.ceil(calendar.step(calendar.total) / min(max(1, affordable - 1), _MOST))


def _whole(config: ReaderConfig) -> ReaderConfig:
    """Return the training's cache settings, for a dataset in which a corrupt sample is an error."""
    return replace(config, on_corrupt="raise", streams=None, window=None)
