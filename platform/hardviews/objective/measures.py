"""The effect of hard views on the pseudo-labels, computed from encodings that a step makes anyway.

If a method has scores of labels (`Method.scores`), a view is *taken for* the label with the highest score. Its *margin*
is its own label's score minus the best other score: the decision boundary lies at 0.

Shape legend: B samples of this rank's share, L labels, N samples of some pairs and terms.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from hardviews.batch import Batch, Term, View
from hardviews.encoded import Encoded
from hardviews.methods.method import Method
from hardviews.strategies.scorer import Scorer

MARGIN = "margin/"


@torch.no_grad()
def hard_measures(
    scorer: Scorer,
    method: Method,
    terms: Sequence[Term],
    clean: Callable[[Batch], Encoded],
    hard: Mapping[View, Any],
) -> dict[str, Tensor]:
    """Return by metric a value for every sample and pair of a hard view (N,), NaN for a sample without a label.

    Metrics of a sum of methods are named by the part: `0/flipped/TERM`. `flipped/TERM` is 1 if the view is taken for
    another label than its clean view, else 0. `margin/TERM` and `margin/clean` are margins. `attack/raised` is 1 if an
    attack raised the loss, else 0. `attack/strength` is the rise of the loss by an attack along the clean gradient,
    over the mean rise by the full attack. `clean` returns the encodings of a batch's clean views, `hard` the encodings
    of the online hard views.
    """
    found: dict[str, list[Tensor]] = {}
    scored: dict[tuple[Any, ...], tuple[Tensor, Tensor] | None] = {}
    for term in terms:
        batch = term.batch
        plain = replace(batch, hard={}, mixes={})
        trained = scorer.pairs_of(term)
        kinds = {pair.kind for pair in trained}
        if term.raised is not None:
            found.setdefault("attack/raised", []).append(_known(term.raised.float(), scorer.valid(batch, trained)))
        if term.strength is not None:
            found.setdefault("attack/strength", []).append(_known(term.strength, scorer.valid(batch, trained)))
        for pair in scorer.pairs:
            view = batch.hard.get(pair.online)
            if view is None or view not in hard or pair.kind not in kinds:
                continue
            part = f"{pair.part}/" if pair.part else ""
            known_B = scorer.valid(plain, [pair])
            encoded = clean(batch)
            key = pair, *(batch.views[slot] for slot in scorer.plan.slots)
            if key not in scored:
                scored[key] = before = method.scores(plain, encoded.online, encoded.target, pair)
                if before is not None:
                    found.setdefault(f"{part}{MARGIN}clean", []).append(_known(margins(*before), known_B))
            online = {**encoded.online, pair.online: hard[view]}
            before, after = scored[key], method.scores(batch, online, encoded.target, pair)
            if before is None or after is None:
                continue
            flipped_B = (after[0].argmax(1) != before[0].argmax(1)).float()
            found.setdefault(f"{part}flipped/{term.name}", []).append(_known(flipped_B, known_B))
            found.setdefault(f"{part}{MARGIN}{term.name}", []).append(_known(margins(*after), known_B))
    return {name: torch.cat(values) for name, values in found.items()}


@torch.no_grad()
def above_floor(
    scorer: Scorer, method: Method, term: Term, losses_B: Tensor, clean: Callable[[Batch], Encoded]
) -> Tensor | None:
    """Return a mixed term's losses (B,) minus the entropy of the mixed labels, their lower bound.

    The value is NaN for a sample without a label. Return None if nothing is mixed, or if the method has no lower bound.
    """
    batch = term.batch
    mixed = [pair for pair in scorer.pairs_of(term) if pair.online in batch.mixes]
    if not mixed or term.assignments is not None:
        return None
    target = clean(batch).target
    for pair in mixed:
        floor_B = method.mixed_floor(target, pair, batch.mixes[pair.online])
        if floor_B is None:
            return None
        valid_B = scorer.valid(batch, [pair])
        losses_B = losses_B - pair.weight * (floor_B if valid_B is None else torch.where(valid_B, floor_B, 0.0))
    return _known(losses_B, scorer.valid(batch, scorer.pairs_of(term)))


def margins(scores_BL: Tensor, own_B: Tensor) -> Tensor:
    """Return each row's own score minus the best other score (B,); missing labels (below 0) count as label 0."""
    own_B1 = own_B.clamp(min=0)[:, None]
    return (scores_BL.gather(1, own_B1) - scores_BL.scatter(1, own_B1, -torch.inf).amax(1, keepdim=True)).squeeze(1)


def _known(values_B: Tensor, known_B: Tensor | None) -> Tensor:
    return values_B if known_B is None else torch.where(known_B, values_B, torch.nan)
