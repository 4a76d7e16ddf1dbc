"""Metrics of steps: sums over samples, added over ranks when they are logged."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor
from torch.nn.functional import normalize

from hardviews.collectives import gather_rows, rank, world_size
from hardviews.encoded import tensors_of
from hardviews.objective.losses import Losses
from hardviews.strategies.audit import with_recovered
from hardviews.train.chosen_pairs import chosen_pairs
from hardviews.views.plan import Pair


class Meter:
    """Means per sample of named quantities since the last report."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.sums: dict[str, Tensor] = {}
        self.counts: dict[str, int | Tensor] = {}
        self.by_rank: list[list[float]] = []
        """Every rank's own numbers at the last report."""

    def add(self, name: str, values: Tensor, among: Tensor | None = None) -> None:
        """Add one value per sample; if `among` is given, only the values for which it is true."""
        if among is not None:
            values = torch.where(among, values, 0.0)
        self.sums[name] = self.sums.get(name, torch.zeros((), device=self.device)) + values.float().sum()
        # A count on the device stays there until the report: to read it would wait for the device.
        self.counts[name] = self.counts.get(name, 0) + (values.numel() if among is None else among.sum())

    def add_losses(self, losses: Losses, pairs: Sequence[Pair]) -> None:
        """Add a forward pass: losses by term, hard views, hardness, chosen pairs, spread of the encodings."""
        for term, losses_B in losses.terms:
            self.add(f"loss/{term.name}", losses_B, losses.valid.get(term.name))
        if losses.regulariser is not None:
            self.add("loss/regulariser", losses.regulariser.expand(len(losses.batch)))
        for name, values in losses.measures.items():
            self.add(name, values, ~values.isnan())
        selection = losses.selecting.selection
        if selection is not None:
            hardness_AB = selection.hardness
            # For an image without a label all candidates are equally hard: nothing was chosen.
            chosen_B = None if hardness_AB is None else losses.labelled
            if hardness_AB is not None:  # chosen by the method's loss
                self.add("hardness/chosen", hardness_AB.gather(0, selection.choice[None]).squeeze(0), chosen_B)
                if selection.shared:
                    self.add("hardness/mean", hardness_AB.mean(0), chosen_B)
            measured = chosen_pairs(selection, pairs)
            if measured is not None:
                for name, contrast in (
                    ("overlap", measured.overlap),
                    ("centre_distance", measured.centre_distance),
                    ("colour_distance", measured.colour_distance),
                ):
                    self.add(f"{name}/chosen", contrast.chosen, chosen_B)
                    self.add(f"{name}/passed_over", contrast.passed_over, chosen_B)
                if measured.least is not None:
                    self.add("overlap/hardest_is_least", measured.least, chosen_B)
                    self.add("overlap/chance", measured.chance, chosen_B)
        # The embedding of the view is the first tensor that a method encodes.
        first = next(iter(tensors_of(next(iter(losses.encoded.online.values())))), None)
        group = losses.batch.group
        if isinstance(first, Tensor) and first.ndim == 2 and group > 1:
            # The variance of directions: 1 if they are spread evenly, 0 if all are equal. It is taken within groups,
            # which no rank boundary cuts.
            directions_NGD = normalize(first.detach().float(), dim=1).unflatten(0, (-1, group))
            self.add("spread", directions_NGD.var(1).sum(1))

    def report(self, mine: Sequence[float] = ()) -> dict[str, float]:
        """Return the means over all ranks and forget them; every rank calls this at the same step.

        `mine` are other numbers of this rank, equally many on every rank; they are gathered with the sums into
        `by_rank`.
        """
        means = {}
        tables, self.by_rank = self._gather(mine)
        for name, table in tables.items():
            total, count = table.sum(0).tolist()
            if count:
                means[name] = total / count
        self.sums, self.counts = {}, {}
        return with_recovered(means)

    def to_tensors(self) -> dict[str, Tensor]:
        """Return, by name, each rank's sum and count (ranks, 2) float64; every rank calls this at the same step."""
        return self._gather(())[0]

    def _gather(self, mine: Sequence[float]) -> tuple[dict[str, Tensor], list[list[float]]]:
        """Return the sums and counts by name, and every rank's own numbers."""
        names = sorted(self.sums)
        if not names:
            return {}, []
        own = [torch.tensor([number, 0.0], dtype=torch.float64, device=self.device) for number in mine]
        gathered, _ = gather_rows(torch.stack([*(self._row(name) for name in names), *own])[None])
        table = gathered.cpu()
        return {name: table[:, i] for i, name in enumerate(names)}, table[:, len(names) :, 0].tolist()

    def from_tensors(self, tensors: Mapping[str, Tensor]) -> None:
        """Restore the sums that `to_tensors` returned; if the number of ranks has changed, the first rank takes all."""
        for name, table in tensors.items():
            total = table.sum(0) if rank() == 0 else torch.zeros_like(table[0])
            row = table[rank()] if len(table) == world_size() else total
            self.sums[name] = row[0].to(self.device, torch.float32)
            self.counts[name] = int(row[1])

    def _row(self, name: str) -> Tensor:
        count = torch.tensor(float(self.counts[name]), dtype=torch.float64, device=self.device)
        return torch.stack([self.sums[name].double(), count])
