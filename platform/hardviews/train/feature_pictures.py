"""Pictures of the representation while it trains: neighbours, colours of patches, attention, and the spectrum.

They show fixed images at some measurements of the monitor: the first one in each eleventh of the run, and the last.
These measurements depend on the recipe alone, so a run that was killed goes on with the same pictures. Everything is
computed from the weights and images of that moment; nothing is kept between pictures.

Shape legend: B images, S side in pixels, R rows and K columns of a map, D features, N of a bank.
"""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from hardviews.evaluation.features.neighbours import nearest
from hardviews.evaluation.monitoring.patch_colours import patch_colours
from hardviews.evaluation.monitoring.specimens import Specimens
from hardviews.health.spectrum import covariance_eigenvalues
from hardviews.models.patch_maps import patch_maps
from hardviews.tracking.mlflow_run import Run
from hardviews.tracking.sheet import Framed, sheet
from hardviews.tracking.spare import spare
from hardviews.train.beside import Beside
from hardviews.train.sight import Sight
from hardviews.world import ALONE

NEIGHBOURS, COLOURS, ATTENTION, SPECTRUM = (
    f"features/{name}" for name in ("neighbours", "pca", "attention", "spectrum")
)
"""Keys of the pictures."""

RIGHT = "#009E73"
"""Colour of the frame of a neighbour that has the class of the query."""

_QUERIES, _NEAREST = 6, 8
_REFERENCE, _PAINTED = 16, 9  # number of images that the colours are fitted on, and of those that are shown
_LOOKED_AT, _HEADS = 6, 8  # number of images whose attention is shown, and of heads at most
_WIDEST = 6  # most tiles in a row of maps: MLflow shows pictures in squares
_MOMENTS = 11  # pictures of a key before the last one: MLflow's pages get slow with more
_LAST_PICTURE = 30.0  # seconds that the end of a training waits for pictures that are being drawn

Draw = Callable[[], Any]


class FeaturePictures:
    """Draws some measurements beside the steps."""

    def __init__(self, run: Run, total: int) -> None:
        """Draw into a run of `total` samples."""
        self._run, self._total = run, total
        self._beside = Beside()

    def due(self, samples: int, interval: int) -> bool:
        """Return whether a measurement after `samples` has pictures; `interval` samples lie between measurements."""
        first = samples - interval < 0 or _moment(samples, self._total) > _moment(samples - interval, self._total)
        return first or samples >= self._total

    def look(self, sight: Sight, samples: int) -> None:
        """Copy the content of the pictures, and draw them in a thread; a picture that fails is left out."""
        self.finish()  # waits about a second for the previous pictures
        made = pictures(sight)
        self._beside.run(partial(self._log, made, samples))

    def finish(self) -> None:
        """Wait for pictures that are being drawn."""
        self._beside.wait(_LAST_PICTURE)

    def _log(self, made: Mapping[str, Draw], samples: int) -> None:
        for key, draw in made.items():
            with spare(f"the picture {key}"):
                self._run.log_image(draw(), key, samples)


def pictures(sight: Sight) -> dict[str, Draw]:
    """Return the functions that draw the pictures, by key; pixels and numbers are copied now."""
    found: dict[str, Draw] = {}
    for key, make in ((NEIGHBOURS, _neighbours), (SPECTRUM, _spectrum), (COLOURS, _maps)):
        with spare(f"the picture {key}"):
            found |= make(sight)
    sight.specimens.close()
    return found


def _neighbours(sight: Sight) -> dict[str, Draw]:
    """Show queries with their nearest images; with labels, images of the query's class have a frame."""
    specimens, labelled = sight.specimens, sight.labels is not None
    bank, asked = ("bank", "test") if labelled else ("images", "images")
    queries = specimens.some(asked, _QUERIES)
    first = specimens.place(bank).start
    values_ND, query_BD = sight.values_MD[specimens.place(bank)].cpu(), sight.values_MD[queries].cpu()
    if not (torch.isfinite(values_ND).all() and torch.isfinite(query_BD).all()):
        return {}
    places_BN = nearest(values_ND, query_BD, _NEAREST + 1, ALONE)[1] + first
    rows = []
    for query, places in zip(queries, places_BN.tolist(), strict=True):
        others = [place for place in places if place != query][:_NEAREST]
        shown = _shown(specimens, [query, *others])
        frames = ["", *(RIGHT if sight.label(place) == sight.label(query) else "" for place in others)]
        tiles = [Framed(pixels, frame if labelled else "") for pixels, frame in zip(shown, frames, strict=True)]
        rows.append([tiles[:1], tiles[1:]])
    return {NEIGHBOURS: partial(sheet, rows)}


