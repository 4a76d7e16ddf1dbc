"""Counts of the cost of reading a dataset."""

from dataclasses import dataclass, fields

from hardviews.data.shards import OpenShards


@dataclass
class Counters:
    """The cost of reading.

    Attributes:
        samples: number of samples read.
        bytes: size of these samples.
        requests: requests to a remote store, repeated ones included.
        retries: requests that were repeated, and answers with other bytes than the packed ones.
        received: bytes that came from a remote store.
        hits: shards found in the cache.
        fetched: shards that were copied into it.
        evicted: shards that made room there.
        direct: samples read one by one from the store, because the cache had no room for their shard.
        corrupt: samples newly found bad.
        substituted: samples replaced by others.
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


def cost_of(shards: OpenShards) -> Counters:
    """Return the cost of opening shards and reading ranges."""
    cost = Counters(direct=shards.ranges.count)
    if shards.cache is not None:
        counts = shards.cache.counts
        cost.requests, cost.received = shards.store.requests, shards.store.received
        cost.retries = shards.store.retries + counts.spoiled
        cost.hits, cost.fetched, cost.evicted = counts.hits, counts.fetched, counts.evicted
    return cost
