"""RankMe: how many directions features fill.

Garrido et al., "RankMe: Assessing the Downstream Performance of Pretrained Self-Supervised Representations by Their
Rank" (ICML 2023, arXiv 2210.02885), equations 1 and 2.

Shape legend: N samples, D features.
"""

from torch import Tensor

from hardviews.health.spectrum import entropy_rank, singular_values

_EPSILON = 1e-7


def rankme(values_ND: Tensor) -> float:
    """Return the effective rank of uncentred features, from 1 to min(N, D).

    It is the exponential of the entropy of the singular values. Compare it between runs of one method only.
    """
    return entropy_rank(singular_values(values_ND), _EPSILON)
