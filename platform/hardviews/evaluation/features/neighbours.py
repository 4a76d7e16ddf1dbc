"""The nearest training samples of every test sample, exactly.

A product in single precision proposes candidates; their similarities are computed again in double precision, each by
itself. So neither tiles nor the number of processes can change the order, and equal images are equally similar. Of
equal similarities the sample that comes first in the training set is the nearer one.

Shape suffixes: N training samples, M test samples, D features, K neighbours, C candidates; B, S parts of M, N.
"""

import math

import torch
import torch.distributed as dist
from torch import Tensor

from hardviews.elastic.worker import advanced
from hardviews.progress import progress
from hardviews.world import World

_PART = 16384
_SPARE = 32  # candidates beyond K
# Test samples of a tile, which one process takes. Their products with a part of the training set are held at once.
_TILE = 256


def nearest(train_ND: Tensor, test_MD: Tensor, k: int, world: World, title: str = "") -> tuple[Tensor, Tensor]:
    """Return the cosine similarities (M, K), in double precision, and places (M, K) of the k nearest training samples.

    Sorted by similarity, the highest first. k is cut to N. Every rank calls this with all features and gets all
    neighbours; each computes some tiles of the test set. title: of the progress that is shown, if any.
    """
    k = min(k, len(train_ND))
    tiles = [range(start, min(len(test_MD), start + _TILE)) for start in range(0, len(test_MD), _TILE)]
    mine = tiles[world.rank :: world.size]
    similarity_MK = torch.zeros(len(test_MD), k, dtype=torch.double)
    place_MK = torch.zeros(len(test_MD), k, dtype=torch.long)
    scale_N = 1 / train_ND.double().norm(dim=1).clamp(min=1e-12) if len(train_ND) < _PART else _scales(train_ND)
    # All tiles of a group meet a part of the training set while it is on the device.
    for group in progress(_groups(mine), len(_groups(mine)), title, show=bool(title) and world.leads):
        rows = [row for tile in group for row in tile]
        advanced()
        found = _of_rows(train_ND, scale_N, test_MD[rows], k, world.device)
        similarity_MK[rows], place_MK[rows] = found
    if world.size > 1:
        for tensor in (similarity_MK, place_MK):
            on_device = tensor.to(world.device)
            dist.all_reduce(on_device)  # each row is zero everywhere but on one rank
            tensor.copy_(on_device)
    return similarity_MK, place_MK


def _groups(tiles: list[range]) -> list[list[range]]:
    return [tiles[start : start + 16] for start in range(0, len(tiles), 16)]


def _scales(train_ND: Tensor) -> Tensor:
    return torch.cat([1 / part.double().norm(dim=1).clamp(min=1e-12) for part in train_ND.split(_PART)])


def _of_rows(train_ND: Tensor, scale_N: Tensor, test_BD: Tensor, k: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Return the neighbours of some test samples."""
    unit_BD = test_BD.double()
    unit_BD = unit_BD / unit_BD.norm(dim=1, keepdim=True).clamp(min=1e-12)
    wanted = min(len(train_ND), k + _SPARE)
    found_BC = torch.full((len(test_BD), 0), -torch.inf, device=device)
    place_BC = torch.zeros(len(test_BD), 0, dtype=torch.long, device=device)
    query_BD = unit_BD.float().to(device)
    for start in range(0, len(train_ND), _PART):
        part_SD = (train_ND[start : start + _PART] * scale_N[start : start + _PART, None].float()).to(device)
        product_BS = query_BD @ part_SD.T
        score_BC, column_BC = product_BS.topk(min(wanted, len(part_SD)), dim=1)
        both_BC = torch.cat((found_BC, score_BC), dim=1)
        places_BC = torch.cat((place_BC, column_BC + start), dim=1)
        found_BC, kept_BC = both_BC.topk(min(wanted, both_BC.shape[1]), dim=1)
        place_BC = places_BC.gather(1, kept_BC)
    similarity_BK, place_BK = _ranked(train_ND, scale_N, unit_BD, place_BC.cpu(), k)
    if wanted < len(train_ND):
        # The candidates are enough unless one that was left out may be as near as the last that was taken.
        bound_B = found_BC[:, -1].cpu().double() + _error(train_ND.shape[1])
        for row in (similarity_BK[:, -1] <= bound_B).nonzero()[:, 0].tolist():
            everyone = torch.arange(len(train_ND))[None]
            similarity_BK[row], place_BK[row] = _ranked(train_ND, scale_N, unit_BD[row : row + 1], everyone, k)
    return similarity_BK, place_BK


def _ranked(train_ND: Tensor, scale_N: Tensor, unit_BD: Tensor, place_BC: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Return the k nearest of each row's candidates, by similarities that depend on the two samples alone."""
    place_BC = place_BC.sort(dim=1).values  # so that a stable sort breaks ties by the place
    similarity_BC = torch.empty(place_BC.shape, dtype=torch.double)
    step = max(1, 2**24 // max(1, unit_BD.shape[1]))
    for row, places_C in enumerate(place_BC):
        for start in range(0, len(places_C), step):
            some = places_C[start : start + step]
            products_CD = train_ND[some].double() * unit_BD[row]
            similarity_BC[row, start : start + step] = products_CD.sum(1) * scale_N[some]
    order_BC = similarity_BC.argsort(dim=1, descending=True, stable=True)[:, :k]
    return similarity_BC.gather(1, order_BC), place_BC.gather(1, order_BC)


def _error(width: int) -> float:
    """Return by how much a similarity in single precision may be wrong.

    Rounding errors of a sum of products of unit vectors grow with the root of their number; eight deviations.
    """
    return 8 * 6e-8 * math.sqrt(width)
