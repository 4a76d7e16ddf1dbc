"""The memory of a step: encodings by view, so that no view is encoded twice."""

from collections.abc import Iterable, Sequence
from typing import Any

from torch import Tensor

from hardviews.batch import Batch, View
from hardviews.encoded import Encoded, map_tensors
from hardviews.views.pixels import pick_rows
from hardviews.views.plan import Pair, Slot


class Encodings:
    """All encodings of a step so far, so that no view is encoded twice.

    Keys are views, which are equal only if they are the same object: a view at another size, or an attacked one, is
    another view. A target without a view, such as a row of a table, is stored by its slot.
    """

    def __init__(self) -> None:
        self.online: dict[View, Any] = {}
        self.target: dict[View | Slot, Any] = {}

    def add(self, batch: Batch, encoded: Encoded) -> None:
        """Store the encodings of a batch's clean views."""
        self.online.update((batch.views[slot], made) for slot, made in encoded.online.items())
        self.target.update((batch.views.get(slot, slot), made) for slot, made in encoded.target.items())

    def update(self, others: "Encodings") -> None:
        """Store other encodings too."""
        self.online.update(others.online)
        self.target.update(others.target)

    def take(self, others: "Encodings", batch: Batch, online: Sequence[Slot], target: Sequence[Slot]) -> None:
        """Copy online encodings of some views from others, and existing targets, without their graph."""
        made = [slot for slot in target if batch.views.get(slot, slot) in others.target]
        self.add(batch, others._at(batch, online, made).detached())

    def detach(self) -> None:
        """Keep the values of all encodings, without their graph."""
        self.online = {view: map_tensors(lambda tensor: tensor.detach(), made) for view, made in self.online.items()}
        self.target = {view: map_tensors(lambda tensor: tensor.detach(), made) for view, made in self.target.items()}

    def take_targets(self, others: "Encodings", batch: Batch, pairs: Sequence[Pair]) -> None:
        """Copy the targets of some pairs that other encodings have."""
        keys = (batch.views.get(slot, slot) for slot in self.missing(batch, pairs)[1])
        self.target.update((key, others.target[key]) for key in keys if key in others.target)

    def missing(self, batch: Batch, pairs: Sequence[Pair]) -> tuple[list[Slot], list[Slot]]:
        """Return the online and the target slots of some pairs that are not encoded yet."""
        online, target = _sides(pairs)
        return (
            [slot for slot in online if batch.views[slot] not in self.online],
            [slot for slot in target if batch.views.get(slot, slot) not in self.target],
        )

    def of(self, batch: Batch, pairs: Sequence[Pair]) -> Encoded:
        """Return the encodings of some pairs, all of which must be stored."""
        return self._at(batch, *_sides(pairs))

    def _at(self, batch: Batch, online: Iterable[Slot], target: Iterable[Slot]) -> Encoded:
        return Encoded(
            {slot: self.online[batch.views[slot]] for slot in online},
            {slot: self.target[batch.views.get(slot, slot)] for slot in target},
        )

    def pick_target(self, view: View, others: Sequence[View], choice_B: Tensor) -> None:
        """Store the target of a view whose row i is row i of others[choice[i]], if all their targets are stored."""
        made = [self.target[other] for other in others if other in self.target]
        if len(made) == len(others):
            self.target[view] = map_tensors(lambda *tensors: pick_rows(tensors, choice_B), *made)


def _sides(pairs: Sequence[Pair]) -> tuple[dict[Slot, None], dict[Slot, None]]:
    return dict.fromkeys(pair.online for pair in pairs), dict.fromkeys(pair.target for pair in pairs)