def _spectrum(sight: Sight) -> dict[str, Draw]:
    place, shares = sight.specimens.place("images"), {}
    for name, values in (("features", sight.values_MD), ("behind the projector", sight.projected_MP)):
        if values is not None and torch.isfinite(values[place]).all():
            values_ND = values[place].double()
            length = values_ND.square().sum(1).mean().clamp(min=1e-30)
            shares[name] = (covariance_eigenvalues(values_ND) / length).tolist()
    return {SPECTRUM: partial(_draw_spectra, shares)} if shares else {}


def _maps(sight: Sight) -> dict[str, Draw]:
    """Show the network's view of some images: colours of features, and attention of each head."""
    places = sight.specimens.some("images", _REFERENCE)
    pixels_BCHW = sight.specimens.pixels(places)
    encoder = sight.encoder
    device = next(encoder.network.parameters()).device
    maps = patch_maps(encoder.network, encoder.normalisation.normalise(pixels_BCHW.to(device)))
    found: dict[str, Draw] = {}
    shown = [_as_pixels(image) for image in pixels_BCHW]
    if maps.features is not None and torch.isfinite(maps.features).all():
        found[COLOURS] = partial(sheet, _coloured(maps.features, pixels_BCHW, shown))
    if maps.attention is not None and torch.isfinite(maps.attention).all():
        found[ATTENTION] = partial(_draw_attention, maps.attention[:_LOOKED_AT, :_HEADS].cpu().numpy(), shown)
    return found


def _coloured(
    features_BRKD: Tensor, pixels_BCHW: Tensor, shown: list[npt.NDArray[np.uint8]]
) -> list[list[list[Framed]]]:
    """Return rows of images, each beside its colours."""
    rows, columns = features_BRKD.shape[1:3]
    own_BRK3 = F.adaptive_avg_pool2d(pixels_BCHW.float(), (rows, columns)).permute(0, 2, 3, 1)
    colours = patch_colours(features_BRKD.float().cpu(), own_BRK3)
    painted = (colours * 255).round().to(torch.uint8).numpy()
    pairs = [[Framed(shown[i]), Framed(painted[i])] for i in range(min(_PAINTED, len(shown)))]
    return _in_rows(pairs)


def _draw_attention(attention_BARK: npt.NDArray[np.float32], shown: list[npt.NDArray[np.uint8]]) -> Any:
    from hardviews.tracking.feature_figures import heat  # matplotlib takes a second to import

    images = [
        [Framed(shown[i]), *(Framed(heat(map_RK)) for map_RK in of_image)] for i, of_image in enumerate(attention_BARK)
    ]
    return sheet(_in_rows(images))


def _in_rows(groups: list[list[Framed]]) -> list[list[list[Framed]]]:
    """Return groups of one size in rows: as many groups as fit, or one."""
    each = max(1, _WIDEST // len(groups[0]))
    return [groups[start : start + each] for start in range(0, len(groups), each)]


def _draw_spectra(shares: Mapping[str, list[float]]) -> Any:
    from hardviews.tracking.feature_figures import spectra

    return spectra(shares)


def _shown(specimens: Specimens, places: list[int]) -> list[npt.NDArray[np.uint8]]:
    return [_as_pixels(image) for image in specimens.pixels(places)]


def _as_pixels(image_CSS: Tensor) -> npt.NDArray[np.uint8]:
    pixels: npt.NDArray[np.uint8] = image_CSS.permute(1, 2, 0).contiguous().numpy()
    return pixels


def _moment(samples: int, total: int) -> int:
    return _MOMENTS * samples // max(1, total)
