"""A step's views through the method's networks: each clean view once for all terms.

Shape legend: B samples of this rank's share.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from hardviews.batch import Batch, View
from hardviews.encoded import Encoded
from hardviews.full_precision import full_precision
from hardviews.methods.method import Method
from hardviews.models.batchnorm import holding, normalising
from hardviews.models.held import HeldStatistics
from hardviews.models.noise import without_noise
from hardviews.objective.encodings import Encodings
from hardviews.views.pixels import Crops
from hardviews.views.plan import Pair, Slot


class Step:
    """The encodings of one step.

    `trained` are the encodings of clean views, with their graph. `noted` are the encodings of scored candidates and
    hard views, without graph. Outside of training (`training=False`) no running statistics move.
    """

    def __init__(self, method: Method, *, training: bool = True) -> None:
        self.method = method
        self.training = training
        self.trained, self.noted = Encodings(), Encodings()
        # Pixels (B, 3, H, W) of clean views whose gradient is read, and the views that were encoded before them.
        self._leaves: dict[View, Tensor] = {}
        self._encoded_before: set[View] = set()

    def clean(self, batch: Batch, pairs: Sequence[Pair]) -> Encoded:
        """Return the encodings of the clean views of some pairs."""
        if self.method.rowwise_targets:
            self.trained.take_targets(self.noted, batch, pairs)
        if not any(self.trained.missing(batch, pairs)):
            return self.trained.of(batch, pairs)
        with normalising(self.method, "main", update=self.training):
            return self.encode(self.trained, replace(batch, hard={}, mixes={}), pairs)

    def encode(self, memory: Encodings, batch: Batch, pairs: Sequence[Pair]) -> Encoded:
        """Return the encodings of some pairs, from a memory if it has them."""
        online, target = memory.missing(batch, pairs)
        if online or target:
            seen = {slot: self._as_leaf(view) for slot, view in batch.views.items()} if self._leaves else batch.views
            memory.add(batch, self.method.encode(replace(batch, views=seen), online, target))
        return memory.of(batch, pairs)

    def hard(self, batch: Batch, *, attack: bool) -> Mapping[Slot, Any]:
        """Return the online encodings of a batch's hard views.

        In an attack no running statistics move, stochastic layers are off, and BatchNorm's statistics are held
        constant: the statistics stored with a view, else its own.
        """
        found: dict[Slot, Any] = {}
        for slots, view in self._alike(batch.hard):
            update = view.branch == "adversarial" and not attack
            with (
                normalising(self.method, view.branch, update),
                without_noise(self.method) if attack else nullcontext(),
                holding(self.method, view.statistics or HeldStatistics()) if attack else nullcontext(),
            ):
                made = self.method.encode(batch, slots, [])
            if not attack:
                detached = made.detached().online
                self.noted.online.update((batch.hard[slot], detached[slot]) for slot in slots)
            found.update(made.online)
        return found

    def _alike(self, hard: Mapping[Slot, View]) -> list[tuple[list[Slot], View]]:
        """Return the lists of hard views that may be encoded in one call, each with one of its views."""
        if self.method.by_row and hard:
            return [(list(hard), next(iter(hard.values())))]  # no BatchNorm: they have no branch and no statistics
        return [([slot], view) for slot, view in hard.items()]

    def kept(self, batch: Batch, pairs: Sequence[Pair], slots: Collection[Slot]) -> Encodings:
        """Return a memory with the encodings of some slots, made for training; empty outside of training.

        Targets of the trained network are made at the same time: separately, they would need another pass of the same
        views.
        """
        scored = Encodings()
        if not self.training:
            return scored
        online, target = (
            list(dict.fromkeys(getattr(pair, side) for pair in pairs if getattr(pair, side) in slots))
            for side in ("online", "target")
        )
        missing = [slot for slot in online if batch.views[slot] not in self.trained.online]
        if missing:
            with normalising(self.method, "main", update=True):
                made = self.method.encode(batch, missing, [slot for slot in target if slot in missing])
            self.trained.add(batch, made)
        scored.take(self.trained, batch, online, target)
        return scored

    def picked(self, view: View, others: Sequence[View], choice_B: Tensor) -> None:
        """Note that row i of a view is row i of others[choice[i]]: scored targets that are valid by row are reused."""
        if self.method.rowwise_targets:
            self.noted.pick_target(view, others, choice_B)

    def leaf(self, view: View) -> Tensor:
        """Return the pixels of a clean view as a leaf of the graph; later encodings of the view use it."""
        if view not in self._leaves:
            self._leaves[view] = full_precision(view.pixels().detach()).requires_grad_()
            if view in self.trained.online:
                self._encoded_before.add(view)
        return self._leaves[view]

    def misses_leaf(self, view: View) -> bool:
        """Return whether the encoding of a view was made before its leaf, so that no gradient reaches the leaf."""
        return view in self._encoded_before

    def _as_leaf(self, view: View) -> View:
        leaf = self._leaves.get(view)
        return view if leaf is None else replace(view, source=Crops(leaf, view.normalisation), size=None)


@contextmanager
def traceless(method: Method, move_statistics: bool = False) -> Iterator[None]:
    """Encode without side effects during the block: no graph, no random draws, no statistics unless requested."""
    device = next(method.parameters()).device
    with (
        torch.no_grad(),
        torch.random.fork_rng([device] if device.type == "cuda" else []),
        normalising(method, "main", move_statistics),
    ):
        yield
