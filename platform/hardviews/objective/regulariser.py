"""The part of a loss without a value for each sample, such as the variances of features over a batch."""

from collections.abc import Callable, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from hardviews.batch import Term
from hardviews.collectives import sum_over_ranks
from hardviews.encoded import Encoded
from hardviews.methods.method import Method
from hardviews.views.plan import of_kinds


def regularisers(method: Method, terms: Sequence[Term], encoded: Callable[[Term, int], Encoded]) -> list[Tensor]:
    """Return the regulariser of each term, a scalar over all ranks; an empty list if the method has none.

    It is computed from the term's clean views, not from its hard views. So a method's losses keep their balance under
    every strategy, and a hard view without strength has no effect. A term of several assignments has the mean over
    these. `encoded` returns a term's clean encodings, by the number of one of its assignments, 0 if it has none.
    """
    if not method.regularised:
        return []
    known: dict[object, Tensor] = {}  # terms of the same clean views share one
    found = []
    for term in terms:
        table = [()] if term.assignments is None else [tuple(row) for row in term.assignments.tolist()]
        pairs = of_kinds(method.pairs(), term.kinds)
        key = tuple(term.batch.views.values()), tuple(table), pairs
        if key not in known:
            clean = replace(term.batch, hard={}, mixes={})
            parts = []
            for number in range(len(table)):
                made = encoded(term, number)
                part = method.regulariser(clean, made.online, made.target, pairs)
                # In a sum of methods, all parts of a term may be without a regulariser.
                parts.append(torch.zeros((), device=next(method.parameters()).device) if part is None else part)
            known[key] = torch.stack(parts).mean()
        found.append(known[key])
    return found


def weighted_sum(terms: Sequence[Term], found: Sequence[Tensor], global_count: int) -> Tensor:
    """Return the regularisers of terms times their weights, times the micro-batch's share of the global batch."""
    total = torch.stack([term.weight * part for term, part in zip(terms, found, strict=True)]).sum()
    samples = sum_over_ranks(total.new_full((), len(terms[0].batch)))
    return total * (samples / global_count)
