"""Weighted k-nearest-neighbour classification of frozen features.

Protocol of DINO (Caron et al. 2021, section 4.1; after Wu et al. 2018): features scaled to length 1, each of
the k most similar training samples votes for its class with weight exp(similarity / 0.07).

Shape suffixes: N training samples, M test samples, K neighbours, L classes, D features; B, S parts of M, N.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from hardviews.checked import OPTION, above, at_least, each, require
from hardviews.evaluation.features import Features
from hardviews.evaluation.protocol import Announce, Evaluation, Result, Scores, evaluate, silent, top


@dataclass(frozen=True)
class Knn(Evaluation):
    """How to score an encoder by its neighbours.

    Attributes:
        neighbours: the numbers of neighbours to report, cut to the number of training samples.
        temperature: of the votes.
    """

    neighbours: tuple[int, ...] = (10, 20, 100, 200)
    temperature: float = 0.07

    def __post_init__(self) -> None:
        """Refuse neighbourhoods without a neighbour, and temperatures that divide nothing."""
        super().__post_init__()
        require(self, OPTION, neighbours=each(at_least(1)), temperature=above(0))


def evaluate_knn(config: Knn, announce: Announce = silent) -> Result:
    """Score an encoder (and, on request, its baselines) by k-NN; log a child run of its pretraining run.

    Metrics: `knn_top1_k20` and so on, in per cent.
    """

    def score(train: Features, test: Features, classes: int, device: torch.device) -> Scores:
        votes = knn_votes(train, test, config.neighbours, config.temperature, classes=classes, device=device)
        metrics = {metric(k): top(1, votes_ML, test.labels_N) for k, votes_ML in votes.items()}
        headings = {metric(k): heading(k) for k in votes}
        # DINO's usual k, or the nearest to it among those asked for.
        chosen = min(votes, key=lambda k: abs(k - 20))
        return Scores(metrics, headings, votes[chosen].argmax(1), f"k-NN, k = {chosen}")

    return evaluate(config, "knn", score, announce)


def metric(k: int) -> str:
    """Return the name of the accuracy of k neighbours."""
    return f"knn_top1_k{k}"


def heading(k: int) -> str:
    """Return its heading in a table."""
    return f"k-NN\nk={k}"


def knn_votes(
    train: Features,
    test: Features,
    neighbours: Sequence[int],
    temperature: float = 0.07,
    *,
    classes: int,
    device: torch.device | str = "cpu",
    part: int = 16384,
) -> dict[int, Tensor]:
    """Return the votes (M, L) for each number of neighbours (cut to N), on the host.

    A test sample's votes are scaled so that its nearest neighbour has one: exp of low temperatures has no bound.
    The similarities are never held at once: parts of the training set (S rows each, moved to the device once)
    meet parts of the test set.
    """
    counts = sorted({min(k, len(train)) for k in neighbours})
    most = counts[-1]
    test_MD = F.normalize(test.values_ND.to(device), dim=1)
    similarity_MK = torch.full((len(test), most), -torch.inf, device=device)
    label_MK = torch.zeros(len(test), most, dtype=torch.long, device=device)
    rows = max(1, 2**26 // part)
    for start in range(0, len(train), part):
        train_SD = F.normalize(train.values_ND[start : start + part].to(device), dim=1)
        labels_S = train.labels_N[start : start + part].to(device)
        for row in range(0, len(test), rows):
            here = slice(row, row + rows)
            found_BK, where_BK = (test_MD[here] @ train_SD.T).topk(min(most, len(train_SD)), dim=1)
            both_BK = torch.cat((similarity_MK[here], found_BK), dim=1)
            labels_BK = torch.cat((label_MK[here], labels_S[where_BK]), dim=1)
            similarity_MK[here], kept_BK = both_BK.topk(most, dim=1)
            label_MK[here] = labels_BK.gather(1, kept_BK)
    behind_MK = (similarity_MK[:, :1] - similarity_MK).double()  # sorted: the first is the nearest
    weight_MK = (-behind_MK / temperature).exp().float()
    votes = {}
    for k in counts:
        votes_ML = torch.zeros(len(test), classes, device=device)
        votes[k] = votes_ML.scatter_add_(1, label_MK[:, :k], weight_MK[:, :k]).cpu()
    return votes
