"""Corrupt samples, counted over all ranks: their bound holds for the dataset and not for each process.

Shape legend: N samples found corrupt.
"""

import logging
from collections.abc import Mapping

import torch
from torch import Tensor

from hardviews.collectives import gather_rows
from hardviews.data.index import Index
from hardviews.errors import UserError

logger = logging.getLogger(__name__)

_SHOWN = 5


class Damage:
    """The corrupt samples of a dataset, and the number of times that others replaced them."""

    def __init__(self, index: Index, most_corrupt: float) -> None:
        """Allow this share of the dataset to be corrupt, and one sample at least."""
        self.index, self.most_corrupt = index, most_corrupt
        self.allowed = max(1, int(most_corrupt * len(index)))
        self.found: set[int] = set()
        self.substituted = 0

    def add(self, mine: Mapping[int, str], device: torch.device) -> None:
        """Add the corrupt samples of a step from each rank, with reasons; if any rank has some, all ranks call this.

        Raises:
            UserError: more samples are corrupt than allowed; on every rank.
        """
        for reason in mine.values():
            logger.warning("corrupt, another one stands in: %s", reason)
        everybody, _ = gather_rows(torch.tensor(sorted(mine), dtype=torch.int64, device=device))
        self.found.update(everybody.tolist())
        if len(self.found) > self.allowed:
            listed = ", ".join(self._name(i) for i in sorted(self.found)[:_SHOWN])
            raise UserError(
                f"{len(self.found)} samples of {self.index.url!r} are corrupt, more than the {self.allowed} allowed "
                f"(loader.reader.most_corrupt = {self.most_corrupt:g} of {len(self.index)}): {listed}"
                f"{', ...' if len(self.found) > _SHOWN else ''}. Copy the shards again from a good copy, or pack the "
                "dataset again."
            )

    def _name(self, i: int) -> str:
        return f"sample {i} in {self.index.shards[int(self.index.samples['shard'][i])].name}"

    def metrics(self) -> dict[str, float]:
        """Return both counts since the run began."""
        return {"data/corrupt": float(len(self.found)), "data/substituted": float(self.substituted)}

    def to_tensor(self) -> Tensor:
        """Return the state (1 + N,) int64: the number of replacements, then the corrupt samples."""
        return torch.tensor([self.substituted, *sorted(self.found)], dtype=torch.int64)

    def from_tensor(self, tensor: Tensor) -> None:
        """Restore the state that `to_tensor` returned."""
        self.substituted, *found = tensor.tolist()
        self.found = set(found)
