"""The plan of several methods: names of their slots in it, and their common pools."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeVar

from hardviews.views.plan import Pair, Plan, Pool, Slot

T = TypeVar("T")

_BETWEEN = "/"


@dataclass(frozen=True)
class PartNames:
    """Names of a part's slots, pairs and kinds in the sum: its number, a slash, its own name.

    A pool that the part has in common with an earlier part has the name of that part's pool.

    Attributes:
        number: number of the part, from 0.
        pools: name in the sum of each of the part's pools.
    """

    number: int
    pools: Mapping[str, str]
    _own: Mapping[str, str] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        """Invert the mapping of names."""
        object.__setattr__(self, "_own", {name: own for own, name in self.pools.items()})

    def slot(self, own: Slot) -> Slot:
        """Return the name in the sum of a slot, or of a row of a table."""
        return Slot(self.pools.get(own.pool, f"{self.number}{_BETWEEN}{own.pool}"), own.number)

    def pair(self, own: Pair, weight: float) -> Pair:
        """Return a pair in the sum, its weight multiplied."""
        kind = f"{self.number}{_BETWEEN}{own.kind}"
        return Pair(self.slot(own.online), self.slot(own.target), weight * own.weight, kind)

    def own(self, slot: Slot) -> Slot | None:
        """Return the part's own name of a slot; None if it has none."""
        if slot.pool in self._own:
            return Slot(self._own[slot.pool], slot.number)
        # A table is in no plan.
        number, _, name = slot.pool.partition(_BETWEEN)
        return Slot(name, slot.number) if number == str(self.number) and name not in self.pools else None

    def own_pair(self, pair: Pair) -> Pair:
        """Return the part's own name of one of its pairs."""
        online, target = self.own(pair.online), self.own(pair.target)
        assert online is not None and target is not None
        return replace(pair, online=online, target=target, kind=split(pair.kind)[1])

    def own_side(self, side: Mapping[Slot, T]) -> dict[Slot, T]:
        """Return the values of the part's slots, by their own names."""
        return {own: value for slot, value in side.items() if (own := self.own(slot)) is not None}


def split(kind: str) -> tuple[int, str]:
    """Return the number of the part that a kind of pair belongs to, and the part's own name of that kind."""
    number, _, own = kind.partition(_BETWEEN)
    return int(number), own


def joined(plans: Mapping[int, Plan], share: bool, masking: Sequence[int] = ()) -> tuple[Plan, dict[int, PartNames]]:
    """Return the plan of several parts, and the names in it of each part.

    `plans` are the plans of the parts, by number. With `share`, a pool with the same distribution as an earlier part's
    pool is that pool, which then has slots for both. `masking` are the parts that mask patches: two of them never have
    a pool in common, since a view has one mask.
    """
    pools: list[Pool] = []
    owners: list[list[int]] = []
    names = {}
    for number, plan in plans.items():
        own: dict[str, str] = {}
        for pool in plan.pools:
            alike = (
                i
                for i, other in enumerate(pools)
                if share
                and number not in owners[i]
                and (other.augmentation, other.target) == (pool.augmentation, pool.target)
                and not (number in masking and set(owners[i]) & set(masking))
            )
            place = next(alike, len(pools))
            if place == len(pools):
                pools.append(Pool(f"{number}{_BETWEEN}{pool.name}", pool.slots, pool.augmentation, pool.target))
                owners.append([])
            slots = max(pools[place].slots, pool.slots)
            pools[place] = replace(pools[place], slots=slots, candidates=slots)
            owners[place].append(number)
            own[pool.name] = pools[place].name
        names[number] = PartNames(number, own)
    return Plan(tuple(pools)), names
