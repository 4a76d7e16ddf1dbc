"""The load of the training data on its store and on the cache, over all ranks and workers, since the run began."""

from collections.abc import Iterable, Mapping

import torch

from hardviews.collectives import sum_over_ranks
from hardviews.data.counters import Counters
from hardviews.storage.url import local_path
from hardviews.train.loader import RawBatch

# Metric: field of Counters.
_METRICS = {
    "data/bytes_fetched": "received",
    "data/requests": "requests",
    "data/retries": "retries",
    "data/cache_hits": "hits",
    "data/cache_misses": "fetched",
    "data/cache_evictions": "evicted",
    "data/direct_reads": "direct",
}


class Traffic:
    """Sums the counters of batches; a dataset on local disk has no figures."""

    def __init__(self, data: str, rows: Iterable[Mapping[str, float]], device: torch.device) -> None:
        """Go on from the metrics of earlier lives, which lack the traffic after their last checkpoint.

        `data` is path or URL of the dataset.
        """
        self.remote, self.device = local_path(data) is None, device
        self._since = Counters()
        self._total = dict.fromkeys(_METRICS, 0.0)
        for row in rows:
            self._total.update({name: row[name] for name in _METRICS if name in row})

    def add(self, raws: Iterable[RawBatch]) -> None:
        """Add the cost of these batches on this rank."""
        for raw in raws:
            self._since = self._since + raw.counters

    def report(self) -> dict[str, float]:
        """Return the totals by metric; every rank calls this at the same step."""
        if not self.remote:
            return {}
        mine = [float(getattr(self._since, name)) for name in _METRICS.values()]
        self._since = Counters()
        added = sum_over_ranks(torch.tensor(mine, dtype=torch.float64, device=self.device)).tolist()
        for name, value in zip(_METRICS, added, strict=True):
            self._total[name] += value
        return dict(self._total)
