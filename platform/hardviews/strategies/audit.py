"""Audits of a choice: a comparison of the chosen views with the views that the full loss would have chosen.

In some steps the exact scores of the same candidates are made too: at full size, by the method's whole loss, without
gradient and without side effects. The step trains on the same views as without an audit, bit for bit.

Shape legend: A assignments, B samples.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from hardviews.batch import Selection, Term
from hardviews.strategies.scorer import Scorer

AGREEMENT, CORRELATION, RECOVERED = (f"selection/{name}" for name in ("agreement", "rank_correlation", "recovered"))
_GAIN, _MOST = "selection/gain", "selection/possible_gain"


def marked(term: Term) -> Term:
    """Return a term marked for an audit of its choice of views."""
    selection = term.batch.selection
    if selection is None or not selection.shared:
        return term
    return replace(term, batch=replace(term.batch, selection=replace(selection, audited=True)))


@torch.no_grad()
def audit(scorer: Scorer, terms: Sequence[Term]) -> dict[str, Tensor]:
    """Return by metric a value for every sample (B,) of the first choice with a mark; empty without one.

    NaN if a sample has no label, or if its candidates cannot be ranked.
    """
    for term in terms:
        selection = term.batch.selection
        if selection is not None and selection.audited:
            drawn = replace(term.batch, views=selection.views, hard={}, mixes={}, selection=None)
            found = compared(selection, scorer.score(drawn, selection.table))
            valid_B = scorer.valid(drawn)
            if valid_B is None:
                return found
            return {name: torch.where(valid_B, values_B, torch.nan) for name, values_B in found.items()}
    return {}


def compared(selection: Selection, exact_AB: Tensor) -> dict[str, Tensor]:
    """Compare a choice with the exact hardness of all assignments."""
    chosen_B = exact_AB.gather(0, selection.choice[None]).squeeze(0)
    mean_B, hardest_B = exact_AB.mean(0), exact_AB.amax(0)
    found = {
        AGREEMENT: (chosen_B >= hardest_B).float(),
        _GAIN: chosen_B - mean_B,
        _MOST: hardest_B - mean_B,
    }
    scores_AB = selection.hardness if selection.scores is None else selection.scores
    if scores_AB is not None:
        found[CORRELATION] = rank_correlation(scores_AB, exact_AB)
    return found


def rank_correlation(a_AB: Tensor, b_AB: Tensor) -> Tensor:
    """Return Spearman's rank correlation (B,) of two scores of assignments; ties share the mean of their ranks."""
    a, b = (ranks - ranks.mean(0) for ranks in (_ranks(a_AB), _ranks(b_AB)))
    correlation_B: Tensor = (a * b).sum(0) / ((a * a).sum(0) * (b * b).sum(0)).sqrt()
    return correlation_B


def with_recovered(means: Mapping[str, float]) -> dict[str, float]:
    """Return means over samples together with the share of hardness recovered: a ratio of means, not a mean of ratios.

    The share is (exact loss of the chosen views - mean of all) / (loss of the hardest views - mean of all).
    """
    if means.get(_MOST, 0.0) > 0:
        return {**means, RECOVERED: means[_GAIN] / means[_MOST]}
    return dict(means)


def _ranks(scores_AB: Tensor) -> Tensor:
    rows_BA = scores_AB.double().T.contiguous()
    sorted_BA = rows_BA.sort(1).values
    return (torch.searchsorted(sorted_BA, rows_BA) + torch.searchsorted(sorted_BA, rows_BA, right=True)).double().T / 2
