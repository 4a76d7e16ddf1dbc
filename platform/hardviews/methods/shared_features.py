"""One forward pass of the backbone for all methods that use a view.

Shape legend: B samples of this rank, F features of the backbone.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import NamedTuple

from torch import Tensor, nn

from hardviews.batch import Batch, View
from hardviews.encoded import Encoded
from hardviews.methods.method import Method
from hardviews.views.pixels import Pixels, pick_rows
from hardviews.views.plan import Slot


class Request(NamedTuple):
    """A method, a batch by its own names of slots, and the slots to encode on each side."""

    method: Method
    batch: Batch
    online: Sequence[Slot]
    target: Sequence[Slot]

    def trained_views(self) -> list[View]:
        """Return the views of the trained network, each once."""
        views = [self.batch.online(slot) for slot in self.online]
        if self.method.teacher is None:
            views += [self.batch.views[slot] for slot in self.target if slot in self.batch.views]
        return list(dict.fromkeys(views))


@dataclass(frozen=True, eq=False)
class Features:
    """Features (B, F) in place of pixels, for a method whose backbone pass is done already."""

    tensor: Tensor

    def pixels(self, size: int | None = None) -> Tensor:
        """Return the features."""
        return self.tensor

    def pick(self, others: Sequence[Pixels], choice: Tensor) -> "Features":
        """Gather rows."""
        return Features(pick_rows([other.tensor for other in others if isinstance(other, Features)], choice))

    def geometry(self) -> "Features":
        """Return the features, which have no colours to leave out."""
        return self


def encode_all(requests: Sequence[Request]) -> list[Encoded]:
    """Return the encodings of every request, with one pass of the backbone for each view.

    If several methods use a view, one of them makes its features: a method with its own normalisation if there is one,
    else the first method. So the sum does not depend on the order of its parts.
    """
    wanted = [request.trained_views() if request.method.shares_features else [] for request in requests]
    looked_at = Counter(view for views in wanted for view in views)
    features: dict[View, Tensor] = {}
    found: dict[int, Encoded] = {}
    for i in sorted(range(len(requests)), key=lambda i: not requests[i].method.own_normalisation):
        method, batch, online, target = request = requests[i]
        if all(looked_at[view] == 1 for view in wanted[i]):
            found[i] = method.encode(batch, online, target)
            continue
        missing = [view for view in wanted[i] if view not in features]
        if missing:
            features.update(method.features(batch, missing))
        with _without_backbone(method):
            found[i] = method.encode(_handed_over(request, features), online, target)
    return [found[i] for i in range(len(requests))]


def _handed_over(request: Request, features: dict[View, Tensor]) -> Batch:
    """Return the batch with features in place of the pixels of trained views; a teacher still sees pixels."""
    batch = request.batch
    handed = {view: replace(view, source=Features(features[view]), size=None) for view in request.trained_views()}
    views = dict(batch.views)
    if request.method.teacher is None:
        views = {slot: handed.get(view, view) for slot, view in views.items()}
    return replace(batch, views=views, hard={slot: handed[batch.online(slot)] for slot in request.online})


@contextmanager
def _without_backbone(method: Method) -> Iterator[None]:
    """Let the method's backbone return its input, during the block."""
    backbone, _ = method.backbone, method.by_row  # `by_row` is cached, and must be read of the whole method
    method.backbone = nn.Identity()
    try:
        yield
    finally:
        method.backbone = backbone
