"""The hardest local views for every choice of global views, found by sorting and not by listing choices.

A local view predicts targets of global views, and no view predicts it. So its part of the loss does not depend on the
other local views. For a choice of global views the hardest L of C local views are the views with the L largest parts.

Shape legend: A assignments, B samples, C candidates of a local pool, L its slots, S slots.
"""

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from hardviews.views.plan import Pair, Plan, Slot, is_ordered


def separable(plan: Plan, pairs: Sequence[Pair]) -> bool:
    """Return whether the parts of local views in the loss are independent summands."""
    local = [pool for pool in plan.pools if not pool.target]
    targets = {pair.target.pool for pair in pairs}
    return not any(pool.name in targets or is_ordered(pool.name, pool.slots, tuple(pairs)) for pool in local)


def covering(plan: Plan, table: Tensor) -> Tensor:
    """Return assignments (A', S) that join each local candidate with each choice of global views of a table (A, S)."""
    local = [pool for pool in plan.pools if not pool.target]
    portions = []
    for portion in range(max((math.ceil(pool.candidates / pool.slots) for pool in local), default=1)):
        rows = table.clone()
        for s, slot in enumerate(plan.slots):
            pool = plan.pool(slot.pool)
            if not pool.target:
                rows[:, s] = min(portion * pool.slots, pool.candidates - pool.slots) + slot.number
        portions.append(rows)
    return torch.cat(portions)


def best_locals(
    plan: Plan, pairs: Sequence[Pair], table: Tensor, losses: Mapping[Pair, Tensor], hardest: bool = True
) -> Tensor:
    """Return the assignments (A', S) that are the hardest (or easiest) of some sample, each once.

    `table` (A, S) holds the choices of global views, `losses` the loss (B,) of every pair of candidates.
    """
    sign = 1.0 if hardest else -1.0
    totals, numbers = [], []
    for assignment in table.tolist():
        number = dict(zip(plan.slots, assignment, strict=True))
        total_B, columns = torch.zeros_like(next(iter(losses.values()))), {}

        def part(pair: Pair, online: int, number: Mapping[Slot, int] = number) -> Tensor:
            target = pair.target._replace(number=number.get(pair.target, pair.target.number))
            return sign * pair.weight * losses[Pair(pair.online._replace(number=online), target, 1.0, pair.kind)]

        for pool in plan.pools:
            if pool.target:
                for pair in pairs:
                    if pair.online.pool == pool.name:
                        total_B = total_B + part(pair, number.get(pair.online, pair.online.number))
                columns.update({Slot(pool.name, i): number[Slot(pool.name, i)] for i in range(pool.slots)})
                continue
            of_one = [pair for pair in pairs if pair.online == Slot(pool.name, 0)]
            parts = [sum((part(pair, k) for pair in of_one), torch.zeros_like(total_B)) for k in range(pool.candidates)]
            best_LB = torch.stack(parts).topk(pool.slots, dim=0)
            total_B = total_B + best_LB.values.sum(0)
            chosen_LB = best_LB.indices.sort(0).values
            columns.update({Slot(pool.name, i): chosen_LB[i] for i in range(pool.slots)})
        totals.append(total_B)
        full = [torch.as_tensor(columns[slot], device=total_B.device).expand(len(total_B)) for slot in plan.slots]
        numbers.append(torch.stack(full, dim=1))
    choice_B = torch.stack(totals).argmax(0)
    chosen_BS = torch.stack(numbers)[choice_B, torch.arange(len(choice_B), device=choice_B.device)]
    once: Tensor = chosen_BS.unique(dim=0)
    return once.cpu()
