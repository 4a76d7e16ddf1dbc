"""What reading a dataset costs, counted."""

from dataclasses import dataclass, fields

from hardviews.data.shards import OpenShards


@dataclass
class Counters:
    """What reading cost.

    Attributes:
        samples: that were read.
        bytes: of these samples.
        requests: at a remote store, those that were repeated included.
        retries: requests that were repeated, and answers that held other bytes than those that were packed.
        received: bytes that came from a remote store.
        hits: shards that lay in the cache.
        fetched: shards that were copied into it.
        evicted: shards that made room there.
        direct: samples read from the store by themselves, since the cache had no room for their shard.
        corrupt: samples newly found bad.
        substituted: samples that others stood in for.
        wait: seconds waited for bytes.
    """

    samples: int = 0
    bytes: int = 0
    requests: int = 0
    retries: int = 0
    received: int = 0
    hits: int = 0
    fetched: int = 0
    evicted: int = 0
    direct: int = 0
    corrupt: int = 0
    substituted: int = 0
    wait: float = 0.0

    def __add__(self, other: "Counters") -> "Counters":
        return Counters(*(getattr(self, f.name) + getattr(other, f.name) for f in fields(self)))

    def __sub__(self, other: "Counters") -> "Counters":
        return Counters(*(getattr(self, f.name) - getattr(other, f.name) for f in fields(self)))


def told(shards: OpenShards) -> Counters:
    """What opening shards and reading ranges cost."""
    cost = Counters(direct=shards.ranges.count)
    if shards.cache is not None:
        counts = shards.cache.counts
        cost.requests, cost.received = shards.store.requests, shards.store.received
        cost.retries = shards.store.retries + counts.spoiled
        cost.hits, cost.fetched, cost.evicted = counts.hits, counts.fetched, counts.evicted
    return cost
